//! What follows the publication of a batch, and is not to hold the next one up.

use tokio::sync::mpsc;

use crate::manager::queue::Item;
use crate::snapshot::Snapshot;

/// A task on the runtime of the manager, where its callers probably are: it answers them while the committer goes on.
pub(in crate::manager) struct Answers(mpsc::UnboundedSender<Published>);

/// What is left to do about a batch that is durable and visible: its callers are answered, and then what is shown no
/// longer is let go of. It takes long, and is done by dropping this.
pub(super) struct Published {
    pub(super) items: Vec<Item>,
    /// The state that is shown no longer.
    pub(super) _outdated: Option<Snapshot>,
}

impl Answers {
    /// The task ends after the committer.
    pub(in crate::manager) fn start() -> Self {
        // Bounded by the places in the queue, which callers keep until they are answered.
        let (sender, mut receiver) = mpsc::unbounded_channel::<Published>();
        tokio::spawn(async move {
            while let Some(mut published) = receiver.recv().await {
                published.answer();
                // Those who were answered go on first, on this thread.
                tokio::task::yield_now().await;
            }
        });
        Self(sender)
    }

    /// Where the runtime has ended, and the task with it, this does its work.
    pub(super) fn give(&self, published: Published) {
        drop(self.0.send(published));
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
