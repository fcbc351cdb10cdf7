//! Acceptance: a change waits for its place in the queue, runs on the accepted state, and is left to the committer.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::queue::{Item, Work};
use super::{Accepted, Shared, closed, unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::Snapshot;
use crate::txn::{Txn, WriteSet};

/// Says once what became of what was accepted.
pub(super) type Durable = oneshot::Receiver<Result<()>>;

impl Shared {
    /// A place in the queue. Waiting for it is how a full queue slows callers down.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| self.ended.get().cloned().unwrap_or_else(closed))
    }

    /// Runs a closure on the accepted state and queues what it leaves. The inner result is the closure's own, to
    /// be given out once the receiver says that the state it saw is durable.
    pub(super) async fn accept<T>(
        &self,
        change: impl FnOnce(&mut Txn<'_>) -> Result<T>,
        place: OwnedSemaphorePermit,
    ) -> Result<(Result<T>, Option<Durable>)> {
        let mut accepted = self.accepted.turn().await;
        let accepted = &mut *accepted;
        self.check_running()?;
        let mut txn = Txn::new(
            &mut accepted.state,
            &mut accepted.reserved,
            self.options.active_jobs_max,
            self.options.clock.now(),
        );
        IN_CLOSURE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| change(&mut txn)));
        IN_CLOSURE.set(false);
        let (result, writes) = match outcome {
            Ok(Ok(value)) => match txn.finish(self.limits) {
                Ok(writes) => (Ok(value), writes),
                Err(error) => (Err(error), None),
            },
            Ok(Err(error)) => {
                drop(txn);
                (Err(error), None)
            }
            Err(panic) => {
                drop(txn);
                resume_unwind(panic);
            }
        };
        let published = self.published.load();
        let durable = match writes {
            Some(writes) => Some(accepted.take(writes, place)),
            None if accepted.state.revision() == published.revision() => {
                // What was undone is the same again, in nodes of its own.
                accepted.state = Snapshot::clone(&published);
                None
            }
            None => Some(accepted.enqueue(Work::default(), place)),
        };
        if durable.is_some() {
            self.tell_committer(accepted);
        }
        Ok((result, durable))
    }

    /// Queues work that changes nothing visible, and waits until it is durable.
    pub(super) async fn submit(&self, work: Work) -> Result<()> {
        let place = self.place().await?;
        let durable = {
            let mut accepted = self.accepted.turn().await;
            self.check_running()?;
            let durable = accepted.enqueue(work, place);
            self.tell_committer(&accepted);
            durable
        };
        durable.await.map_err(|_| unknown())?
    }

    fn tell_committer(&self, accepted: &Accepted) {
        self.work.notify_one();
        if accepted.queue.has_full_batch() {
            self.full.notify_one();
        }
    }
}

impl Accepted {
    fn take(&mut self, writes: WriteSet, place: OwnedSemaphorePermit) -> Durable {
        let WriteSet { before, operations, changes, claimed, orphaned, adopted } = writes;
        let work = Work { operations, changes: Some(changes), claimed, orphaned, adopted, ..Work::default() };
        let (item, durable) = waiting(work, place);
        self.queue.push(item, || {
            let mut state_before = self.state.clone();
            state_before.undo(&before);
            state_before
        });
        durable
    }

    fn enqueue(&mut self, work: Work, place: OwnedSemaphorePermit) -> Durable {
        let (item, durable) = waiting(work, place);
        self.queue.push(item, || self.state.clone());
        durable
    }
}

fn waiting(work: Work, place: OwnedSemaphorePermit) -> (Item, Durable) {
    let (answer, durable) = oneshot::channel();
    (Item { work, answer, _place: place }, durable)
}

thread_local! {
    static IN_CLOSURE: Cell<bool> = const { Cell::new(false) };
}

/// The closure holds the lock that every change waits for.
pub(super) fn check_not_in_closure() -> Result<()> {
    if IN_CLOSURE.get() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "the meta manager was called inside the closure of a transaction: use the closure's own `txn`",
        ));
    }
    Ok(())
}
