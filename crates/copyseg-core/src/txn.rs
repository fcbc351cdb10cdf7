//! A transaction: changes to the newest accepted state, the rules of every change, and the write set it leaves. Rolling
//! back is dropping it.

mod dispatch;
mod jobs;
mod tasks;

pub(crate) use self::dispatch::{check_claim, stale};

use std::collections::{BTreeSet, HashSet};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use crate::catalog::{Batch, Limits, Operation, RecordKey, RecordKind, Revision};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{JobId, TaskId};
use crate::job::Job;
use crate::manager::Changes;
use crate::snapshot::{Before, Snapshot};
use crate::task::Task;
use crate::time::Timestamp;
use crate::wire;

/// The changes of one transaction, which nobody else sees before it ends.
///
/// Every operation checks its own rules, so a closure may stop at the first error with `?`; returning the error
/// from the closure drops all its changes. Given to the closure of
/// [`MetaManager::transact`](crate::MetaManager::transact).
pub struct Txn<'a> {
    /// Changed in place, because a copy for each transaction would share every node, and each change of a shared node
    /// copies it.
    state: &'a mut Snapshot,
    /// What was there before. Its keys say what was changed.
    before: Before,
    reserved: &'a mut BTreeSet<RecordKey>,
    active_jobs_max: Option<usize>,
    now: Timestamp,
    revision: Revision,
    dropped: BTreeSet<RecordKey>,
    claimed: Vec<TaskId>,
    orphaned: Vec<TaskId>,
    adopted: Vec<TaskId>,
    /// Changed tasks whose records this transaction leaves alone: settled by the end of their job, removed with
    /// their job, or staged before.
    unwritten: HashSet<TaskId>,
    finished: bool,
}

/// What became of each changed record; `None` was removed.
type Changed<Id, T> = Vec<(Id, Option<Arc<T>>)>;

/// What a transaction leaves behind for the committer.
pub(crate) struct WriteSet {
    /// What its changes took the place of.
    pub(crate) before: Before,
    /// What has to be written, at once.
    pub(crate) operations: Vec<Operation>,
    /// What subscribers are told.
    pub(crate) changes: Changes,
    /// Tasks that it gave to a worker, who may have given them back.
    pub(crate) claimed: Vec<TaskId>,
    /// Tasks whose job was removed: their records have to follow.
    pub(crate) orphaned: Vec<TaskId>,
    /// Tasks whose records were staged before and now belong to a job.
    pub(crate) adopted: Vec<TaskId>,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(
        state: &'a mut Snapshot,
        reserved: &'a mut BTreeSet<RecordKey>,
        active_jobs_max: Option<usize>,
        now: Timestamp,
    ) -> Self {
        Self {
            before: state.before(),
            reserved,
            active_jobs_max,
            now,
            revision: Revision(state.revision().0 + 1),
            state,
            dropped: BTreeSet::new(),
            claimed: Vec::new(),
            orphaned: Vec::new(),
            adopted: Vec::new(),
            unwritten: HashSet::new(),
            finished: false,
        }
    }

    /// The state as this transaction has changed it so far.
    pub fn snapshot(&self) -> &Snapshot {
        self.state
    }

    /// The job with this id, as this transaction has changed it so far.
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.state.job(id)
    }

    /// The task with this id, as this transaction has changed it so far.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.state.task(id)
    }

    /// The wall time of this transaction.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes `count` ids from the durable counter, for jobs, tasks or target segments; none is given out twice.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the counter does not have that many left.
    pub fn allocate_ids(&mut self, count: u64) -> Result<Range<i64>> {
        let start = self.state.next_id();
        let end = i64::try_from(count).ok().and_then(|count| start.checked_add(count)).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("allocate {count} ids: the counter stands at {start}"),
            )
        })?;
        self.state.set_next_id(end);
        Ok(start..end)
    }

    /// Takes the id of a job to be added from the durable counter, passing over ids that callers brought.
    ///
    /// # Errors
    /// Those of [`allocate_ids`](Self::allocate_ids).
    pub fn allocate_job_id(&mut self) -> Result<JobId> {
        self.fresh_id(RecordKind::Job).map(JobId)
    }

    /// Removes a record that was set aside from storage, for good, and says whether it was there.
    ///
    /// Its bytes are lost; `copyseg check --export` keeps them. Tasks of a dropped job are swept at the next open.
    pub fn drop_set_aside(&mut self, key: RecordKey) -> bool {
        let dropped = self.state.remove_set_aside(key);
        if dropped {
            self.dropped.insert(key);
        }
        dropped
    }

    /// The write set, or `None` if nothing was changed. After an error everything is as it was before.
    pub(crate) fn finish(mut self, limits: Limits) -> Result<Option<WriteSet>> {
        if self.is_unchanged() {
            return Ok(None);
        }
        let (mut operations, jobs) = self.changed_jobs()?;
        let (task_operations, tasks) = self.changed_tasks()?;
        operations.extend(task_operations);
        if self.has_allocated() {
            operations.push(counter_record(self.state)?);
        }
        // What was dropped may have been written anew under its id. Few records ever are dropped.
        let written_anew = |key: &RecordKey| operations.iter().any(|operation| operation.key() == *key);
        let gone = self.dropped.iter().copied().filter(|key| !written_anew(key));
        let gone: Vec<_> = gone.map(Operation::Delete).collect();
        operations.extend(gone);
        limits.check(&operations.iter().cloned().collect::<Batch>())?;
        self.state.set_revision(self.revision);
        self.finished = true;
        Ok(Some(WriteSet {
            before: mem::take(&mut self.before),
            operations,
            changes: Changes { revision: self.revision, jobs, tasks },
            claimed: mem::take(&mut self.claimed),
            orphaned: mem::take(&mut self.orphaned),
            adopted: mem::take(&mut self.adopted),
        }))
    }

    fn is_unchanged(&self) -> bool {
        self.before.is_empty() && self.dropped.is_empty() && !self.has_allocated()
    }

    fn has_allocated(&self) -> bool {
        self.state.next_id() != self.before.next_id()
    }

    fn changed_jobs(&self) -> Result<(Vec<Operation>, Changed<JobId, Job>)> {
        let mut operations = Vec::with_capacity(self.before.jobs.len());
        let mut changes = Vec::with_capacity(self.before.jobs.len());
        for &id in self.before.jobs.keys() {
            let job = self.state.job(id).cloned();
            operations.push(match &job {
                Some(job) => Operation::Put(job_key(id), wire::encode_job(job)?),
                None => Operation::Delete(job_key(id)),
            });
            changes.push((id, job));
        }
        Ok((operations, changes))
    }

    fn changed_tasks(&self) -> Result<(Vec<Operation>, Changed<TaskId, Task>)> {
        let mut operations = Vec::with_capacity(self.before.tasks.len());
        let mut changes = Vec::with_capacity(self.before.tasks.len());
        for &id in self.before.tasks.keys() {
            let task = self.state.task(id).cloned();
            if !self.unwritten.contains(&id) {
                operations.push(match &task {
                    Some(task) => Operation::Put(task_key(id), wire::encode_task(task)?),
                    None => Operation::Delete(task_key(id)),
                });
            }
            changes.push((id, task));
        }
        Ok((operations, changes))
    }

    /// The one way in which a transaction adds a job or changes its record.
    fn put_job(&mut self, job: Job) -> Arc<Job> {
        let job = Arc::new(Job { updated: self.now, revision: self.revision, ..job });
        let before = self.state.insert_job(Arc::clone(&job));
        self.before.jobs.entry(job.id).or_insert(before);
        job
    }

    /// The one way in which a transaction changes a task and its record.
    fn put_task(&mut self, task: Task) -> Arc<Task> {
        let task = Arc::new(Task { updated: self.now, revision: self.revision, ..task });
        self.unwritten.remove(&task.id);
        self.insert_task(Arc::clone(&task));
        task
    }

    fn take_job(&mut self, id: JobId) {
        let before = self.state.remove_job(id);
        self.before.jobs.entry(id).or_insert(before);
    }

    fn insert_task(&mut self, task: Arc<Task>) {
        let id = task.id;
        let before = self.state.insert_task(task);
        self.before.tasks.entry(id).or_insert(before);
    }

    fn take_task(&mut self, id: TaskId) {
        let before = self.state.remove_task(id);
        self.before.tasks.entry(id).or_insert(before);
    }

    /// Keeps ids for a job whose tasks are being staged, so that nothing else is added under them meanwhile.
    pub(crate) fn reserve(&mut self, keys: impl IntoIterator<Item = RecordKey>) {
        self.reserved.extend(keys);
    }

    /// Refuses an id that is not free: in use, reserved by an addition under way, or set aside.
    fn check_free(&self, key: RecordKey) -> Result<()> {
        self.check_not_set_aside(key)?;
        if self.reserved.contains(&key) {
            return Err(Error::new(
                ErrorKind::AlreadyExists { identical: false },
                format!("{key} is reserved: a job is being added under it, or its job was set aside"),
            ));
        }
        Ok(())
    }

    fn check_not_set_aside(&self, key: RecordKey) -> Result<()> {
        check_not_set_aside(self.state, key)
    }

    /// The next id of the counter that nothing of this kind uses; callers may have brought ids of their own.
    fn fresh_id(&mut self, kind: RecordKind) -> Result<i64> {
        loop {
            let id = self.allocate_ids(1)?.start;
            let key = RecordKey { kind, id };
            let used = match kind {
                RecordKind::Job => self.state.job(JobId(id)).is_some(),
                _ => self.state.task(TaskId(id)).is_some(),
            };
            if !used && !self.reserved.contains(&key) && !self.state.is_set_aside(key) {
                return Ok(id);
            }
        }
    }
}

/// What was not finished, after an error or a panic of the closure, is taken back.
impl Drop for Txn<'_> {
    fn drop(&mut self) {
        if !self.finished && !self.is_unchanged() {
            self.state.undo(&self.before);
        }
    }
}

fn check_not_set_aside(state: &Snapshot, key: RecordKey) -> Result<()> {
    if state.is_set_aside(key) {
        return Err(Error::new(
            ErrorKind::SetAside,
            format!("{key} could not be decoded and was set aside: see `copyseg check --list`"),
        ));
    }
    Ok(())
}

/// The record of the id counter. It is kept in the first store record after the format that was not set aside,
/// because what was set aside is never overwritten.
pub(crate) fn counter_record(state: &Snapshot) -> Result<Operation> {
    let mut key = RecordKey { kind: RecordKind::Store, id: 1 };
    while state.is_set_aside(key) {
        key.id += 1;
    }
    Ok(Operation::Put(key, wire::encode_counter(key.id, state.next_id())?))
}

pub(crate) fn job_key(id: JobId) -> RecordKey {
    RecordKey { kind: RecordKind::Job, id: id.0 }
}

pub(crate) fn task_key(id: TaskId) -> RecordKey {
    RecordKey { kind: RecordKind::Task, id: id.0 }
}
