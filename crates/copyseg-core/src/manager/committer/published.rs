//! What follows the publication of a batch, and is not to hold the next one up.

use crate::manager::queue::Item;
use crate::snapshot::Snapshot;

/// What is left to do about a batch that is durable and visible: its callers are answered, and then what is shown no
/// longer is let go of. It takes long, and is done by dropping this, where there is a next batch while storage works on it.
#[derive(Default)]
pub(super) struct Published {
    pub(super) items: Vec<Item>,
    /// The state that is shown no longer.
    pub(super) _outdated: Option<Snapshot>,
}

impl Published {
    pub(super) fn answer(&mut self) {
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
