//! The batches that were sent, until it is known what became of them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};

use super::Gathered;
use crate::catalog::{Catalog, Head, Operation, RecordKey};
use crate::error::Result;
use crate::manager::queue::Item;

/// Batches in the order in which they are to be applied. Each builds upon the one before it: it is sent with the head that
/// that one leads to, under which alone storage takes it.
pub(super) struct UnderWay {
    catalog: Arc<dyn Catalog>,
    sent: VecDeque<Sent>,
}

pub(super) struct Sent {
    pub(super) gathered: Gathered,
    /// The head that it leads to.
    pub(super) next: Head,
    /// Whether it was sent before it was known that the one it builds upon is applied.
    pub(super) is_ahead: bool,
    pub(super) at: Instant,
    reply: Reply,
}

type Reply = MaybeDone<BoxFuture<'static, Result<()>>>;

impl UnderWay {
    pub(super) fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog, sent: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn first(&self) -> Option<&Sent> {
        self.sent.front()
    }

    pub(super) fn last(&self) -> Option<&Sent> {
        self.sent.back()
    }

    /// Sends a batch behind the others, as soon as a reply is waited for. `applied` is the head that the first one builds
    /// upon.
    pub(super) fn send(&mut self, applied: Head, next: Head, gathered: Gathered) {
        let expected = self.last().map_or(applied, |last| last.next);
        let reply = commit(&self.catalog, expected, next, &gathered);
        self.sent.push_back(Sent { gathered, next, is_ahead: !self.is_empty(), at: Instant::now(), reply });
    }

    /// The reply about the first batch, which comes once.
    pub(super) async fn reply(&mut self) -> Result<()> {
        poll_fn(|context| {
            let mut sent = self.sent.iter_mut().map(|sent| &mut sent.reply);
            let Some(first) = sent.next() else { return Poll::Pending };
            poll(first, context);
            // Before those behind it, which may panic.
            if let Some(reply) = Pin::new(first).take_output() {
                return Poll::Ready(reply);
            }
            sent.for_each(|reply| poll(reply, context));
            Poll::Pending
        })
        .await
    }

    /// Sends the first batch, whose reply has come, once more, and waits for the new one.
    pub(super) async fn send_again(&mut self, applied: Head) -> Result<()> {
        if let Some(first) = self.sent.front_mut() {
            first.reply = commit(&self.catalog, applied, first.next, &first.gathered);
        }
        self.reply().await
    }

    /// Waits for something else while the batches are on their way: they may hold what it waits for.
    pub(super) async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        poll_fn(|context| {
            self.sent.iter_mut().for_each(|sent| poll(&mut sent.reply, context));
            other.as_mut().poll(context)
        })
        .await
    }

    /// Takes out the first batch.
    pub(super) fn take_first(&mut self) -> Option<Sent> {
        self.sent.pop_front()
    }

    /// Whether `head` tells that the first batch was applied, and maybe some behind it.
    pub(super) fn leads_to(&self, head: Head) -> bool {
        self.sent.iter().any(|sent| sent.next == head)
    }

    /// Whether it is known of one behind the first batch that it was applied, which the first one then was as well.
    pub(super) fn is_one_behind_applied(&self) -> bool {
        self.sent.iter().skip(1).any(|sent| matches!(sent.reply, MaybeDone::Done(Ok(()))))
    }

    /// Whether the store holds this record behind all batches, if one of them says so.
    pub(super) fn stores(&self, key: RecordKey) -> Option<bool> {
        self.sent.iter().rev().find_map(|sent| {
            let operations = sent.gathered.batch.operations();
            // Batches are built in the order of keys.
            let place = operations.binary_search_by_key(&key, Operation::key).ok()?;
            Some(matches!(operations[place], Operation::Put(..)))
        })
    }

    /// Takes out all batches, and tells who waits for them. What is on its way yet may still be applied behind those before
    /// it.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item> + use<> {
        std::mem::take(&mut self.sent).into_iter().flat_map(|sent| sent.gathered.items)
    }
}

fn commit(catalog: &Arc<dyn Catalog>, expected: Head, next: Head, gathered: &Gathered) -> Reply {
    let (catalog, batch) = (Arc::clone(catalog), gathered.batch.clone());
    maybe_done(async move { catalog.commit(&expected, &next, &batch).await }.boxed())
}

fn poll(reply: &mut Reply, context: &mut Context<'_>) {
    if !matches!(reply, MaybeDone::Gone) {
        let _ = reply.poll_unpin(context);
    }
}
