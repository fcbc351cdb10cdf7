//! What follows the publication of a batch, and is not to hold the next one up.

use super::Item;
use crate::snapshot::Snapshot;

/// What is left to do about a batch that is durable and visible: its callers are answered, and then what is shown no
/// longer is let go of. It takes long, and is done by dropping this, where there is a next batch while storage works on it.
#[derive(Default)]
pub(super) struct Published {
    pub(super) items: Vec<Item>,
    /// States that are shown no longer, or never were.
    pub(super) outdated: Vec<Snapshot>,
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
        self.outdated.clear();
    }
}
