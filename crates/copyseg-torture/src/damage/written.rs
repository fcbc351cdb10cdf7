//! What was written to a store, and whether what is found in it later is that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    Catalog, Error, ErrorKind, JobAction, JobFilter, JobId, JobState, ManagerOptions, MetaManager, NewJob,
    NewTask, NodeId, RecordKey, RecordKind, Result, SegmentId, SegmentPair, Snapshot, TaskId, TaskState,
};
use futures::future::BoxFuture;

/// How long anything may take on a busy machine before it counts as hanging.
const DEADLINE: Duration = Duration::from_secs(300);

/// How many tasks are added to a damaged store.
const MORE_TASKS: u64 = 60;

/// Opens the store under test.
pub type Opened<'a> = dyn Fn() -> BoxFuture<'a, Result<Arc<dyn Catalog>>> + 'a;

/// What a store holds: every job and task, as a text that differs if anything in it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    records: BTreeMap<RecordKey, String>,
    job_of: BTreeMap<RecordKey, RecordKey>,
}

/// How a damaged store was found, when nothing is wrong with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is missing, before and after further writes.
    Whole,
    /// Records were set aside; all others are there.
    SetAside,
    /// It was refused with an error that says what is broken.
    Refused,
    /// It was opened, and a later step was refused with such an error.
    RefusedLater,
}

impl Written {
    /// Fills a new store: three jobs with four tasks each, completed, failed, in progress and pending, and a fourth that
    /// was removed.
    ///
    /// # Errors
    /// Those of the store, which is sound.
    pub async fn fill(manager: &MetaManager) -> Result<Self> {
        for job in 1..=4 {
            let id = JobId(1000 * job);
            let tasks = (1..=4).map(|task| {
                let pairs = (1..=3).map(|segment| SegmentPair {
                    files: 3,
                    bytes: 1 << 33,
                    fingerprint: 0x0123_4567_89AB_CDEF,
                    ..SegmentPair::new(
                        SegmentId(task * 10 + segment),
                        SegmentId(id.0 * 100 + task * 10 + segment),
                    )
                });
                NewTask { id: Some(TaskId(id.0 + task)), ..NewTask::new(pairs) }
            });
            let new = NewJob {
                id: Some(id),
                collection_name: format!("restored_{job}"),
                source: "file:///snapshots/nightly".into(),
                target: format!("file:///restored/{job}"),
                ..NewJob::default()
            };
            manager.add_job(new, tasks.collect()).await?;
            manager.update_job(id, [JobAction::State(JobState::Executing)]).await?;
            for task in 1..job.min(4) {
                let claim = manager.claim_task(TaskId(id.0 + task), NodeId(7)).await?;
                if task < 3 {
                    manager.complete_task(claim).await?;
                }
            }
        }
        manager.cancel_job(JobId(2000), "no longer wanted").await?;
        manager.remove_job(JobId(4000)).await?;
        Ok(Self::of(&manager.snapshot()?))
    }

    /// What a snapshot shows.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut written = Self::default();
        let key = |kind, id| RecordKey { kind, id };
        for job in snapshot.jobs(&JobFilter::new()) {
            let job_key = key(RecordKind::Job, job.id.0);
            written.records.insert(job_key, format!("{job:?}"));
            for task in snapshot.tasks_of_job(job.id) {
                let task_key = key(RecordKind::Task, task.id.0);
                written.records.insert(task_key, format!("{task:?}"));
                written.job_of.insert(task_key, job_key);
            }
        }
        written
    }

    /// Opens the store, compares, goes on writing to it, and compares again after opening it anew.
    ///
    /// # Errors
    /// What is wrong: a value that was never written, a row that is missing without a word, an error that does not say what
    /// is broken, or no answer at all.
    pub async fn find(&self, open: &Opened<'_>) -> Result<Finding, String> {
        let found = tokio::time::timeout(DEADLINE, self.look(open));
        found.await.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
    }

    async fn look(&self, open: &Opened<'_>) -> Result<Finding, String> {
        let manager = match open_manager(open).await {
            Ok(manager) => manager,
            Err(error) => return refusal(&error).map(|()| Finding::Refused),
        };
        let first = self.look_and_write(&manager).await;
        let closed = manager.close().await;
        drop(manager);
        let (set_aside, after) = match first? {
            Some(found) => found,
            None => return Ok(Finding::RefusedLater),
        };
        closed.map_err(|error| format!("closing: {error:?}"))?;
        let manager = match open_manager(open).await {
            Ok(manager) => manager,
            Err(error) => return refusal(&error).map(|()| Finding::RefusedLater),
        };
        let snapshot = manager.snapshot().map_err(|error| format!("{error:?}"));
        let closed = manager.close().await;
        let snapshot = snapshot?;
        after.compare(&snapshot).map_err(|wrong| format!("after further writes: {wrong}"))?;
        self.check_kept(open).await?;
        closed.map_err(|error| format!("closing: {error:?}"))?;
        Ok(if set_aside == 0 { Finding::Whole } else { Finding::SetAside })
    }

    async fn look_and_write(&self, manager: &MetaManager) -> Result<Option<(usize, Self)>, String> {
        let snapshot = || manager.snapshot().map_err(|error| format!("{error:?}"));
        let set_aside = self.compare(&snapshot()?)?;
        match write_on(manager).await {
            Ok(()) => Ok(Some((set_aside, Self::of(&snapshot()?)))),
            Err(error) => refusal(&error).map(|()| None),
        }
    }

    /// What cannot be shown now may be shown again once what is damaged is restored, so nothing is deleted.
    async fn check_kept(&self, open: &Opened<'_>) -> Result<(), String> {
        let catalog = open().await.map_err(|error| format!("{error:?}"))?;
        let head = catalog.head().await.map_err(|error| format!("{error:?}"));
        catalog.close().await.map_err(|error| format!("closing: {error:?}"))?;
        let [_, jobs, tasks] = head?.counts.0;
        let written = |kind| self.records.keys().filter(|key| key.kind == kind).count() as u64;
        if jobs > written(RecordKind::Job) && tasks >= written(RecordKind::Task) + MORE_TASKS {
            return Ok(());
        }
        Err(format!("writing on deleted records: {jobs} jobs and {tasks} tasks are left"))
    }

    /// Accounts for every record, and says how many were set aside.
    ///
    /// # Errors
    /// What is wrong.
    pub fn compare(&self, snapshot: &Snapshot) -> Result<usize, String> {
        let found = Self::of(snapshot);
        let set_aside: Vec<RecordKey> = snapshot.set_aside().map(|record| record.key).collect();
        for (key, value) in &found.records {
            match self.records.get(key) {
                Some(written) if written == value => {}
                Some(written) => return Err(format!("{key} is\n{value}\nand was\n{written}")),
                None => return Err(format!("{key} was never there: {value}")),
            }
        }
        // Damage to the key of a record has it set aside under another one, of the same kind.
        let is_missing = |key: &RecordKey| !found.records.contains_key(key);
        let missing_of = |kind| {
            let of_kind = self.records.keys().filter(move |key| key.kind == kind && is_missing(key));
            of_kind.filter(|key| self.job_of.get(key).is_none_or(|job| !is_missing(job))).count()
        };
        for kind in [RecordKind::Job, RecordKind::Task] {
            let (missing, reported) =
                (missing_of(kind), set_aside.iter().filter(|key| key.kind == kind).count());
            if missing > reported {
                let missing: Vec<String> =
                    self.records.keys().filter(|key| is_missing(key)).map(RecordKey::to_string).collect();
                return Err(format!("{} are missing, and set aside are {set_aside:?}", missing.join(" ")));
            }
        }
        Ok(set_aside.len())
    }
}

async fn open_manager(open: &Opened<'_>) -> Result<MetaManager> {
    let catalog = open().await?;
    let opened = MetaManager::open(Arc::clone(&catalog), ManagerOptions::default()).await;
    if opened.is_err() {
        // Or the next one may find it held.
        let _ = catalog.close().await;
    }
    opened
}

/// Enough to touch every table, to change most records, and to have pages written anew.
async fn write_on(manager: &MetaManager) -> Result<()> {
    let snapshot = manager.snapshot()?;
    manager
        .transact(|txn| {
            for job in snapshot.jobs(&JobFilter::new().states([JobState::Executing])) {
                txn.update_job(job.id, [JobAction::Rows(77)])?;
                for task in snapshot.tasks_of_job(job.id).filter(|task| task.state == TaskState::Pending) {
                    txn.claim_task(task.id, NodeId(9))?;
                }
            }
            Ok(())
        })
        .await?;
    let pairs = (0..MORE_TASKS as i64).map(|id| SegmentPair::new(SegmentId(id), SegmentId(5_000_000 + id)));
    manager.add_job(NewJob::default(), pairs.map(|pair| NewTask::new([pair])).collect()).await?;
    Ok(())
}

fn refusal(error: &Error) -> Result<(), String> {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Unsupported => Ok(()),
        // What became of a change can stay unknown for good, when the damage hides it.
        ErrorKind::OutcomeUnknown if error.chain().contains("damaged") => Ok(()),
        _ => Err(format!("it does not say what is broken: {error:?}")),
    }
}
