//! The committer: a task of its own, run where the catalog wants it, that commits what was accepted, one batch at a time,
//! and publishes what became durable.

mod hidden_records;
mod answers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future;
use tokio::sync::broadcast;
use tracing::{debug, error, warn};

pub(super) use self::answers::Answers;
use self::answers::Published;
use self::hidden_records::HiddenRecords;
use super::queue::Item;
use super::recovery::Recovered;
use super::{Accepted, Shared, backoff, stopped, unknown};
use crate::catalog::{Batch, Head, Operation, RecordCounts, RecordKey, random};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::Snapshot;

/// How many records of removed jobs are deleted with one batch, so that nobody waits long behind them.
const SWEEP_MAX: usize = 1024;

/// How long to wait before sweeping again after storage refused a batch.
const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// How much of the time of a commit it is worth waiting, at most, for more to go into the next.
const PATIENCE_SHARE: u32 = 8;

/// The longest such wait: nobody notices it beside a commit that takes eight times as long.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

/// How long it takes, about, until the next change of a caller who was answered is in the queue (measured with a million
/// tasks). Callers come one after the other.
const RETURN_TIME: Duration = Duration::from_micros(30);

pub(super) struct Committer {
    shared: Arc<Shared>,
    head: Head,
    hidden: HiddenRecords,
    /// Whether garbage is deleted with the next batch; not for a while after storage refused one.
    sweeping: bool,
    /// How long the last commit took.
    took: Duration,
    /// The last batch, until it is left to those who answer its callers.
    published: Option<Published>,
    /// Before what says that everybody has been answered.
    answers: Answers,
    /// Answers whoever waits and refuses whoever comes, however this ends: a catalog may panic, and the runtime may
    /// end before this has run at all.
    _end: End,
}

enum Outcome {
    Applied,
    /// Certainly not applied; a later batch may be.
    Refused(Error),
    /// Nothing can be committed any more, for this reason; the answer is for those in this batch, which may have
    /// been applied, while nothing behind it can have been.
    Over {
        answer: Error,
        reason: Error,
    },
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered, answers: Answers) -> Self {
        let _end = End(Arc::clone(&shared));
        Self {
            shared,
            head: recovered.head,
            hidden: HiddenRecords::new(recovered.hidden, recovered.orphans),
            sweeping: true,
            took: Duration::ZERO,
            published: None,
            answers,
            _end,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.let_callers_return().await;
            let (items, batch, state) = self.gather();
            self.answers.expect_commit(!items.is_empty());
            // Not before, because those who are answered come for the lock; and where others wait for a commit that begins on
            // the same threads, only behind its beginning.
            if items.is_empty() || !self.answers.share_runtime() {
                self.answer();
            }
            if items.is_empty() && batch.operations().is_empty() {
                if self.is_over() {
                    break;
                }
                if let Some(reason) = self.wait().await {
                    self.shared.end(reason);
                }
                continue;
            }
            let start = Instant::now();
            let outcome = self.commit(&items, &batch).await;
            // Whom nobody has answered yet because nothing was sent.
            self.answer();
            match outcome {
                Outcome::Applied => {
                    self.took = start.elapsed();
                    self.publish(items, &batch, state);
                }
                Outcome::Refused(error) => self.refuse(items, error),
                Outcome::Over { answer, reason } => {
                    self.shared.end(reason.clone());
                    let waiting = self.shared.accepted.lock().queue.drain();
                    fail(items, &answer);
                    fail(waiting, &reason);
                    break;
                }
            }
        }
    }

    /// Answers the callers of the last commit and gives them a moment to come with their next change, so that it goes
    /// with the changes of those who came during that commit. Else busy writers fall into two halves that take turns, and
    /// each waits for two commits.
    ///
    /// It waits only where that is cheap: where all of them can be back, one after the other, within a small share of the
    /// time that the last commit took. Otherwise the next commit starts at once, and they are answered and prepare their
    /// changes beside it.
    async fn let_callers_return(&mut self) {
        let answered = self.published.as_ref().map_or(0, |published| published.items.len());
        let patience = (self.took / PATIENCE_SHARE).min(PATIENCE_MAX);
        let all_return = RETURN_TIME.saturating_mul(u32::try_from(answered).unwrap_or(u32::MAX));
        if answered == 0 || all_return > patience {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let queued = || shared.accepted.lock().queue.len();
        let waiting = queued();
        // One batch takes no more than this, so that a fuller queue gains nothing.
        let enough = (answered + waiting).min(self.shared.limits.operations_max);
        if enough < 2 || waiting >= enough {
            return;
        }
        // Not by the clock that was injected: while a test holds that still, this would go on for ever.
        let end = Instant::now() + patience;
        self.answer();
        loop {
            tokio::task::yield_now().await;
            if queued() >= enough || Instant::now() >= end {
                return;
            }
        }
    }

    fn answer(&mut self) {
        if let Some(published) = self.published.take() {
            self.answers.give(published);
        }
    }

    /// Waits for work, and looks now and then whether the store is still this manager's, because nothing but a
    /// commit would tell an idle one otherwise. Answers why there will be no more work.
    async fn wait(&mut self) -> Option<Error> {
        let retries = !self.sweeping && self.hidden.garbage().next().is_some();
        let patience = if retries { SWEEP_RETRY } else { self.shared.options.head_check };
        if tokio::time::timeout(patience, self.shared.work.notified()).await.is_ok() {
            return None;
        }
        self.sweeping = true;
        match self.shared.catalog.head().await {
            Ok(head) if head.writer != self.head.writer => {
                let message = format!("another writer took the store over at epoch {}", head.epoch);
                Some(Error::new(ErrorKind::Fenced, message))
            }
            // A store that cannot be read now is for the next commit to deal with.
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        let accepted = self.shared.accepted.lock();
        accepted.queue.is_empty() && self.shared.ended.get().is_some()
    }

    /// Takes the next batch from the queue, with the state it leads to, and fills it up with records to sweep.
    fn gather(&mut self) -> (Vec<Item>, Batch, Snapshot) {
        let (items, mut batch, state) = {
            let mut accepted = self.shared.accepted.lock();
            let Accepted { state, queue, .. } = &mut *accepted;
            queue.pop(state)
        };
        if self.sweeping && (!items.is_empty() || self.shared.ended.get().is_none()) {
            for key in self.hidden.garbage().take(SWEEP_MAX) {
                let delete = [Operation::Delete(key)];
                if !batch.contains(key) && batch.fits(&delete) {
                    batch.add(&delete);
                }
            }
        }
        (items, batch.build(), state)
    }

    /// Commits `batch`, settling an unknown outcome by sending it again until something has moved the head: the
    /// batch number in the head then says whose it was, and a late original can no longer apply.
    async fn commit(&mut self, items: &[Item], batch: &Batch) -> Outcome {
        if batch.operations().is_empty() && items.iter().all(|item| item.work.changes.is_none()) {
            return Outcome::Applied;
        }
        let next = match self.next_head(items, batch) {
            Ok(next) => next,
            Err(error) => return Outcome::Refused(error),
        };
        let mut unsettled = false;
        let mut told = String::new();
        self.answers.expect_commit(false);
        for attempt in 0.. {
            let result = self.send(&next, batch).await;
            let catalog = &self.shared.catalog;
            let error = match result {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Fenced => match catalog.head().await {
                    Ok(head) if head == next => break,
                    Ok(head) if head != self.head => {
                        let answer =
                            if unsettled { unsettled_for_good(error.clone()) } else { error.clone() };
                        return Outcome::Over { answer, reason: error };
                    }
                    Ok(_) => error,
                    Err(error) => error,
                },
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => error,
                // Closed behind the manager's back, it will never answer again.
                Err(error) if error.kind() == ErrorKind::Closed => {
                    let answer = if unsettled { unsettled_for_good(error.clone()) } else { error.clone() };
                    return Outcome::Over { answer, reason: error };
                }
                // Damage is not cured by trying again.
                Err(error) if unsettled && error.kind() == ErrorKind::Corrupt => {
                    return Outcome::Over { answer: unsettled_for_good(error.clone()), reason: error };
                }
                Err(error) if unsettled => error,
                Err(error) => return Outcome::Refused(error),
            };
            if let Some(reason) = self.shared.ended.get().filter(|_| unsettled) {
                return Outcome::Over { answer: unsettled_for_good(error), reason: reason.clone() };
            }
            unsettled = true;
            // It is told once, although each attempt may have asked another member of a cluster.
            let message = error.to_string();
            if message == told {
                debug!(revision = %next.revision, attempt, "the outcome of a commit is still unknown: {}", error.chain());
            } else {
                warn!(revision = %next.revision, attempt, "the outcome of a commit is unknown, asking again: {}", error.chain());
                told = message;
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
        self.head = next;
        Outcome::Applied
    }

    /// Has the catalog commit `batch`, and answers the callers of the batch before, where that is not done yet, after the
    /// commit was polled once.
    async fn send(&mut self, next: &Head, batch: &Batch) -> Result<()> {
        let commit = self.shared.catalog.commit(&self.head, next, batch);
        let Some(published) = self.published.take() else { return commit.await };
        let answer = async {
            // The request passes through tasks of the client of a server, and callers who were answered now would be polled
            // before those.
            tokio::task::yield_now().await;
            self.answers.give(published);
        };
        future::join(commit, answer).await.0
    }

    fn next_head(&self, items: &[Item], batch: &Batch) -> Result<Head> {
        let newest = items.iter().rev().find_map(|item| item.work.changes.as_ref());
        let revision = newest.map_or(self.head.revision, |changes| changes.revision);
        let published = self.shared.published.load();
        let mut counts = self.head.counts;
        for operation in batch.operations() {
            let key = operation.key();
            let before = self.hidden.is_stored(key, &published);
            count(&mut counts, key, before, matches!(operation, Operation::Put(..)));
        }
        Ok(Head { batch: random()?, revision, counts, ..self.head })
    }

    fn publish(&mut self, mut items: Vec<Item>, batch: &Batch, state: Snapshot) {
        self.sweeping = true;
        self.hidden.applied(batch, items.iter().map(|item| &item.work));
        let (mut outdated, mut unheard) = (None, Vec::new());
        if items.iter().any(|item| item.work.changes.is_some()) {
            let shared = &self.shared;
            let sender = shared.changes.lock();
            outdated = Some(Snapshot::clone(&shared.published.load()));
            let works = items.iter().map(|item| &item.work);
            shared.heartbeats.publish(&shared.published, state, works, shared.options.clock.monotonic());
            unheard.extend(items.iter_mut().filter_map(|item| item.work.changes.take()));
            if sender.receiver_count() > 0 {
                for changes in unheard.drain(..).map(Arc::new) {
                    // The last who listened may be gone since.
                    let _ = sender.send(changes);
                }
            }
        }
        let published = Published { items, _unheard: unheard, _outdated: outdated };
        self.published = (!published.items.is_empty()).then_some(published);
    }

    /// A batch that storage refused takes every transaction with it that was accepted on top of it.
    fn refuse(&mut self, mut items: Vec<Item>, error: Error) {
        self.sweeping = false;
        let waiting = {
            let mut accepted = self.shared.accepted.lock();
            accepted.state = Snapshot::clone(&self.shared.published.load());
            accepted.queue.drain()
        };
        items.extend(waiting);
        for item in &items {
            self.hidden.abandon(&item.work.abandoned);
        }
        if items.is_empty() {
            warn!("storage refused to sweep what no job claims, trying again later: {}", error.chain());
        }
        let single = items.len() == 1 && error.kind() == ErrorKind::TooLarge;
        // Damage is not cured by trying again.
        let answer = if single || error.kind() == ErrorKind::Corrupt {
            error
        } else {
            Error::with_source(
                ErrorKind::Unavailable,
                "storage refused the change or one before it; nothing was changed, try again",
                error,
            )
        };
        fail(items, &answer);
    }
}

fn fail(items: impl IntoIterator<Item = Item>, error: &Error) {
    for item in items {
        let _ = item.answer.send(Err(error.clone()));
    }
}

fn unsettled_for_good(error: Error) -> Error {
    Error::with_source(ErrorKind::OutcomeUnknown, unknown().to_string(), error)
}

fn count(counts: &mut RecordCounts, key: RecordKey, before: bool, after: bool) {
    if let Some(count) = counts.0.get_mut(key.kind as usize) {
        *count = (*count + u64::from(after)).saturating_sub(u64::from(before));
    }
}

/// Leaves nobody waiting when the committer ends.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("the committer panicked: the meta manager takes no more work");
        }
        let reason = stopped();
        self.0.end(reason.clone());
        // What is still in the queue was never sent. Whoever was in the batch sees the answer dropped, and reads it
        // as an unknown outcome.
        let waiting = self.0.accepted.lock().queue.drain();
        fail(waiting, &reason);
        self.0.accepted.wake_everybody();
        self.0.places.close();
        // Subscribers read what was sent before, and then that nothing more will come.
        *self.0.changes.lock() = broadcast::Sender::new(1);
        self.0.finished.send_replace(true);
    }
}
