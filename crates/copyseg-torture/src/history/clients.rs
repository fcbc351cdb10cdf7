//! Callers of a manager who do random things, and who makes their storage fail.

use std::ops::ControlFlow;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{
    ErrorKind, JobAction, JobFilter, JobId, MetaManager, NewJob, NewTask, NodeId, Result, SegmentId,
    SegmentPair, TaskAction, TaskFilter, TaskId, Txn,
};
use fastrand::Rng;
use futures::future::{self, Either};
use tokio::task::yield_now;

use super::Recorder;
use super::record::{Steps, job_key, job_number, task_key, task_number};

/// So few that callers meet at the same records all the time.
const JOBS: i64 = 5;
const TASKS: i64 = 3;

/// More tasks than a batch of a small store takes, so that adding such a job takes several.
const MANY_TASKS: i64 = 20;

/// One caller among many.
#[derive(Debug)]
pub struct Client {
    /// Where it writes down what it sees.
    pub recorder: Recorder,
    /// Whom it asks.
    pub manager: MetaManager,
    /// The number of that manager.
    pub life: usize,
    /// What its choices follow from.
    pub random: Rng,
}

impl Client {
    /// Does so many random things, or fewer if the manager ends.
    pub async fn run(mut self, steps: u32) {
        for _ in 0..steps {
            let flow = match self.random.u32(0..10) {
                0..=5 => self.write().await,
                6 if self.random.bool() => self.add_large_job().await,
                6..=7 => self.read_all(),
                8 => self.read_jobs(),
                _ => self.read_tasks_of_a_job(),
            };
            if flow.is_break() {
                return;
            }
            yield_now().await;
        }
    }

    /// A transaction of several changes. One in eight callers does not wait for the answer.
    async fn write(&mut self) -> ControlFlow<()> {
        let stamp = self.recorder.stamp();
        let changes: Vec<_> = (0..self.random.u32(0..4)).map(|_| Change::random(&mut self.random)).collect();
        let strict = self.random.u32(0..8) == 0;
        let patience = (self.random.u32(0..8) == 0).then(|| self.random.u32(0..20));
        let change = |txn: &mut Txn<'_>, steps: &mut Steps| {
            for change in &changes {
                let result = change.apply(txn, stamp);
                steps.note(txn);
                if strict {
                    result?;
                }
            }
            Ok(())
        };
        let transaction = self.recorder.transact(&self.manager, self.life, change);
        let Some(patience) = patience else { return flow(transaction.await) };
        let leave = async {
            for _ in 0..patience {
                yield_now().await;
            }
        };
        match future::select(Box::pin(transaction), Box::pin(leave)).await {
            Either::Left((result, _)) => flow(result),
            Either::Right(_) => ControlFlow::Continue(()),
        }
    }

    async fn add_large_job(&mut self) -> ControlFlow<()> {
        let (job, stamp) = (self.random.i64(0..JOBS), self.recorder.stamp());
        let (new, tasks) = (new_job(job, stamp), (0..MANY_TASKS).map(|task| new_task(job, task, stamp)));
        flow(self.recorder.add_job(&self.manager, self.life, new, tasks.collect()).await)
    }

    fn read_all(&self) -> ControlFlow<()> {
        flow(self.recorder.read_all(&self.manager, self.life))
    }

    fn read_jobs(&mut self) -> ControlFlow<()> {
        let first = self.random.i64(0..JOBS);
        flow(self.recorder.read_some(self.life, || {
            let found = self.manager.list_jobs(&JobFilter::new())?;
            let shown = |id| found.iter().find(|job| job.id == id).map(|job| job_number(job));
            Ok((first..JOBS).map(|id| (job_key(JobId(id)), shown(JobId(id)))).collect())
        }))
    }

    fn read_tasks_of_a_job(&mut self) -> ControlFlow<()> {
        let job = self.random.i64(0..JOBS);
        flow(self.recorder.read_some(self.life, || {
            let found = self.manager.list_tasks(&TaskFilter::new().job(JobId(job)))?;
            let shown = |id| found.iter().find(|task| task.id == id).map(|task| task_number(task));
            let ids = (0..MANY_TASKS).map(|task| task_id(job, task));
            Ok(ids.map(|id| (task_key(id), shown(id))).collect())
        }))
    }
}

/// Goes on after every error but those after which the manager takes nothing more.
fn flow<T>(result: Result<T>) -> ControlFlow<()> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Fenced) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}

#[derive(Debug, Clone, Copy)]
enum Change {
    AddJob(i64),
    RemoveJob(i64),
    UpdateJob(i64),
    CancelJob(i64),
    UpdateTask(i64, i64),
    RemoveTask(i64, i64),
    Claim(i64, i64),
    Complete(i64, i64),
    Release(i64, i64),
}

impl Change {
    fn random(random: &mut Rng) -> Self {
        let (job, task) = (random.i64(0..JOBS), random.i64(0..TASKS));
        match random.u32(0..12) {
            0..=1 => Self::AddJob(job),
            2 => Self::RemoveJob(job),
            3..=4 => Self::UpdateJob(job),
            5 => Self::CancelJob(job),
            6..=7 => Self::UpdateTask(job, task),
            8 => Self::RemoveTask(job, task),
            9 => Self::Claim(job, task),
            10 => Self::Complete(job, task),
            _ => Self::Release(job, task),
        }
    }

    /// Does it, and leaves `stamp` in what it writes.
    fn apply(self, txn: &mut Txn<'_>, stamp: u32) -> Result<()> {
        let claim = |txn: &Txn<'_>, job, task| txn.task(task_id(job, task)).and_then(|task| task.claim());
        match self {
            Self::AddJob(job) => {
                let tasks = (0..TASKS).map(|task| new_task(job, task, stamp)).collect();
                txn.add_job(new_job(job, stamp), tasks).map(drop)
            }
            Self::RemoveJob(job) => txn.remove_job(JobId(job)).map(drop),
            Self::UpdateJob(job) => txn.update_job(JobId(job), [JobAction::Rows(stamp.into())]).map(drop),
            Self::CancelJob(job) => {
                txn.update_job(JobId(job), [JobAction::Rows(stamp.into())])?;
                txn.cancel_job(JobId(job), "at random").map(drop)
            }
            Self::UpdateTask(job, task) => {
                txn.update_task(task_id(job, task), [TaskAction::Slots(stamp)]).map(drop)
            }
            Self::RemoveTask(job, task) => txn.remove_task(task_id(job, task)).map(drop),
            Self::Claim(job, task) => {
                txn.update_task(task_id(job, task), [TaskAction::Slots(stamp)])?;
                txn.claim_task(task_id(job, task), NodeId(1)).map(drop)
            }
            Self::Complete(job, task) => match claim(txn, job, task) {
                Some(claim) => txn.complete_task(claim),
                None => Ok(()),
            },
            Self::Release(job, task) => match claim(txn, job, task) {
                Some(claim) => txn.release_task(claim, "at random"),
                None => Ok(()),
            },
        }
    }
}

fn new_job(job: i64, stamp: u32) -> NewJob {
    NewJob { id: Some(JobId(job)), rows: Some(stamp.into()), segments: Some(100), ..NewJob::default() }
}

fn new_task(job: i64, task: i64, stamp: u32) -> NewTask {
    let pair = SegmentPair::new(SegmentId(task), SegmentId(task_id(job, task).0 + 10_000));
    NewTask { id: Some(task_id(job, task)), slots: stamp, ..NewTask::new([pair]) }
}

fn task_id(job: i64, task: i64) -> TaskId {
    TaskId(1_000 + job * 100 + task)
}

/// Makes `faults` calls among the next of a catalog fail, in every way there is.
pub fn plan_faults(catalog: &FaultyCatalog, random: &mut Rng, faults: u32) {
    for _ in 0..faults {
        let call = if random.u32(0..5) == 0 { Call::Head } else { Call::Commit };
        let fault = Fault::ALL[random.usize(0..Fault::ALL.len())];
        catalog.fail_nth_of(call, random.u64(0..40), fault);
    }
}
