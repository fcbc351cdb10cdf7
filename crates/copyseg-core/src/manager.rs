//! The meta manager: the one writer of a store, and the newest committed state for everybody who reads.

mod acceptance;
mod turns;
mod queue;
mod committer;
mod heartbeats;
mod operations;
mod recovery;
mod staging;
mod subscription;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, broadcast, watch};

pub(crate) use self::recovery::lost_rows;
pub use self::subscription::{Changes, Event, Subscription};

use self::acceptance::check_not_in_closure;
use self::committer::{Answers, Committer};
use self::heartbeats::Heartbeats;
use self::queue::{Queue, Work};
use self::turns::Turns;
use crate::catalog::{Catalog, Limits, RecordKey};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::Snapshot;
use crate::time::{Clock, SystemClock, Timestamp};
use crate::txn::Txn;

/// How a [`MetaManager`] runs.
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Refuse to open a store that holds a damaged record, instead of setting the record aside.
    pub strict: bool,
    /// How many jobs may be active at once; `None` for no limit.
    pub active_jobs_max: Option<usize>,
    /// How many transactions may wait to run and to be committed; a further caller waits before them. At least 1.
    pub queue_max: usize,
    /// How many revisions a subscriber may fall behind before it is told that it lagged, from 1 to 65,536. Rounded up
    /// to a power of two.
    pub lag_max: usize,
    /// How often a manager without work looks whether another writer has taken its store over. A busy one is told by
    /// its next commit.
    pub head_check: Duration,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            strict: false,
            active_jobs_max: None,
            queue_max: 4096,
            lag_max: 1024,
            head_check: Duration::from_secs(5),
        }
    }
}

/// The channel to subscribers has this many places at most, all of them allocated when it is made.
const LAG_MAX: usize = 1 << 16;

/// The jobs and tasks of one store: the durable record behind a restore.
///
/// It is the only writer of its store. A call that returned `Ok` is durable; reads come from memory, never wait
/// for storage, and show committed state only. Cloning it is cheap and gives another handle on the same manager.
///
/// Runs on a tokio runtime with time enabled. When the last handle is dropped, what was accepted is still
/// written in the background; [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct MetaManager {
    shared: Arc<Shared>,
    /// Tells the committer when nobody can call any more.
    handle: Arc<Handle>,
}

/// What callers and the committer share.
struct Shared {
    catalog: Arc<dyn Catalog>,
    options: ManagerOptions,
    limits: Limits,
    /// The newest durable state: what every reader sees.
    published: ArcSwap<Snapshot>,
    /// Held while a new state and the changes that led to it are published, so that a subscription starts
    /// exactly between two revisions.
    changes: Mutex<broadcast::Sender<Arc<Changes>>>,
    accepted: Turns<Accepted>,
    places: Arc<Semaphore>,
    work: Notify,
    /// Told of each change that leaves a full batch in the queue.
    full: Notify,
    heartbeats: Heartbeats,
    /// Why nothing more is taken: closed, fenced or stopped. Readers look here without a lock.
    ended: OnceLock<Error>,
    /// Turns true once the committer has answered everybody and ended.
    finished: watch::Sender<bool>,
}

/// The newest state, with every transaction that was accepted and may not be durable yet.
struct Accepted {
    state: Snapshot,
    queue: Queue,
    /// Ids of jobs that are being added in several batches, and of stored tasks whose job was set aside.
    reserved: BTreeSet<RecordKey>,
}

struct Handle(Arc<Shared>);

/// A handle on a [`MetaManager`] that does not keep it running, for tasks that serve it in the background.
#[derive(Debug, Clone)]
pub struct WeakManager(Weak<Handle>);

impl WeakManager {
    /// The manager, unless its last handle was dropped.
    pub fn upgrade(&self) -> Option<MetaManager> {
        let handle = self.0.upgrade()?;
        Some(MetaManager { shared: Arc::clone(&handle.0), handle })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end(closed());
        self.0.work.notify_one();
    }
}

impl MetaManager {
    /// Takes over `catalog`, fencing whoever wrote to it before, and loads its jobs and tasks.
    ///
    /// A record that cannot be decoded is set aside: reported here as a warning and by
    /// [`Snapshot::set_aside`], kept in storage as it is, its id refused with [`ErrorKind::SetAside`]. What no
    /// job claims, left over from an addition or removal that was cut short, is swept in the background.
    ///
    /// A store that an older version wrote is first marked as one of this version, and is refused by that older version
    /// from then on.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if rows were lost, or with [`strict`](ManagerOptions::strict) if one is
    /// damaged; [`Unsupported`](ErrorKind::Unsupported) if a newer version wrote the store, whose owner then keeps it;
    /// [`Fenced`](ErrorKind::Fenced) if another writer took over meanwhile; and what the catalog reports.
    pub async fn open(catalog: Arc<dyn Catalog>, options: ManagerOptions) -> Result<Self> {
        recovery::check_format(&*catalog).await?;
        let head = recovery::acquire(&*catalog).await?;
        let recovered = recovery::recover(&*catalog).await?;
        if recovered.head != head {
            return Err(Error::new(
                ErrorKind::Fenced,
                "open the store: another writer took it over meanwhile",
            ));
        }
        recovered.report(options.strict)?;

        let (changes, _) = broadcast::channel(options.lag_max.clamp(1, LAG_MAX));
        let shared = Arc::new(Shared {
            limits: catalog.limits(),
            published: ArcSwap::from_pointee(recovered.snapshot.clone()),
            changes: Mutex::new(changes),
            accepted: Turns::new(Accepted {
                state: recovered.snapshot.clone(),
                queue: Queue::new(catalog.limits()),
                reserved: recovered.reserved.clone(),
            }),
            places: Arc::new(Semaphore::new(options.queue_max.clamp(1, Semaphore::MAX_PERMITS))),
            work: Notify::new(),
            full: Notify::new(),
            heartbeats: Heartbeats::new(options.clock.monotonic()),
            ended: OnceLock::new(),
            finished: watch::Sender::new(false),
            catalog,
            options,
        });
        let manager = Self { handle: Arc::new(Handle(Arc::clone(&shared))), shared };
        let operations = recovered.records_to_write()?;
        let committer = Committer::new(Arc::clone(&manager.shared), recovered, Answers::start());
        manager.shared.catalog.spawn_committer(Box::pin(committer.run()));
        if !operations.is_empty() {
            manager.shared.submit(Work { operations, ..Work::default() }).await?;
        }
        Ok(manager)
    }

    /// The newest committed state. It never changes under the caller; take a new one to see what came since.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) or [`Fenced`](ErrorKind::Fenced): what this manager knows may be outdated.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.read().map(|state| Snapshot::clone(&state))
    }

    /// The committed changes from now on, by revision, and the state they start from.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) or [`Fenced`](ErrorKind::Fenced).
    pub fn subscribe(&self) -> Result<Subscription> {
        let changes = self.shared.changes.lock();
        let snapshot = self.snapshot()?;
        Ok(Subscription::new(Arc::downgrade(&self.shared), snapshot, changes.subscribe()))
    }

    /// Runs `change` on the newest accepted state and returns once its changes are durable and visible, all of
    /// them or none.
    ///
    /// The closure sees every earlier transaction, also those not yet durable, and runs under a short lock: it
    /// should compute, not wait. An error from it, or a panic, drops its changes. Once it has returned,
    /// dropping this future does not undo the transaction.
    ///
    /// ```
    /// # use copyseg_core::{JobAction, JobState, ManagerOptions, MemoryCatalog, MetaManager, NewJob};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> copyseg_core::Result<()> {
    /// let manager = MetaManager::open(std::sync::Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await?;
    /// let id = manager.add_job(NewJob::default(), vec![]).await?;
    /// // Compare and set: start the job only if it is still pending.
    /// let applied = manager
    ///     .transact(|txn| {
    ///         if txn.job(id).is_none_or(|job| job.state != JobState::Pending) {
    ///             return Ok(false);
    ///         }
    ///         txn.update_job(id, [JobAction::State(JobState::Executing)])?;
    ///         Ok(true)
    ///     })
    ///     .await?;
    /// assert!(applied);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What the closure returned, once the state it saw is durable;
    /// [`Unavailable`](ErrorKind::Unavailable) if storage refused this or an earlier transaction (nothing was
    /// changed, try again); [`TooLarge`](ErrorKind::TooLarge);
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if called from inside another transaction's closure;
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if the manager ended before storage said what became of
    /// it; [`Closed`](ErrorKind::Closed) and [`Fenced`](ErrorKind::Fenced).
    pub async fn transact<T>(&self, change: impl FnOnce(&mut Txn<'_>) -> Result<T>) -> Result<T> {
        check_not_in_closure()?;
        let place = self.shared.place().await?;
        let (result, durable) = self.shared.accept(change, place).await?;
        match durable {
            Some(durable) => durable.await.map_err(|_| unknown())??,
            None => self.shared.check_running()?,
        }
        result
    }

    /// The time on the clock of this manager.
    pub fn now(&self) -> Timestamp {
        self.shared.options.clock.now()
    }

    /// Refuses new work, writes what was accepted, answers every waiting caller, and lets go of the storage.
    /// Closing it again is fine.
    ///
    /// A commit whose outcome storage has not told is asked for once more; if that does not settle it, its
    /// callers are answered with [`ErrorKind::OutcomeUnknown`], and so are those whose commits were made behind it.
    ///
    /// # Errors
    /// What the catalog's own `close` reports; the records are safe all the same.
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) inside the closure of a transaction.
    pub async fn close(&self) -> Result<()> {
        check_not_in_closure()?;
        self.shared.end(closed());
        self.shared.work.notify_one();
        let mut finished = self.shared.finished.subscribe();
        // The sender lives in `shared`, so waiting can only end with the committer's end.
        let _ = finished.wait_for(|finished| *finished).await;
        self.shared.catalog.close().await
    }

    /// A handle that does not keep this manager running.
    ///
    /// ```
    /// # use copyseg_core::{ManagerOptions, MemoryCatalog, MetaManager};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> copyseg_core::Result<()> {
    /// let manager = MetaManager::open(std::sync::Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await?;
    /// let weak = manager.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(manager);
    /// assert!(weak.upgrade().is_none());
    /// # Ok(()) }
    /// ```
    pub fn downgrade(&self) -> WeakManager {
        WeakManager(Arc::downgrade(&self.handle))
    }

    fn read(&self) -> Result<arc_swap::Guard<Arc<Snapshot>>> {
        self.shared.check_running()?;
        Ok(self.shared.published.load())
    }
}

impl fmt::Debug for MetaManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaManager")
            .field("catalog", &self.shared.catalog)
            .field("revision", &self.shared.published.load().revision())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Takes nothing more from now on, for this reason; the first one stays.
    fn end(&self, reason: Error) {
        self.ended.get_or_init(|| reason);
    }

    fn check_running(&self) -> Result<()> {
        match self.ended.get() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the meta manager is closed: open the store again")
}

fn stopped() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the meta manager has stopped, because its runtime ended or its catalog panicked: open the store again",
    )
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the meta manager ended before storage said what became of this change: open the store again and look",
    )
}

/// How long to wait before asking storage again, after `attempts` attempts.
fn backoff(attempts: u32) -> Duration {
    Duration::from_millis(10 << attempts.min(7))
}
