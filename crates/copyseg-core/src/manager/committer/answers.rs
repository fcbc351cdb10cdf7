//! What follows the publication of a batch, and is not to hold the next one up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

use crate::manager::Changes;
use crate::manager::queue::Item;
use crate::snapshot::Snapshot;

/// Leaves the callers of a batch to a task on the runtime of the manager, where they probably are. Whom it has not
/// answered when this is dropped, this answers.
pub(in crate::manager) struct Answers(Arc<Waiting>);

/// What is left to do about a batch that is durable and visible: its callers are answered, and then what is not
/// needed any more is let go of, which takes long.
pub(super) struct Published {
    pub(super) items: Vec<Item>,
    /// The changes, where nobody listens.
    pub(super) _unheard: Vec<Changes>,
    /// The state that is shown no longer.
    pub(super) _outdated: Option<Snapshot>,
}

struct Waiting {
    /// Where callers are answered.
    runtime: Id,
    /// `None` once the task or the committer has ended, after which whoever comes is answered at once. They answer under
    /// this lock, so that nobody is still being answered at that end.
    published: Mutex<Option<Vec<Published>>>,
    more: Notify,
    /// Whether a commit is about to begin.
    commit_is_expected: AtomicBool,
}

impl Answers {
    /// Starts the task, which ends after the committer.
    pub(in crate::manager) fn start() -> Self {
        let waiting = Arc::new(Waiting {
            runtime: Handle::current().id(),
            published: Mutex::new(Some(Vec::new())),
            more: Notify::new(),
            commit_is_expected: AtomicBool::new(false),
        });
        // The runtime may end before the committer, and drops the task then.
        let task = EndsWaiting(Arc::clone(&waiting));
        tokio::spawn(async move { task.0.answer().await });
        Self(waiting)
    }

    /// Whether callers are answered on the runtime of the task that asks, whose threads they share then.
    pub(super) fn share_runtime(&self) -> bool {
        Handle::current().id() == self.0.runtime
    }

    /// Says whether a commit is about to begin. The thread that answers may take the processor of the committer away when it
    /// is woken; callers would then make their next changes before that commit, instead of beside it.
    pub(super) fn expect_commit(&self, is_expected: bool) {
        self.0.commit_is_expected.store(is_expected, Ordering::Relaxed);
    }

    pub(super) fn give(&self, published: Published) {
        let refused = match &mut *self.0.published.lock() {
            Some(waiting) => {
                waiting.push(published);
                None
            }
            None => Some(published),
        };
        drop(refused);
        self.0.more.notify_one();
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.end();
        self.0.more.notify_one();
    }
}

struct EndsWaiting(Arc<Waiting>);

impl Drop for EndsWaiting {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Waiting {
    async fn answer(&self) {
        loop {
            // Offered once, because strangers may have it longer than the committer, and only where this thread was so
            // early that it probably runs in the committer's place.
            if self.commit_is_expected.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let Some(answered) = self.answer_all() else { return };
            if answered.is_empty() {
                self.more.notified().await;
            } else {
                // Those who were answered go on first, on this thread.
                tokio::task::yield_now().await;
            }
        }
    }

    /// `None` after the end.
    fn answer_all(&self) -> Option<Vec<Published>> {
        let mut waiting = self.published.lock();
        let mut answered = std::mem::take(waiting.as_mut()?);
        answered.iter_mut().for_each(Published::answer);
        Some(answered)
    }

    fn end(&self) {
        let rest = {
            let mut waiting = self.published.lock();
            let mut rest = waiting.take();
            rest.iter_mut().flatten().for_each(Published::answer);
            rest
        };
        drop(rest);
    }
}

impl Published {
    fn answer(&mut self) {
        for item in self.items.drain(..) {
            // A caller that is gone does not undo its transaction.
            let _ = item.answer.send(Ok(()));
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.answer();
    }
}
