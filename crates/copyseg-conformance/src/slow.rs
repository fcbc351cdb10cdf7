//! A catalog whose commits take time, or wait for a test to let them go on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{Batch, Catalog, Head, Limits, Loaded, Result};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// Wraps a catalog and holds its commits up, before they reach it; other calls pass.
///
/// ```
/// use std::sync::Arc;
///
/// use copyseg_conformance::SlowCatalog;
/// use copyseg_core::{Batch, Catalog, Head, MemoryCatalog, Revision};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> copyseg_core::Result<()> {
/// let catalog = Arc::new(SlowCatalog::new(Arc::new(MemoryCatalog::new())));
/// let head = catalog.acquire().await?;
/// let next = Head { revision: Revision(1), ..head };
///
/// catalog.hold_commits();
/// let committing = Arc::clone(&catalog);
/// let commit = tokio::spawn(async move { committing.commit(&head, &next, &Batch::from_iter([])).await });
/// catalog.commit_held().await;
/// assert_eq!(catalog.head().await?, head);
///
/// catalog.release_commits();
/// commit.await.expect("the commit does not panic")?;
/// assert_eq!(catalog.head().await?, next);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SlowCatalog {
    inner: Arc<dyn Catalog>,
    delay: Duration,
    gate: watch::Sender<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    waiting: usize,
}

impl SlowCatalog {
    /// Wraps `inner`; commits pass until [`hold_commits`](Self::hold_commits).
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self::with_delay(inner, Duration::ZERO)
    }

    /// Wraps `inner`; every commit takes at least `delay`, in Tokio's time.
    pub fn with_delay(inner: Arc<dyn Catalog>, delay: Duration) -> Self {
        Self { inner, delay, gate: watch::Sender::new(Gate::default()) }
    }

    /// Holds every commit that comes from now on.
    pub fn hold_commits(&self) {
        self.gate.send_modify(|gate| gate.closed = true);
    }

    /// Lets the commits that are held, and all later ones, pass.
    pub fn release_commits(&self) {
        self.gate.send_modify(|gate| gate.closed = false);
    }

    /// Waits until a commit is being held.
    pub async fn commit_held(&self) {
        self.commits_held(1).await;
    }

    /// Waits until so many commits are being held at once, or more.
    pub async fn commits_held(&self, count: usize) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.gate.subscribe().wait_for(|gate| gate.closed && gate.waiting >= count).await;
    }

    async fn pass_gate(&self) {
        let _waiting = Waiting::new(&self.gate);
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.gate.subscribe().wait_for(|gate| !gate.closed).await;
    }
}

/// Counts a commit as waiting for as long as it lives, also when its caller drops it.
struct Waiting<'a>(&'a watch::Sender<Gate>);

impl<'a> Waiting<'a> {
    fn new(gate: &'a watch::Sender<Gate>) -> Self {
        gate.send_modify(|gate| gate.waiting += 1);
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|gate| gate.waiting -= 1);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for SlowCatalog {
    async fn acquire(&self) -> Result<Head> {
        self.inner.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        self.inner.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        self.pass_gate().await;
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.inner.commit(expected, next, batch).await
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
