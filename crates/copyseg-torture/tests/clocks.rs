//! A wall clock that steps back and forth by hours changes no promise; deadlines, heartbeats and retention keep to
//! what is documented of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{
    Clock, JobFilter, JobId, JobState, ManagerOptions, ManualClock, MemoryCatalog, MetaManager, NewJob,
    NewTask, NodeId, SegmentId, SegmentPair, Timestamp,
};
use copyseg_restore::{
    Assignment, CancellationToken, CopyWorker, Failure, Outcome, RestoreProgress, RestoreRequest, Worker,
    collect_garbage, restore_with,
};
use copyseg_torture::{Backend, Trial, follow, program_of_jumps, run};
use tokio::sync::watch;

const START: Timestamp = Timestamp::from_millis(1_760_000_000_000);
const HOUR: u64 = 3_600_000;

/// Steps the wall clock to anywhere within so many hours of the start.
fn jump(clock: &ManualClock, random: &mut fastrand::Rng, hours: u64) {
    let earliest = START.as_millis() - hours * HOUR;
    clock.set(Timestamp::from_millis(earliest + random.u64(..2 * hours * HOUR)));
}

async fn open(catalog: &MemoryCatalog, clock: &ManualClock) -> MetaManager {
    let options = ManagerOptions { clock: Arc::new(clock.clone()), ..ManagerOptions::default() };
    MetaManager::open(Arc::new(catalog.clone()), options).await.unwrap()
}

#[test]
fn a_clock_that_jumps_before_every_step_changes_no_promise() {
    let mut trial = Trial::new("a_clock_that_jumps_before_every_step_changes_no_promise", 20);
    while let Some(mut round) = trial.round() {
        follow(&mut round, &Backend::Memory, program_of_jumps(60, 48));
    }
}

/// A worker falls silent by the time that has passed, wherever the wall clock stands, and a restart gives it its whole
/// time again.
#[test]
fn a_clock_that_jumps_makes_no_worker_silent_and_keeps_none_alive() {
    let mut trial = Trial::new("a_clock_that_jumps_makes_no_worker_silent_and_keeps_none_alive", 50);
    while let Some(mut round) = trial.round() {
        let mut random = fastrand::Rng::with_seed(round.seed());
        round.count("silences", run(true, silences(&mut random)));
    }
}

async fn silences(random: &mut fastrand::Rng) -> u64 {
    let (catalog, clock) = (MemoryCatalog::new(), ManualClock::at(START));
    let mut manager = open(&catalog, &clock).await;
    let task = NewTask::new([SegmentPair::new(SegmentId(1), SegmentId(2))]);
    let job = manager.add_job(NewJob::default(), vec![task]).await.unwrap();
    let id = manager.tasks_of_job(job).unwrap()[0].id;
    let claim = manager.claim_task(id, NodeId(1)).await.unwrap();
    let (timeout, mut unheard, mut silences) = (Duration::from_secs(60), Duration::ZERO, 0);
    for _ in 0..100 {
        jump(&clock, random, 48);
        let passed = Duration::from_secs(random.u64(..40));
        clock.advance(passed);
        unheard += passed;
        let silent = manager.silent_claims(timeout).unwrap();
        assert_eq!(silent.len(), usize::from(unheard >= timeout), "not heard of for {unheard:?}");
        silences += silent.len() as u64;
        match random.u8(..10) {
            0..4 => manager.heartbeat(claim).unwrap(),
            4 => manager = open(&catalog, &clock).await,
            _ => continue,
        }
        unheard = Duration::ZERO;
    }
    silences
}

/// Retention goes by the wall clock as it stands, and never takes a job that has not ended.
#[test]
fn retention_removes_what_ended_long_enough_ago_by_the_clock_as_it_stands() {
    let mut trial = Trial::new("retention_removes_what_ended_long_enough_ago_by_the_clock_as_it_stands", 50);
    while let Some(mut round) = trial.round() {
        let mut random = fastrand::Rng::with_seed(round.seed());
        round.count("jobs removed", run(true, retention(&mut random)));
    }
}

async fn retention(random: &mut fastrand::Rng) -> u64 {
    let clock = ManualClock::at(START);
    let manager = open(&MemoryCatalog::new(), &clock).await;
    let mut removed = 0;
    for _ in 0..20 {
        for _ in 0..3 {
            jump(&clock, random, 10);
            let id = manager.add_job(NewJob::default(), vec![]).await.unwrap();
            jump(&clock, random, 10);
            match random.u8(..4) {
                0 => drop(manager.cancel_job(id, "enough").await.unwrap()),
                1 => drop(manager.fail_job(id, "broken").await.unwrap()),
                2 => end(&manager, id).await,
                _ => {}
            }
        }
        jump(&clock, random, 10);
        let (now, keep) = (clock.now().as_millis(), random.u64(..20 * HOUR));
        let is_old = |ended: Timestamp| ended.as_millis() + keep <= now;
        let jobs = manager.list_jobs(&JobFilter::new()).unwrap();
        let old = jobs.iter().filter(|job| job.state.is_terminal() && job.completed.is_some_and(is_old));
        let old: Vec<JobId> = old.map(|job| job.id).collect();
        assert_eq!(collect_garbage(&manager, Duration::from_millis(keep)).await.unwrap(), old);
        assert_eq!(manager.count_jobs(&JobFilter::new()).unwrap(), jobs.len() - old.len());
        removed += old.len() as u64;
    }
    removed
}

async fn end(manager: &MetaManager, id: JobId) {
    for state in [JobState::Executing, JobState::Publishing, JobState::Completed] {
        manager.update_job(id, [copyseg_core::JobAction::State(state)]).await.unwrap();
    }
}

/// A restore during which the clock jumps completes, unless the clock stands beyond its deadline.
#[test]
fn a_restore_fails_by_its_deadline_and_by_no_other_jump_of_the_clock() {
    let mut trial = Trial::new("a_restore_fails_by_its_deadline_and_by_no_other_jump_of_the_clock", 4);
    while let Some(mut round) = trial.round() {
        let mut random = fastrand::Rng::with_seed(round.seed());
        let completed = run(false, restored(&mut random, round.seed() % 2 == 0));
        round.count(if completed { "completed" } else { "failed by the deadline" }, 1);
    }
}

/// Restores while the clock jumps: beyond the deadline if it is `too_late`, and otherwise anywhere before it.
async fn restored(random: &mut fastrand::Rng, too_late: bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    for segment in 1..=4 {
        std::fs::create_dir_all(source.join(segment.to_string())).unwrap();
        std::fs::write(source.join(format!("{segment}/data")), "some bytes").unwrap();
    }
    let mut request = RestoreRequest::new(source.to_str().unwrap(), target.to_str().unwrap()).unwrap();
    request.options.segments_per_task = Some(1);
    request.options.heartbeat_timeout = Duration::from_secs(1);
    let deadline = random.u64(1..8 * HOUR);
    request.options.deadline = Some(Duration::from_millis(deadline));
    let (clock, stop) = (ManualClock::at(START), CancellationToken::new());
    let manager = open(&MemoryCatalog::new(), &clock).await;
    let jumps: Vec<Timestamp> = (0..4)
        .map(|_| match too_late {
            true => START.after(Duration::from_millis(deadline + random.u64(..8 * HOUR))),
            false => Timestamp::from_millis(START.as_millis() + deadline - 1 - random.u64(..16 * HOUR)),
        })
        .collect();
    let inner = CopyWorker::new(&request.source, &request.target);
    let worker = Arc::new(Jumping { inner, clock, jumps, too_late });
    let progress = watch::Sender::new(RestoreProgress::default());
    let outcome =
        restore_with(&manager, "redb:///catalog", &request, worker, &progress, &stop).await.unwrap();
    match &outcome {
        Outcome::Completed { .. } => assert!(!too_late),
        Outcome::Failed { reason, .. } => assert!(too_late && reason.contains("deadline"), "{reason}"),
        other => panic!("{other:?}"),
    }
    !too_late
}

/// A worker under which the clock jumps before each task.
#[derive(Debug)]
struct Jumping {
    inner: CopyWorker,
    clock: ManualClock,
    jumps: Vec<Timestamp>,
    too_late: bool,
}

#[async_trait]
impl Worker for Jumping {
    async fn copy(&self, assignment: &Assignment) -> Result<(), Failure> {
        let jump = assignment.task().id.0.unsigned_abs() as usize % self.jumps.len();
        self.clock.set(self.jumps[jump]);
        assignment.beat();
        if self.too_late {
            // It is the clock that ends this, not the last copy.
            std::future::pending::<()>().await;
        }
        self.inner.copy(assignment).await
    }
}
