//! What a snapshot shows, to be compared with what storage holds and with what subscribers were told.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use copyseg_core::{
    Batch, Catalog, Changes, Head, Job, JobFilter, JobId, Operation, RecordCounts, RecordKey, RecordKind,
    Revision, Snapshot, Task, TaskFilter, TaskId,
};
use futures::TryStreamExt;

/// All that a snapshot shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Visible {
    /// Its revision.
    pub revision: Revision,
    /// Its jobs.
    pub jobs: BTreeMap<JobId, Arc<Job>>,
    /// Their tasks.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// The records that could not be decoded.
    pub set_aside: BTreeSet<RecordKey>,
}

impl Visible {
    /// What `snapshot` shows.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            revision: snapshot.revision(),
            jobs: snapshot.jobs(&JobFilter::new()).map(|job| (job.id, Arc::clone(job))).collect(),
            tasks: snapshot.tasks(&TaskFilter::new()).map(|task| (task.id, Arc::clone(task))).collect(),
            set_aside: snapshot.set_aside().map(|record| record.key).collect(),
        }
    }

    /// What a restart would show.
    pub async fn stored(catalog: &dyn Catalog) -> Self {
        Self::of(&Snapshot::load(catalog).await.unwrap())
    }

    /// Makes these changes, as a subscriber does. It is not told of records that were set aside and dropped.
    pub fn apply(&mut self, changes: &Changes) {
        self.revision = changes.revision;
        for (id, job) in &changes.jobs {
            match job {
                Some(job) => self.jobs.insert(*id, Arc::clone(job)),
                None => self.jobs.remove(id),
            };
        }
        for (id, task) in &changes.tasks {
            match task {
                Some(task) => self.tasks.insert(*id, Arc::clone(task)),
                None => self.tasks.remove(id),
            };
        }
    }
}

/// Every record of a store, visible or not.
pub async fn records(catalog: &dyn Catalog) -> BTreeMap<RecordKey, Arc<[u8]>> {
    let pages: Vec<_> = catalog.load().await.unwrap().pages.try_collect().await.unwrap();
    pages.into_iter().flatten().map(|record| (record.key, record.bytes.as_ref().into())).collect()
}

/// Changes a store behind everybody's back, keeping its counts right.
pub async fn tamper(catalog: &dyn Catalog, operations: impl IntoIterator<Item = Operation>) {
    let batch = Batch::from_iter(operations);
    let mut left = records(catalog).await;
    for operation in batch.operations() {
        match operation {
            Operation::Put(key, bytes) => left.insert(*key, Arc::clone(bytes)),
            Operation::Delete(key) => left.remove(key),
        };
    }
    let head = catalog.head().await.unwrap();
    let count = |kind| left.keys().filter(|key| key.kind == kind).count() as u64;
    let next = Head { counts: RecordCounts(RecordKind::ALL.map(count)), ..head };
    catalog.commit(&head, &next, &batch).await.unwrap();
}
