//! A catalog in memory, for tests and for jobs that need not outlive the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::follow::{Committed, Follow, Following};
use super::{Batch, Catalog, Head, Limits, Loaded, Operation, Record, RecordKey, RecordKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id_map::IdMap;

/// A handle on a store in memory. The store lives as long as any handle on it.
///
/// A clone is another open handle on the same store, as another process would have one: closing one leaves the
/// other open, and a clone of a closed handle is how the store is opened again.
///
/// ```
/// use copyseg_core::{Batch, Catalog, ErrorKind, MemoryCatalog};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> copyseg_core::Result<()> {
/// let first = MemoryCatalog::new();
/// let head = first.acquire().await?;
/// first.clone().acquire().await?;
/// let refused = first.commit(&head, &head, &Batch::from_iter([])).await;
/// assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Fenced));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryCatalog {
    store: Arc<Mutex<Store>>,
    limits: Limits,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Store {
    head: Head,
    /// By kind, in load order. A copy costs O(1), so a load is a copy.
    records: [IdMap<i64, Arc<[u8]>>; RecordKind::ALL.len()],
    commits: broadcast::Sender<Committed>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            head: Head::default(),
            records: Default::default(),
            commits: broadcast::Sender::new(HISTORY_MAX),
        }
    }
}

/// How many commits a follower may fall behind before it has to begin anew.
const HISTORY_MAX: usize = 256;

impl MemoryCatalog {
    /// An empty store that takes batches of 10,000 operations and 16 MiB.
    pub fn new() -> Self {
        Self::with_limits(Limits { operations_max: 10_000, bytes_max: 16 << 20, commits_max: 1 })
    }

    /// An empty store that takes batches within `limits`, for testing how a caller keeps to them.
    pub fn with_limits(limits: Limits) -> Self {
        Self { store: Arc::default(), limits, closed: AtomicBool::new(false) }
    }

    /// Starts a call: other tasks get their turn first, as they do while a catalog on disk works.
    async fn enter(&self) -> Result<MutexGuard<'_, Store>> {
        tokio::task::yield_now().await;
        let store = self.store.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "this handle on the store in memory is closed"));
        }
        Ok(store)
    }
}

impl Store {
    fn tell(&self, batch: Batch) {
        // Nobody may be following.
        let _ = self.commits.send(Committed { head: self.head, batch });
    }

    fn loaded(&self) -> Loaded {
        let pages = RecordKind::ALL.into_iter().zip(self.records.clone());
        let pages = pages.map(|(kind, records)| stream::iter(pages_of(kind, records)));
        Loaded { head: self.head, pages: stream::iter(pages).flatten().map(Ok).boxed() }
    }
}

/// The records of one kind, a page at a time.
fn pages_of(kind: RecordKind, records: IdMap<i64, Arc<[u8]>>) -> impl Iterator<Item = Vec<Record>> {
    let mut after = None;
    std::iter::from_fn(move || {
        let record = |(id, bytes): (i64, &Arc<[u8]>)| Record {
            key: RecordKey { kind, id },
            bytes: bytes.to_vec().into(),
        };
        let page: Vec<_> = records.iter_after(after).take(Loaded::PAGE_RECORDS_MAX).map(record).collect();
        after = Some(page.last()?.key.id);
        Some(page)
    })
}

impl Default for MemoryCatalog {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for MemoryCatalog {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), limits: self.limits, closed: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn acquire(&self) -> Result<Head> {
        let mut store = self.enter().await?;
        store.head = store.head.acquired()?;
        store.tell(Batch::from_iter([]));
        Ok(store.head)
    }

    async fn load(&self) -> Result<Loaded> {
        Ok(self.enter().await?.loaded())
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        self.limits.check(batch)?;
        let mut store = self.enter().await?;
        if store.head != *expected {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "the store in memory is at revision {} of epoch {}, not at revision {} of epoch {}: \
                     another writer has moved it",
                    store.head.revision, store.head.epoch, expected.revision, expected.epoch
                ),
            ));
        }
        for operation in batch.operations() {
            match operation {
                Operation::Put(key, bytes) => {
                    store.records[key.kind as usize].insert(key.id, Arc::clone(bytes))
                }
                Operation::Delete(key) => store.records[key.kind as usize].remove(key.id),
            };
        }
        store.head = *next;
        store.tell(batch.clone());
        Ok(())
    }

    async fn head(&self) -> Result<Head> {
        Ok(self.enter().await?.head)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn close(&self) -> Result<()> {
        let _calls_under_way = self.store.lock();
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        drop(tokio::spawn(committer));
    }
}

#[async_trait]
impl Follow for MemoryCatalog {
    async fn follow(&self) -> Result<Following> {
        let store = self.enter().await?;
        let commits = stream::unfold(store.commits.subscribe(), |mut receiver| async move {
            let committed = match receiver.recv().await {
                Ok(committed) => Ok(committed),
                Err(RecvError::Lagged(missed)) => Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("the follower fell behind: {missed} commits are no longer kept"),
                )),
                Err(RecvError::Closed) => return None,
            };
            Some((committed, receiver))
        });
        Ok(Following { loaded: store.loaded(), commits: commits.boxed() })
    }
}
