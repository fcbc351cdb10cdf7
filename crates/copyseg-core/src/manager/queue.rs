//! What was accepted and is not committed yet, in the batches it will be committed in.

mod batch_builder;

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub(super) use self::batch_builder::BatchBuilder;
use super::Changes;
use crate::catalog::{Limits, Operation};
use crate::error::Result;
use crate::id::TaskId;
use crate::snapshot::Snapshot;

/// One entry of the queue.
pub(super) struct Item {
    pub(super) work: Work,
    pub(super) answer: oneshot::Sender<Result<()>>,
    pub(super) _place: OwnedSemaphorePermit,
}

/// What has to become durable together.
#[derive(Default)]
pub(super) struct Work {
    /// The records it writes; empty for a caller that only waits for what came before.
    pub(super) operations: Vec<Operation>,
    /// What it makes visible; `None` for staged records, which nobody sees yet.
    pub(super) changes: Option<Changes>,
    /// Tasks that it gives to a worker, who may have given them back.
    pub(super) claimed: Vec<TaskId>,
    /// Tasks that it makes invisible without deleting their records.
    pub(super) orphaned: Vec<TaskId>,
    /// Tasks that it makes visible without writing their records.
    pub(super) adopted: Vec<TaskId>,
    /// Staged records that will never be adopted.
    pub(super) abandoned: Vec<TaskId>,
}

/// Items in the order in which they were accepted. Where one batch ends and the next begins is settled here already, so
/// that of all the states between them only the last of each batch is kept.
pub(super) struct Queue {
    limits: Limits,
    /// All but the last are full.
    batches: VecDeque<Pending>,
}

/// What goes into one batch.
struct Pending {
    items: Vec<Item>,
    batch: BatchBuilder,
    /// The accepted state behind the last item; `None` while more may come.
    state: Option<Snapshot>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, batches: VecDeque::new() }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(|pending| pending.items.len()).sum()
    }

    /// Whether the first batch takes no further record, or did not take the next change.
    pub(super) fn has_full_batch(&self) -> bool {
        self.batches.len() > 1 || self.batches.front().is_some_and(|first| first.batch.is_full())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Puts an item into the last batch. Where it has no room, that batch ends with `state_before` the item, and the item
    /// goes into a new one.
    pub(super) fn push(&mut self, item: Item, state_before: impl FnOnce() -> Snapshot) {
        match self.batches.back_mut() {
            Some(last) if last.batch.fits(&item.work.operations) => last.add(item),
            last => {
                if let Some(full) = last {
                    full.state = Some(state_before());
                }
                let mut next = Pending::new(self.limits);
                next.add(item);
                self.batches.push_back(next);
            }
        }
    }

    /// Takes the first batch, and the state behind it, which is the `accepted` one where nothing follows.
    pub(super) fn pop(&mut self, accepted: &Snapshot) -> (Vec<Item>, BatchBuilder, Snapshot) {
        let first = self.batches.pop_front().unwrap_or_else(|| Pending::new(self.limits));
        (first.items, first.batch, first.state.unwrap_or_else(|| accepted.clone()))
    }

    /// Takes all items out, and the states between them, to be dropped with the iterator.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item> + use<> {
        std::mem::take(&mut self.batches).into_iter().flat_map(|pending| pending.items)
    }
}

impl Pending {
    fn new(limits: Limits) -> Self {
        Self { items: Vec::new(), batch: BatchBuilder::new(limits), state: None }
    }

    fn add(&mut self, item: Item) {
        self.batch.add(&item.work.operations);
        self.items.push(item);
    }
}
