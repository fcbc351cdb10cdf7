//! Committed changes by revision, for whoever reacts instead of polling.

use std::sync::{Arc, Weak};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Shared, closed};
use crate::catalog::Revision;
use crate::error::Result;
use crate::id::{JobId, TaskId};
use crate::job::Job;
use crate::snapshot::Snapshot;
use crate::task::Task;

/// What one transaction changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The revision of the transaction.
    pub revision: Revision,
    /// The jobs it changed, as they are now; `None` was removed.
    pub jobs: Vec<(JobId, Option<Arc<Job>>)>,
    /// The tasks it changed, as they are now; `None` was removed.
    pub tasks: Vec<(TaskId, Option<Arc<Task>>)>,
}

/// What a [`Subscription`] yields.
#[derive(Debug, Clone)]
pub enum Event {
    /// The next transaction.
    Changes(Arc<Changes>),
    /// The subscriber fell too far behind and missed transactions. This is the state to go on from.
    Lagged(Snapshot),
}

/// The committed changes since [`snapshot`](Self::snapshot), one transaction after the other without a gap.
///
/// A subscriber that falls behind costs a bounded amount of memory and is told so.
#[derive(Debug)]
pub struct Subscription {
    manager: Weak<Shared>,
    snapshot: Snapshot,
    /// The revision of what was yielded last.
    revision: Revision,
    changes: broadcast::Receiver<Arc<Changes>>,
}

impl Subscription {
    pub(super) fn new(
        manager: Weak<Shared>,
        snapshot: Snapshot,
        changes: broadcast::Receiver<Arc<Changes>>,
    ) -> Self {
        Self { manager, revision: snapshot.revision(), snapshot, changes }
    }

    /// The state at which the subscription began.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Waits for the next transaction. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) or [`Fenced`](crate::ErrorKind::Fenced) once the manager has ended
    /// and everything it committed was yielded.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            match self.changes.recv().await {
                Ok(changes) if changes.revision <= self.revision => {}
                Ok(changes) => {
                    self.revision = changes.revision;
                    return Ok(Event::Changes(changes));
                }
                Err(RecvError::Lagged(_)) => {
                    let manager = self.manager.upgrade().ok_or_else(closed)?;
                    // What is still kept is older than the snapshot; left there, it would make the very next
                    // change a lag again.
                    self.changes = self.changes.resubscribe();
                    let snapshot = Snapshot::clone(&manager.published.load());
                    self.revision = snapshot.revision();
                    return Ok(Event::Lagged(snapshot));
                }
                Err(RecvError::Closed) => {
                    let ended = self.manager.upgrade().and_then(|manager| manager.ended.get().cloned());
                    return Err(ended.unwrap_or_else(closed));
                }
            }
        }
    }
}
