//! A catalog that fails on purpose, by the number of the call.

use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::{Batch, Catalog, Error, ErrorKind, Head, Limits, Loaded, Result};
use futures::future::BoxFuture;
use futures::{StreamExt, future};
use parking_lot::Mutex;

/// How a call fails.
///
/// Reads change nothing, so of them each fault makes [`Unavailable`](ErrorKind::Unavailable); the descriptions
/// below are of `acquire` and `commit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is certainly not applied, and says so: [`Unavailable`](ErrorKind::Unavailable).
    Before,
    /// It is applied, but the reply is lost: [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
    After,
    /// The request is lost, so it is not applied: [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
    Lost,
    /// The request is still on its way, [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), and arrives just ahead of
    /// the next `acquire` or `commit`. Whoever reads to learn the outcome is misled.
    Late,
}

impl Fault {
    /// Every fault, for tests that try each.
    pub const ALL: [Self; 4] = [Self::Before, Self::After, Self::Lost, Self::Late];
}

/// The calls that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Catalog::acquire`].
    Acquire,
    /// [`Catalog::load`].
    Load,
    /// One page of a load. After a page that failed no more come.
    Page,
    /// [`Catalog::commit`].
    Commit,
    /// [`Catalog::head`].
    Head,
    /// [`Catalog::close`].
    Close,
}

/// Wraps a catalog and fails the calls that it is told to.
///
/// Calls are numbered from 0, from the moment that a fault is planned. A test that tries a fault at every point of
/// an operation counts up until [`faults_injected`](Self::faults_injected) stays at 0:
///
/// ```
/// use std::sync::Arc;
///
/// use copyseg_conformance::{Fault, FaultyCatalog};
/// use copyseg_core::{Batch, Catalog, MemoryCatalog, Result};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// async fn operation(catalog: &dyn Catalog) -> Result<()> {
///     let head = catalog.acquire().await?;
///     catalog.commit(&head, &head, &Batch::from_iter([])).await
/// }
///
/// for call in 0.. {
///     let catalog = FaultyCatalog::new(Arc::new(MemoryCatalog::new()));
///     catalog.fail_nth(call, Fault::After);
///     let outcome = operation(&catalog).await;
///     if catalog.faults_injected() == 0 {
///         assert!(outcome.is_ok());
///         assert_eq!(call, 2);
///         break;
///     }
///     assert!(outcome.is_err());
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyCatalog {
    inner: Arc<dyn Catalog>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Vec<Planned>,
    late: Vec<Request>,
    calls: u64,
    commits: u64,
    faults_injected: u64,
}

#[derive(Debug)]
struct Planned {
    only: Option<Call>,
    calls_before: u64,
    fault: Fault,
    once: bool,
}

#[derive(Debug)]
enum Request {
    Acquire,
    Commit(Head, Head, Batch),
}

impl FaultyCatalog {
    /// Wraps `inner`, and lets every call through until told otherwise.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Fails the call of this number, whichever it is.
    pub fn fail_nth(&self, call: u64, fault: Fault) {
        self.plan(Planned { only: None, calls_before: call, fault, once: true });
    }

    /// Fails the call of this number among the calls of one kind.
    pub fn fail_nth_of(&self, only: Call, call: u64, fault: Fault) {
        self.plan(Planned { only: Some(only), calls_before: call, fault, once: true });
    }

    /// Fails every call of one kind until [`heal`](Self::heal).
    pub fn fail_every(&self, only: Call, fault: Fault) {
        self.plan(Planned { only: Some(only), calls_before: 0, fault, once: false });
    }

    /// Forgets what was planned. A request that is late still arrives.
    pub fn heal(&self) {
        self.plan.lock().faults.clear();
    }

    /// How many calls were made, failed ones and pages of loads included.
    pub fn calls(&self) -> u64 {
        self.plan.lock().calls
    }

    /// How many commits the catalog has applied, also those whose reply was lost.
    pub fn commits(&self) -> u64 {
        self.plan.lock().commits
    }

    /// How many calls failed because it was planned.
    pub fn faults_injected(&self) -> u64 {
        self.plan.lock().faults_injected
    }

    fn plan(&self, planned: Planned) {
        self.plan.lock().faults.push(planned);
    }

    /// Makes a call that changes the store, or whatever is planned instead.
    async fn write(&self, call: Call, request: Request) -> Result<Head> {
        let fault = self.plan.lock().next(call);
        match fault {
            None => {
                self.deliver_late().await;
                self.deliver(request).await
            }
            Some(Fault::Before) => Err(unavailable(call)),
            Some(Fault::After) => {
                self.deliver_late().await;
                // Whatever the reply was, it is lost.
                let _ = self.deliver(request).await;
                Err(outcome_unknown(call))
            }
            Some(Fault::Lost) => Err(outcome_unknown(call)),
            Some(Fault::Late) => {
                self.plan.lock().late.push(request);
                Err(outcome_unknown(call))
            }
        }
    }

    async fn deliver_late(&self) {
        let late = std::mem::take(&mut self.plan.lock().late);
        for request in late {
            // Nobody waits for the reply any more.
            let _ = self.deliver(request).await;
        }
    }

    async fn deliver(&self, request: Request) -> Result<Head> {
        match request {
            Request::Acquire => self.inner.acquire().await,
            Request::Commit(expected, next, batch) => {
                self.inner.commit(&expected, &next, &batch).await?;
                self.plan.lock().commits += 1;
                Ok(next)
            }
        }
    }

    fn check_read(&self, call: Call) -> Result<()> {
        self.plan.lock().next(call).map_or(Ok(()), |_| Err(unavailable(call)))
    }
}

impl Plan {
    /// Counts a call, and says how it is to fail.
    fn next(&mut self, call: Call) -> Option<Fault> {
        self.calls += 1;
        let mut due = None;
        self.faults.retain_mut(|planned| {
            let concerned = planned.only.is_none_or(|only| only == call);
            if !concerned {
                return true;
            }
            if planned.calls_before > 0 {
                planned.calls_before -= 1;
                return true;
            }
            due = due.or(Some(planned.fault));
            !planned.once
        });
        self.faults_injected += u64::from(due.is_some());
        due
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for FaultyCatalog {
    async fn acquire(&self) -> Result<Head> {
        self.write(Call::Acquire, Request::Acquire).await
    }

    async fn load(&self) -> Result<Loaded> {
        self.check_read(Call::Load)?;
        let loaded = self.inner.load().await?;
        let plan = Arc::clone(&self.plan);
        let pages = loaded.pages.scan(false, move |failed, page| {
            let page = match plan.lock().next(Call::Page) {
                _ if *failed => None,
                None => Some(page),
                Some(_) => {
                    *failed = true;
                    Some(Err(unavailable(Call::Page)))
                }
            };
            future::ready(page)
        });
        Ok(Loaded { head: loaded.head, pages: pages.boxed() })
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        let request = Request::Commit(*expected, *next, batch.clone());
        self.write(Call::Commit, request).await.map(|_| ())
    }

    async fn head(&self) -> Result<Head> {
        self.check_read(Call::Head)?;
        self.inner.head().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn close(&self) -> Result<()> {
        self.check_read(Call::Close)?;
        self.inner.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.inner.spawn_committer(committer);
    }
}

fn unavailable(call: Call) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("planned fault: {call:?} did not reach the storage; try again"),
    )
}

fn outcome_unknown(call: Call) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, format!("planned fault: the storage did not answer to {call:?}"))
}
