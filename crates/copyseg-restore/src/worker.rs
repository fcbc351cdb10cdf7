//! What a worker is: it copies the segments of one task, and says how it goes.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{Claim, Job, MetaManager, Task};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::failure::Failure;
use crate::request::RestoreProgress;

/// Copies segments. The engine hands it tasks, many at once, and deals with what fails.
#[async_trait]
pub trait Worker: fmt::Debug + Send + Sync {
    /// Copies every segment of the assignment; `Ok` means that they are durable and verified. It is recorded together with
    /// others, up to half a second later, or a quarter of the heartbeat timeout if that is less; if the process is killed
    /// meanwhile, the next run has them copied again.
    ///
    /// The future may be dropped at any await. A later attempt at the same task writes the same files again.
    ///
    /// # Errors
    /// A [`Failure`] that says whether to try again, to call an operator, or to give up the job.
    async fn copy(&self, assignment: &Assignment) -> Result<(), Failure>;
}

/// One attempt at one task, as a worker sees it. Cheap to clone.
#[derive(Clone)]
pub struct Assignment(Arc<Inner>);

struct Inner {
    manager: MetaManager,
    job: Arc<Job>,
    task: Arc<Task>,
    claim: Claim,
    slots: Arc<Slots>,
    slots_max: usize,
    /// The slot with which the attempt began.
    first_slot: Mutex<Option<OwnedSemaphorePermit>>,
    /// Objects that this attempt is working on; a beat is owed by them alone.
    active: AtomicUsize,
    beat_interval: Duration,
    /// Bytes that are counted in `progress`, and not for good.
    copied: AtomicU64,
    progress: watch::Sender<RestoreProgress>,
    staging: Arc<str>,
}

/// What tells of an attempt from a thread that may hang, without keeping the attempt: once that is lost, it tells nothing.
pub(crate) struct Reporter(Weak<Inner>);

/// The right to work on one object, until it is dropped.
pub struct Slot {
    assignment: Assignment,
    _permit: OwnedSemaphorePermit,
}

/// What the attempts of one run share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) manager: MetaManager,
    pub(crate) slots: Arc<Slots>,
    pub(crate) slots_max: usize,
    pub(crate) beat_interval: Duration,
    pub(crate) progress: watch::Sender<RestoreProgress>,
    /// The folder of the run for what is unfinished.
    pub(crate) staging: Arc<str>,
}

/// The objects that may be in flight.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    /// Objects that wait for a slot, of attempts that have begun.
    waiting: AtomicUsize,
    none_waits: Notify,
    /// Held by the one attempt that waits for a slot to begin: tasks are begun one after the other.
    next_to_begin: tokio::sync::Mutex<()>,
}

struct Waiting<'a>(&'a Slots);

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            waiting: AtomicUsize::new(0),
            none_waits: Notify::new(),
            next_to_begin: tokio::sync::Mutex::default(),
        }
    }

    async fn take(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed; were it, nothing could be copied any more.
            Err(_) => std::future::pending().await,
        }
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_waits.notify_waiters();
        }
    }
}

impl Assignment {
    pub(crate) fn new(shared: Shared, job: Arc<Job>, task: Arc<Task>, claim: Claim) -> Self {
        let Shared { manager, slots, slots_max, beat_interval, progress, staging } = shared;
        Self(Arc::new(Inner {
            manager,
            job,
            task,
            claim,
            slots,
            slots_max,
            first_slot: Mutex::default(),
            active: AtomicUsize::new(0),
            beat_interval,
            copied: AtomicU64::new(0),
            progress,
            staging,
        }))
    }

    /// The job, as it was when the run began.
    pub fn job(&self) -> &Job {
        &self.0.job
    }

    /// The task and its segments.
    pub fn task(&self) -> &Task {
        &self.0.task
    }

    pub(crate) fn staging(&self) -> &str {
        &self.0.staging
    }

    /// How many objects the whole restore may have in flight.
    pub fn objects_in_flight(&self) -> usize {
        self.0.slots_max
    }

    /// Waits until one more object may be in flight. Every object, and every listing, is to hold a slot. No other task is
    /// begun while this waits, so that few are half done at any time.
    pub async fn slot(&self) -> Slot {
        let first = self.0.first_slot.lock().take();
        let permit = match first {
            Some(permit) => permit,
            None => {
                let _waiting = self.0.slots.wait();
                self.beating(self.0.slots.take()).await
            }
        };
        self.0.active.fetch_add(1, Ordering::Relaxed);
        self.beat();
        Slot { assignment: self.clone(), _permit: permit }
    }

    /// Says that the attempt is alive. One that is silent for the heartbeat timeout loses its task.
    pub fn beat(&self) {
        // An attempt that is over learns it when it reports.
        let _ = self.0.manager.heartbeat(self.0.claim);
    }

    /// Says that `bytes` more bytes are copied, and that the attempt is alive.
    pub fn copied(&self, bytes: u64) {
        self.beat();
        self.0.copied.fetch_add(bytes, Ordering::Relaxed);
        self.0.progress.send_modify(|progress| progress.bytes_copied += bytes);
    }

    pub(crate) fn reporter(&self) -> Reporter {
        Reporter(Arc::downgrade(&self.0))
    }

    /// Says that the task is completed, so that what was [`copied`](Self::copied) stays counted.
    pub(crate) fn keep_copied(&self) {
        self.0.copied.store(0, Ordering::Relaxed);
    }

    /// Waits until it may begin, with a slot that is kept for its first object: those that have begun leave one free.
    pub(crate) async fn wait_to_begin(&self) {
        let slots = &self.0.slots;
        let first = self.beating(async {
            let _next = slots.next_to_begin.lock().await;
            loop {
                let none_waits = slots.none_waits.notified();
                if slots.waiting.load(Ordering::SeqCst) > 0 {
                    none_waits.await;
                }
                let slot = slots.take().await;
                // Others came while it waited: they are first.
                if slots.waiting.load(Ordering::SeqCst) == 0 {
                    return slot;
                }
            }
        });
        *self.0.first_slot.lock() = Some(first.await);
    }

    /// Gives back the slot with which it began, if it was never used, and is heard of once more.
    pub(crate) fn leave_slots(&self) {
        self.0.first_slot.lock().take();
        self.beat();
    }

    /// Waiting for others is not silence. While an object of this attempt is in flight it speaks for itself, so that
    /// one that hangs is noticed.
    pub(crate) async fn beating<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                biased;
                done = &mut wait => return done,
                () = tokio::time::sleep(self.0.beat_interval) => {
                    if self.0.active.load(Ordering::Relaxed) == 0 {
                        self.beat();
                    }
                }
            }
        }
    }
}

impl Reporter {
    /// [`Assignment::beat`].
    pub(crate) fn beat(&self) {
        if let Some(assignment) = self.0.upgrade().map(Assignment) {
            assignment.beat();
        }
    }

    /// [`Assignment::copied`].
    pub(crate) fn copied(&self, bytes: u64) {
        if let Some(assignment) = self.0.upgrade().map(Assignment) {
            assignment.copied(bytes);
        }
    }
}

impl Drop for Inner {
    /// What an attempt copied in vain is copied again.
    fn drop(&mut self) {
        let in_vain = *self.copied.get_mut();
        self.progress.send_if_modified(|progress| {
            progress.bytes_copied = progress.bytes_copied.saturating_sub(in_vain);
            in_vain > 0
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.assignment.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}", self.0.claim, self.0.job.id)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot of {:?}", self.assignment)
    }
}
