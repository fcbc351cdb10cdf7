//! The books of what is stored without being visible, and of what of it is to be deleted.

use std::collections::{BTreeSet, HashSet};

use crate::catalog::{Batch, Operation, RecordKey, RecordKind};
use crate::id::{JobId, TaskId};
use crate::manager::queue::Work;
use crate::snapshot::Snapshot;
use crate::txn::task_key;

/// Every stored record that the published state does not show.
pub(super) struct HiddenRecords {
    all: HashSet<RecordKey>,
    /// Those of them that nothing will ever show: they are deleted when there is room.
    garbage: BTreeSet<RecordKey>,
}

impl HiddenRecords {
    /// The books of a store that was just opened: `orphans` are those of `hidden` that no job claims.
    pub(super) fn new(hidden: HashSet<RecordKey>, orphans: Vec<RecordKey>) -> Self {
        Self { all: hidden, garbage: orphans.into_iter().collect() }
    }

    /// Whether the store holds this record now, with everything that `published` shows.
    pub(super) fn is_stored(&self, key: RecordKey, published: &Snapshot) -> bool {
        match key.kind {
            RecordKind::Job if published.job(JobId(key.id)).is_some() => true,
            RecordKind::Task if published.task(TaskId(key.id)).is_some() => true,
            _ => self.all.contains(&key),
        }
    }

    /// What is to be deleted, in the order of keys.
    pub(super) fn garbage(&self) -> impl Iterator<Item = RecordKey> + '_ {
        self.garbage.iter().copied()
    }

    /// Enters a batch that was applied, and the works it was built from, in the order they were accepted.
    pub(super) fn applied<'a>(&mut self, batch: &Batch, works: impl IntoIterator<Item = &'a Work>) {
        for operation in batch.operations() {
            self.remove(operation.key());
        }
        for work in works {
            self.enter(work);
        }
    }

    fn enter(&mut self, work: &Work) {
        // First, because a transaction may add a task again under the id of one that it removed with its job.
        self.discard(work.orphaned.iter().copied().map(task_key));
        for operation in &work.operations {
            let key = operation.key();
            self.remove(key);
            let shown = work.changes.is_some() && key.kind != RecordKind::Store;
            if matches!(operation, Operation::Put(..)) && !shown {
                self.all.insert(key);
            }
        }
        for &task in &work.adopted {
            self.remove(task_key(task));
        }
        self.abandon(&work.abandoned);
    }

    /// Enters tasks whose addition was given up, some of which may have been stored before.
    pub(super) fn abandon(&mut self, tasks: &[TaskId]) {
        let keys = tasks.iter().copied().map(task_key);
        let stored: Vec<_> = keys.filter(|key| self.all.contains(key)).collect();
        self.discard(stored);
    }

    fn remove(&mut self, key: RecordKey) {
        // Mostly there is none, and a set computes a hash to find that out.
        if !self.all.is_empty() {
            self.garbage.remove(&key);
            self.all.remove(&key);
        }
    }

    fn discard(&mut self, keys: impl IntoIterator<Item = RecordKey>) {
        for key in keys {
            self.all.insert(key);
            self.garbage.insert(key);
        }
    }
}
