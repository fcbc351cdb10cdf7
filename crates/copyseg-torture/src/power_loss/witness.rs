//! Who knows what a store held after each commit, and when the commit was acknowledged.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::{Batch, Catalog, Head, Limits, Loaded, Operation, RecordKey, Result};
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::Disk;
use crate::visible::records;

type Records = BTreeMap<RecordKey, Arc<[u8]>>;

/// Wraps a catalog on a disk. Clones are the same.
#[derive(Debug, Clone)]
pub struct Witness {
    inner: Arc<dyn Catalog>,
    disk: Disk,
    commits: Arc<Mutex<Vec<Commit>>>,
}

#[derive(Debug, Clone)]
struct Commit {
    head: Head,
    records: Records,
    /// How many steps the disk had done when it was acknowledged.
    acknowledged: Option<usize>,
}

impl Witness {
    /// Wraps a catalog that was just created.
    pub fn new(inner: Arc<dyn Catalog>, disk: Disk) -> Self {
        Self { inner, disk, commits: Arc::default() }
    }

    /// How many steps the disk had done when the first call was acknowledged.
    pub fn first(&self) -> usize {
        self.commits.lock().first().unwrap().acknowledged.unwrap()
    }

    /// How many steps the disk has done by now.
    pub fn steps(&self) -> usize {
        self.disk.steps()
    }

    /// How many commits there were.
    pub fn commits(&self) -> usize {
        self.commits.lock().len()
    }

    /// The newest head that was acknowledged before a cut.
    pub fn acknowledged_at(&self, cut: usize) -> Head {
        let last = self.last_at(cut);
        self.commits.lock()[last].head
    }

    /// Asserts that a store after a cut holds exactly what it held after the last acknowledged commit, or the one after.
    pub async fn check(&self, cut: usize, store: &dyn Catalog) {
        let head = store.head().await.unwrap();
        let stored = records(store).await;
        let last = self.last_at(cut);
        let commits = self.commits.lock();
        let found = commits.iter().position(|commit| commit.head == head);
        assert!(
            found == Some(last) || found == Some(last + 1),
            "commit {found:?} after a cut at step {cut}; commit {last} was acknowledged"
        );
        assert!(
            stored == commits[found.unwrap()].records,
            "the records of commit {found:?}, cut at step {cut}"
        );
    }

    fn last_at(&self, cut: usize) -> usize {
        let acknowledged = |commit: &Commit| commit.acknowledged.is_some_and(|steps| steps <= cut);
        self.commits.lock().iter().rposition(acknowledged).unwrap()
    }

    fn begin(&self, head: Head, operations: &[Operation]) {
        let mut commits = self.commits.lock();
        let mut records = commits.last().map(|commit| commit.records.clone()).unwrap_or_default();
        for operation in operations {
            match operation {
                Operation::Put(key, bytes) => records.insert(*key, Arc::clone(bytes)),
                Operation::Delete(key) => records.remove(key),
            };
        }
        commits.push(Commit { head, records, acknowledged: None });
    }

    fn acknowledge(&self) {
        self.commits.lock().last_mut().unwrap().acknowledged = Some(self.disk.steps());
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for Witness {
    async fn acquire(&self) -> Result<Head> {
        let head = self.inner.acquire().await?;
        self.begin(head, &[]);
        self.acknowledge();
        Ok(head)
    }

    async fn load(&self) -> Result<Loaded> {
        self.inner.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        self.begin(*next, batch.operations());
        self.inner.commit(expected, next, batch).await?;
        self.acknowledge();
        Ok(())
    }

    async fn head(&self) -> Result<Head> {
        self.inner.head().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.inner.spawn_committer(committer);
    }
}
