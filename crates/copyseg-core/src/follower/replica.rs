//! A copy of a store, kept by applying its commits one after the other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::follow::Committed;
use crate::catalog::{Head, Operation, Record, RecordCounts, RecordKey, RecordKind};
use crate::error::{ErrorKind, Result};
use crate::id::{JobId, TaskId};
use crate::job::Job;
use crate::manager::lost_rows;
use crate::snapshot::{SetAside, Snapshot};
use crate::task::Task;
use crate::wire::{DecodedRecord, decode_record};

/// The visible state, and the stored tasks that are not visible because their job is not there.
pub(super) struct Replica {
    snapshot: Snapshot,
    hidden: HashMap<TaskId, Task>,
    hidden_by_job: HashMap<JobId, BTreeSet<TaskId>>,
    store: HashSet<i64>,
    counts: RecordCounts,
    head: Head,
}

impl Replica {
    pub(super) fn new(head: Head) -> Self {
        let mut snapshot = Snapshot::default();
        snapshot.set_revision(head.revision);
        Self {
            snapshot,
            hidden: HashMap::new(),
            hidden_by_job: HashMap::new(),
            store: HashSet::new(),
            counts: RecordCounts::default(),
            head,
        }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn apply(&mut self, committed: &Committed) -> Result<()> {
        for operation in committed.batch.operations() {
            match operation {
                Operation::Put(key, bytes) => {
                    self.put(&Record { key: *key, bytes: bytes.to_vec().into() })?
                }
                Operation::Delete(key) => self.delete(*key),
            }
        }
        self.head = committed.head;
        self.snapshot.set_revision(committed.head.revision);
        self.check_counts()
    }

    /// A commit that was missed shows in the counts.
    pub(super) fn check_counts(&self) -> Result<()> {
        if self.counts == self.head.counts { Ok(()) } else { Err(lost_rows(self.head.counts, self.counts)) }
    }

    pub(super) fn put(&mut self, record: &Record) -> Result<()> {
        let key = record.key;
        if !self.is_stored(key) {
            self.count(key.kind, 1);
        }
        self.snapshot.remove_set_aside(key);
        match decode_record(record) {
            Ok(DecodedRecord::Job(job)) => self.put_job(job),
            Ok(DecodedRecord::Task(task)) => self.put_task(task),
            Ok(DecodedRecord::Counter { .. }) => {
                self.store.insert(key.id);
            }
            Ok(DecodedRecord::Format(format)) => {
                self.store.insert(key.id);
                format.check_readable()?;
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.forget(key);
                self.snapshot.set_aside_record(SetAside { key, reason: error.chain() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn delete(&mut self, key: RecordKey) {
        if self.is_stored(key) {
            self.count(key.kind, -1);
        }
        self.snapshot.remove_set_aside(key);
        self.forget(key);
    }

    fn put_job(&mut self, job: Job) {
        let job = Arc::new(job);
        match self.snapshot.insert_job(Arc::clone(&job)) {
            Some(old) if old.incarnation == job.incarnation => self.settle(&job),
            Some(_) => self.hide_tasks(job.id),
            None => {}
        }
        for id in self.hidden_by_job.remove(&job.id).unwrap_or_default() {
            if let Some(task) = self.hidden.remove(&id) {
                self.put_task(task);
            }
        }
    }

    /// Shows the task if its job is there with the same incarnation, and keeps it hidden otherwise.
    fn put_task(&mut self, task: Task) {
        self.forget_hidden(task.id);
        match self.snapshot.job(task.job) {
            Some(job) if task.belongs_to(job) => {
                let task = task.settled_by(job).unwrap_or(task);
                self.snapshot.insert_task(Arc::new(task));
            }
            _ => {
                self.snapshot.remove_task(task.id);
                self.hide(task);
            }
        }
    }

    fn settle(&mut self, job: &Job) {
        if !job.state.is_terminal() {
            return;
        }
        let settled: Vec<Task> =
            self.snapshot.tasks_of_job(job.id).filter_map(|task| task.settled_by(job)).collect();
        for task in settled {
            self.snapshot.insert_task(Arc::new(task));
        }
    }

    fn hide_tasks(&mut self, job: JobId) {
        let tasks: Vec<Arc<Task>> = self.snapshot.tasks_of_job(job).cloned().collect();
        for task in tasks {
            self.snapshot.remove_task(task.id);
            self.hide(Arc::unwrap_or_clone(task));
        }
    }

    fn hide(&mut self, task: Task) {
        self.hidden_by_job.entry(task.job).or_default().insert(task.id);
        self.hidden.insert(task.id, task);
    }

    fn forget(&mut self, key: RecordKey) {
        match key.kind {
            RecordKind::Store => {
                self.store.remove(&key.id);
            }
            RecordKind::Job => {
                self.hide_tasks(JobId(key.id));
                self.snapshot.remove_job(JobId(key.id));
            }
            RecordKind::Task => {
                self.snapshot.remove_task(TaskId(key.id));
                self.forget_hidden(TaskId(key.id));
            }
        }
    }

    fn forget_hidden(&mut self, id: TaskId) {
        let Some(task) = self.hidden.remove(&id) else { return };
        if let Some(ids) = self.hidden_by_job.get_mut(&task.job) {
            ids.remove(&id);
            if ids.is_empty() {
                self.hidden_by_job.remove(&task.job);
            }
        }
    }

    fn is_stored(&self, key: RecordKey) -> bool {
        self.snapshot.is_set_aside(key)
            || match key.kind {
                RecordKind::Store => self.store.contains(&key.id),
                RecordKind::Job => self.snapshot.job(JobId(key.id)).is_some(),
                RecordKind::Task => {
                    let id = TaskId(key.id);
                    self.snapshot.task(id).is_some() || self.hidden.contains_key(&id)
                }
            }
    }

    fn count(&mut self, kind: RecordKind, by: i64) {
        if let Some(count) = self.counts.0.get_mut(kind as usize) {
            *count = count.saturating_add_signed(by);
        }
    }
}
