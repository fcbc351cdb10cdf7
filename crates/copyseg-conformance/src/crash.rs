//! A catalog from which its process can be cut off, as if the process had been killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use copyseg_core::{Batch, Catalog, Error, ErrorKind, Head, Limits, Loaded, Result};
use futures::future::BoxFuture;
use tokio::sync::{RwLock, RwLockReadGuard};

/// Wraps a catalog until a crash: from then on no call reaches the storage, whatever the process still tries.
///
/// What the process holds in memory lives on, so a test can go on to compare it with what is stored. A call after
/// the crash says [`Unavailable`](ErrorKind::Unavailable). To try a crash at every point of an operation, count up
/// the argument of [`crash_after`](Self::crash_after) until the operation ends with [`crashed`](Self::crashed)
/// false.
///
/// ```
/// use std::sync::Arc;
///
/// use copyseg_conformance::CrashCatalog;
/// use copyseg_core::{Catalog, ErrorKind, MemoryCatalog};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> copyseg_core::Result<()> {
/// let storage = MemoryCatalog::new();
/// let process = CrashCatalog::new(Arc::new(storage.clone()));
/// let head = process.acquire().await?;
///
/// process.crash().await?;
/// let refused = process.acquire().await;
/// assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
/// assert_eq!(storage.head().await?, head);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CrashCatalog {
    inner: Arc<dyn Catalog>,
    /// How many calls still get through.
    calls_left: AtomicU64,
    /// Held for reading by calls under way.
    under_way: RwLock<()>,
}

impl CrashCatalog {
    /// Wraps `inner`; every call gets through until a crash.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, calls_left: AtomicU64::new(u64::MAX), under_way: RwLock::new(()) }
    }

    /// Crashes now: waits for calls under way, which still count as made before, and lets go of the storage, so that
    /// another process can open it.
    ///
    /// # Errors
    /// What closing the wrapped catalog returns.
    pub async fn crash(&self) -> Result<()> {
        self.crash_after(0);
        let _none_under_way = self.under_way.write().await;
        self.inner.close().await
    }

    /// Crashes after as many more calls as `calls`. The storage stays open until [`crash`](Self::crash) is called
    /// too.
    pub fn crash_after(&self, calls: u64) {
        self.calls_left.store(calls, Ordering::SeqCst);
    }

    /// Whether no call gets through any more.
    pub fn crashed(&self) -> bool {
        self.calls_left.load(Ordering::SeqCst) == 0
    }

    async fn enter(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let guard = self.under_way.read().await;
        let entered =
            self.calls_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match entered {
            Ok(_) => Ok(guard),
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "planned crash: the storage is out of reach")),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for CrashCatalog {
    async fn acquire(&self) -> Result<Head> {
        let _under_way = self.enter().await?;
        self.inner.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        let _under_way = self.enter().await?;
        self.inner.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        let _under_way = self.enter().await?;
        self.inner.commit(expected, next, batch).await
    }

    async fn head(&self) -> Result<Head> {
        let _under_way = self.enter().await?;
        self.inner.head().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn close(&self) -> Result<()> {
        let _under_way = self.enter().await?;
        self.inner.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.inner.spawn_committer(committer);
    }
}
