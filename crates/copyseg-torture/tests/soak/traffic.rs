//! Who uses the manager: planners, workers good and bad, and operators.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    Claim, Job, JobAction, JobFilter, JobId, JobState, NewJob, NewTask, NodeId, SegmentId, SegmentPair,
    TaskFilter, TaskId, TaskState,
};
use tokio::time::sleep;

use crate::ground::{Actors, Ground, Stage};

const WORKERS: i64 = 16;

/// How many jobs are active at once, and how many ended ones are kept.
const JOBS: usize = 40;

/// How long a worker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(2);

pub(crate) fn spawn(ground: &Arc<Ground>, actors: &mut Actors) {
    for node in 0..WORKERS {
        actors.spawn(work(Arc::clone(ground), NodeId(node)));
    }
    actors.spawn(plan(Arc::clone(ground)));
    actors.spawn(finish(Arc::clone(ground)));
    actors.spawn(cancel(Arc::clone(ground)));
    actors.spawn(take_back(Arc::clone(ground)));
    actors.spawn(work_in_transactions(Arc::clone(ground)));
}

async fn pause(random: &mut fastrand::Rng, most_ms: u64) {
    sleep(Duration::from_millis(random.u64(1..=most_ms))).await;
}

fn jobs_in(ground: &Ground, states: &[JobState]) -> Vec<Arc<Job>> {
    ground.manager.list_jobs(&JobFilter::new().states(states.iter().copied())).unwrap()
}

/// Adds jobs of all sizes, some larger than one batch of etcd, and removes old ones.
async fn plan(ground: Arc<Ground>) {
    let mut random = ground.random();
    let mut segments = 0..;
    let mut task = |count: usize| {
        let pair = |id| SegmentPair { bytes: 1 << 20, ..SegmentPair::new(SegmentId(id), SegmentId(-id)) };
        NewTask::new(segments.by_ref().take(count).map(pair))
    };
    while ground.stage() == Stage::Busy {
        if jobs_in(&ground, &[JobState::Pending, JobState::Executing]).len() < JOBS {
            let tasks = if random.u8(..) < 4 { random.usize(200..400) } else { random.usize(1..=20) };
            let tasks: Vec<_> = (0..tasks).map(|_| task(random.usize(1..=4))).collect();
            let late = random.bool().then(|| task(1));
            let held: usize = tasks.iter().map(|task| task.segments.len()).sum();
            let whole = held + usize::from(late.is_some());
            let job = NewJob { segments: Some(whole as u64), ..NewJob::default() };
            let add = || ground.manager.add_job(job.clone(), tasks.clone());
            let id = ground.ask("jobs added", add).await.unwrap();
            if let Some(task) = late {
                ground.ask("tasks added later", || ground.manager.add_task(id, task.clone())).await;
            }
        }
        let ended = jobs_in(&ground, &[JobState::Completed, JobState::Failed, JobState::Cancelled]);
        if ended.len() > JOBS {
            let old = ended[random.usize(..ended.len())].id;
            assert_eq!(ground.ask("jobs removed", || ground.manager.remove_job(old)).await, Some(true));
        }
        pause(&mut random, 10).await;
    }
}

/// Claims tasks and completes most of them. The others it fails, gives back, or forgets.
async fn work(ground: Arc<Ground>, node: NodeId) {
    let mut random = ground.random();
    let manager = &ground.manager;
    while ground.stage() != Stage::Over {
        pause(&mut random, 20).await;
        let pending = TaskFilter::new().states([TaskState::Pending]).limit(200);
        let pending: Vec<TaskId> = manager.list_tasks(&pending).unwrap().iter().map(|task| task.id).collect();
        let Some(task) = random.choice(pending) else { continue };
        let Some(claim) = ground.ask("claims", || manager.claim_task(task, node)).await else { continue };
        pause(&mut random, 10).await;
        let fate = if ground.stage() == Stage::Busy { random.u8(..100) } else { 100 };
        match fate {
            0..2 => ground.count("claims forgotten"),
            2..4 => drop(ground.ask("tasks failed", || manager.fail_task(claim, "a test")).await),
            4..12 => give_back(&ground, claim).await,
            _ => {
                // The claim may have been taken back, after a silence.
                let _ = manager.heartbeat(claim);
                let completed = ground.ask("tasks completed", || manager.complete_task(claim)).await;
                if completed.is_some() && random.bool() {
                    ground.ask("reports repeated", || manager.complete_task(claim)).await;
                }
            }
        }
    }
}

async fn give_back(ground: &Ground, claim: Claim) {
    let released = ground.ask("tasks released", || ground.manager.release_task(claim, "a test")).await;
    if released.is_some() {
        let late = ground.ask("stale reports taken", || ground.manager.complete_task(claim)).await;
        assert!(late.is_none(), "{claim} was over");
        ground.count("stale reports refused");
    }
}

/// Claims and completes several tasks at once.
async fn work_in_transactions(ground: Arc<Ground>) {
    let mut random = ground.random();
    while ground.stage() != Stage::Over {
        let pending = TaskFilter::new().states([TaskState::Pending]).limit(random.usize(1..10));
        let together = || {
            ground.manager.transact(|txn| {
                let tasks: Vec<TaskId> = txn.snapshot().tasks(&pending).map(|task| task.id).collect();
                for &task in &tasks {
                    let claim = txn.claim_task(task, NodeId(WORKERS))?;
                    txn.complete_task(claim)?;
                }
                Ok(())
            })
        };
        ground.ask("transactions of several tasks", together).await;
        pause(&mut random, 50).await;
    }
}

/// Brings jobs to their end: published once all is copied, failed once a task has failed.
async fn finish(ground: Arc<Ground>) {
    let move_to = async |job: JobId, state| {
        ground.ask("jobs moved on", || ground.manager.update_job(job, [JobAction::State(state)])).await;
    };
    while ground.stage() != Stage::Over {
        for job in jobs_in(&ground, &[JobState::Executing, JobState::Publishing]) {
            let Some(progress) = ground.manager.snapshot().unwrap().progress(job.id) else { continue };
            if progress.tasks.get(TaskState::Failed) > 0 {
                ground.ask("jobs failed", || ground.manager.fail_job(job.id, "a task failed")).await;
            } else if progress.segments.get(TaskState::Completed) == job.segments {
                if job.state == JobState::Executing {
                    move_to(job.id, JobState::Publishing).await;
                }
                move_to(job.id, JobState::Completed).await;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn cancel(ground: Arc<Ground>) {
    let mut random = ground.random();
    while ground.stage() == Stage::Busy {
        pause(&mut random, 500).await;
        if let Some(job) = random.choice(jobs_in(&ground, &[JobState::Pending, JobState::Executing])) {
            ground.ask("jobs cancelled", || ground.manager.cancel_job(job.id, "a test")).await;
        }
    }
}

/// Takes tasks back from workers that are silent, and now and then from one that is not.
async fn take_back(ground: Arc<Ground>) {
    let mut random = ground.random();
    let manager = &ground.manager;
    while ground.stage() != Stage::Over {
        sleep(Duration::from_millis(100)).await;
        for claim in manager.silent_claims(SILENCE_MAX).unwrap() {
            ground.ask("silent claims taken back", || manager.release_task(claim, "silent")).await;
        }
        if ground.stage() == Stage::Busy && random.u8(..) < 8 {
            let node = NodeId(random.i64(0..WORKERS));
            ground.ask("nodes given up", || manager.reassign_node(node, "a test")).await;
        }
    }
}
