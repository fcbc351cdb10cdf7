//! Sends batches, and finds out what becomes of them.

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use futures::future::{self, Either, select};
use tracing::{debug, warn};

use super::under_way::Sent;
use super::{Committer, Gathered, taken_over};
use crate::catalog::{Head, Operation, RecordCounts, RecordKey, random};
use crate::error::{Error, ErrorKind, Result};
use crate::manager::{Accepted, backoff, unknown};

/// The share of the time of a commit after which the next one may be sent, or up to a millisecond later, which is how fine a
/// timer is. Earlier, it would often overtake it.
const AHEAD_SHARE: u32 = 4;

/// What became of the first batch under way.
pub(super) enum Outcome {
    Applied,
    /// Certainly not applied; a later batch may be.
    Refused(Error),
    /// Nothing can be committed any more, for this reason; the answer is for those in this batch and in those under way
    /// behind it, which may have been applied.
    Over {
        answer: Error,
        reason: Error,
    },
}

impl Outcome {
    fn over(reason: Error, unsettled: bool) -> Self {
        let answer = if unsettled { unsettled_for_good(reason.clone()) } else { reason.clone() };
        Self::Over { answer, reason }
    }
}

impl Committer {
    pub(super) fn send(&mut self, batch_number: u64, gathered: Gathered) {
        let next = self.next_head(batch_number, &gathered);
        self.under_way.send(self.head, next, gathered);
    }

    /// Waits until it is known what became of the first batch. An unknown outcome is settled by sending it again until
    /// something has moved the head: the batch number in the head then says whose it was, and a late original can no longer
    /// apply.
    pub(super) async fn outcome(&mut self) -> Outcome {
        let mut result = self.reply().await;
        let Some(&Sent { next: Head { revision, .. }, is_ahead, .. }) = self.under_way.first() else {
            return Outcome::Applied;
        };
        // It came before the one that it builds upon, which is applied by now.
        if is_ahead && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced) {
            result = self.under_way.send_again(self.head).await;
        }
        let (mut unsettled, mut told) = (false, String::new());
        for attempt in 0.. {
            let Err(error) = result else { break };
            // What is fenced was certainly not applied just now.
            let may_be_applied = unsettled || error.kind() != ErrorKind::Fenced;
            let error = match self.conclude(error, unsettled).await {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(error) => error,
            };
            unsettled = may_be_applied;
            if let Some(reason) = self.shared.ended.get().filter(|_| attempt > 0) {
                let answer = if unsettled { unsettled_for_good(error) } else { error };
                return Outcome::Over { answer, reason: reason.clone() };
            }
            // It is told once, although each attempt may have asked another member of a cluster.
            let message = error.to_string();
            if message == told {
                debug!(%revision, attempt, "the outcome of a commit is still unknown: {}", error.chain());
            } else {
                warn!(%revision, attempt, "the outcome of a commit is unknown, asking again: {}", error.chain());
                told = message;
            }
            self.under_way.beside(tokio::time::sleep(backoff(attempt))).await;
            if self.under_way.is_one_behind_applied() {
                break;
            }
            result = self.under_way.send_again(self.head).await;
        }
        Outcome::Applied
    }

    /// What an error says about the first batch; `unsettled` is whether it may have been applied before. With the error it
    /// goes on while that is not known.
    async fn conclude(&mut self, error: Error, unsettled: bool) -> ControlFlow<Outcome, Error> {
        if self.under_way.is_one_behind_applied() {
            return ControlFlow::Break(Outcome::Applied);
        }
        ControlFlow::Break(match error.kind() {
            ErrorKind::Fenced => match self.stored_head().await {
                // Its own, or that of one behind it.
                Ok(head) if self.under_way.leads_to(head) => Outcome::Applied,
                Ok(head) if head != self.head => Outcome::over(error, unsettled),
                Ok(_) => return ControlFlow::Continue(error),
                Err(error) => return ControlFlow::Continue(error),
            },
            // Closed behind the manager's back, it will never answer again.
            ErrorKind::Closed => Outcome::over(error, unsettled),
            // Damage is not cured by trying again.
            ErrorKind::Corrupt if unsettled => Outcome::over(error, unsettled),
            // A store that is full may go on saying so, whoever owns it.
            kind if unsettled || kind == ErrorKind::OutcomeUnknown => match self.stored_head().await {
                Ok(head) if self.under_way.leads_to(head) => Outcome::Applied,
                Ok(head) if head.writer != self.head.writer => {
                    Outcome::Over { answer: unsettled_for_good(error), reason: taken_over(head) }
                }
                _ => return ControlFlow::Continue(error),
            },
            _ => Outcome::Refused(error),
        })
    }

    /// Waits for the reply about the first batch. Meanwhile it sends full ones behind it, and answers the callers of the
    /// batch before, where that is not done yet, after what was sent was polled once.
    async fn reply(&mut self) -> Result<()> {
        self.answers.expect_commit(false);
        loop {
            if self.until_ahead() == Some(Duration::ZERO) {
                self.send_ahead();
            }
            let (until_ahead, full) = (self.until_ahead(), &self.shared.full);
            let reply = async {
                let may_send = async {
                    match until_ahead {
                        Some(Duration::ZERO) => full.notified().await,
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => future::pending().await,
                    }
                };
                match select(pin!(self.under_way.reply()), pin!(may_send)).await {
                    Either::Left((reply, _)) => Some(reply),
                    Either::Right(_) => None,
                }
            };
            let reply = match self.published.take() {
                None => reply.await,
                Some(published) => {
                    let answer = async {
                        // The request passes through tasks of the client of a server, and callers who were answered now
                        // would be polled before those.
                        tokio::task::yield_now().await;
                        self.answers.give(published);
                    };
                    future::join(reply, answer).await.0
                }
            };
            if let Some(reply) = reply {
                return reply;
            }
        }
    }

    /// Sends a full batch behind those under way, if there is one: waiting would add no record to it. Nothing is swept with it,
    /// because those under way may write what is garbage yet.
    fn send_ahead(&mut self) {
        // Without a random number it is sent later, or refused then.
        let Ok(batch_number) = random() else { return };
        let full = {
            let mut accepted = self.shared.accepted.lock();
            let Accepted { state, queue, .. } = &mut *accepted;
            queue.has_full_batch().then(|| queue.pop(state))
        };
        if let Some((items, batch, state)) = full {
            self.send(batch_number, Gathered { items, batch: batch.build(), state });
        }
    }

    /// How long it is until a batch may be sent behind those under way; `None` while there are as many as the catalog takes.
    fn until_ahead(&self) -> Option<Duration> {
        if self.under_way.len() >= self.shared.limits.commits_max {
            return None;
        }
        Some((self.took / AHEAD_SHARE).saturating_sub(self.under_way.last()?.at.elapsed()))
    }

    fn next_head(&self, batch_number: u64, gathered: &Gathered) -> Head {
        let before = self.under_way.last().map_or(self.head, |last| last.next);
        let newest = gathered.items.iter().rev().find_map(|item| item.work.changes.as_ref());
        let revision = newest.map_or(before.revision, |changes| changes.revision);
        let published = self.shared.published.load();
        let mut counts = before.counts;
        for operation in gathered.batch.operations() {
            let key = operation.key();
            let is_stored =
                self.under_way.stores(key).unwrap_or_else(|| self.hidden.is_stored(key, &published));
            count(&mut counts, key, is_stored, matches!(operation, Operation::Put(..)));
        }
        Head { batch: batch_number, revision, counts, ..before }
    }

    async fn stored_head(&mut self) -> Result<Head> {
        self.under_way.beside(self.shared.catalog.head()).await
    }
}

fn count(counts: &mut RecordCounts, key: RecordKey, before: bool, after: bool) {
    if let Some(count) = counts.0.get_mut(key.kind as usize) {
        *count = (*count + u64::from(after)).saturating_sub(u64::from(before));
    }
}

fn unsettled_for_good(error: Error) -> Error {
    Error::with_source(ErrorKind::OutcomeUnknown, unknown().to_string(), error)
}
