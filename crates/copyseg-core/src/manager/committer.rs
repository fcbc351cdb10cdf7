//! The committer: a task of its own, run where the catalog wants it, that commits what was accepted, in batches, and
//! publishes what became durable, in the order in which it was accepted.

mod hidden_records;
mod under_way;
mod sending;
mod answers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tracing::{error, warn};

pub(super) use self::answers::Answers;
use self::answers::Published;
use self::hidden_records::HiddenRecords;
use self::sending::Outcome;
use self::under_way::UnderWay;
use super::queue::Item;
use super::recovery::Recovered;
use super::{Accepted, Shared, stopped};
use crate::catalog::{Batch, Head, Operation, random};
use crate::error::{Error, ErrorKind};
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
    /// Of the last batch that was applied.
    head: Head,
    under_way: UnderWay,
    hidden: HiddenRecords,
    /// Whether garbage is deleted with the next batch that is not sent ahead; not for a while after storage refused one.
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

/// What is to become durable together, for whom, and the state it leads to.
struct Gathered {
    items: Vec<Item>,
    batch: Batch,
    state: Snapshot,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered, answers: Answers) -> Self {
        let _end = End(Arc::clone(&shared));
        Self {
            under_way: UnderWay::new(Arc::clone(&shared.catalog)),
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
            if self.under_way.is_empty() {
                if self.begin().await {
                    continue;
                }
                break;
            }
            if !self.answers.share_runtime() {
                self.answer();
            }
            match self.outcome().await {
                Outcome::Applied => self.publish_first(),
                Outcome::Refused(error) => {
                    if let Some(sent) = self.under_way.take_first() {
                        self.refuse(sent.gathered, error);
                    }
                }
                Outcome::Over { answer, reason } => {
                    self.shared.end(reason.clone());
                    let waiting = self.shared.accepted.lock().queue.drain();
                    fail(self.under_way.drain(), &answer);
                    fail(waiting, &reason);
                    break;
                }
            }
        }
    }

    /// Sends the next batch while none is under way, or waits for work; whether there may be more.
    async fn begin(&mut self) -> bool {
        self.let_callers_return().await;
        let gathered = self.gather();
        self.answers.expect_commit(!gathered.items.is_empty());
        // Not before, because those who are answered come for the lock; and where others wait for a commit that begins on the
        // same threads, only behind its beginning.
        if gathered.items.is_empty() || gathered.stores_nothing() || !self.answers.share_runtime() {
            self.answer();
        }
        if !gathered.stores_nothing() {
            match random() {
                Ok(batch_number) => self.send(batch_number, gathered),
                Err(error) => {
                    self.answer();
                    self.refuse(gathered, error);
                }
            }
        } else if !gathered.items.is_empty() {
            self.publish(gathered);
        } else if self.is_over() {
            return false;
        } else if let Some(reason) = self.wait().await {
            self.shared.end(reason);
        }
        true
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
            Ok(head) if head.writer != self.head.writer => Some(taken_over(head)),
            // A store that cannot be read now is for the next commit to deal with.
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        let accepted = self.shared.accepted.lock();
        accepted.queue.is_empty() && self.shared.ended.get().is_some()
    }

    /// Takes the next batch from the queue, with the state it leads to, and fills it up with records to sweep.
    fn gather(&mut self) -> Gathered {
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
        Gathered { items, batch: batch.build(), state }
    }

    fn publish_first(&mut self) {
        if let Some(sent) = self.under_way.take_first() {
            self.head = sent.next;
            self.took = sent.at.elapsed();
            self.publish(sent.gathered);
        }
    }

    fn publish(&mut self, Gathered { mut items, batch, state }: Gathered) {
        self.sweeping = true;
        self.hidden.applied(&batch, items.iter().map(|item| &item.work));
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

    /// A batch that storage refused takes every transaction with it that was accepted on top of it: those in the batches
    /// behind it, and of the queue. Nothing builds upon one that only swept.
    fn refuse(&mut self, refused: Gathered, error: Error) {
        self.sweeping = false;
        if refused.items.is_empty() {
            warn!("storage refused to sweep what no job claims, trying again later: {}", error.chain());
            if self.under_way.is_empty() {
                return;
            }
        }
        let is_alone = refused.is_of_one();
        let mut behind: Vec<Item> = self.under_way.drain().collect();
        {
            let mut accepted = self.shared.accepted.lock();
            accepted.state = Snapshot::clone(&self.shared.published.load());
            behind.extend(accepted.queue.drain());
        }
        for item in refused.items.iter().chain(&behind) {
            self.hidden.abandon(&item.work.abandoned);
        }
        // Damage is not cured by trying again.
        let for_others = match error.kind() {
            ErrorKind::Corrupt => error.clone(),
            _ => Error::with_source(
                ErrorKind::Unavailable,
                "storage refused the change or one before it; nothing was changed, try again",
                error.clone(),
            ),
        };
        let answer = if is_alone && error.kind() == ErrorKind::TooLarge { &error } else { &for_others };
        fail(refused.items, answer);
        fail(behind, &for_others);
    }
}

impl Gathered {
    /// Its callers only wait for what came before.
    fn stores_nothing(&self) -> bool {
        self.batch.operations().is_empty() && self.items.iter().all(|item| item.work.changes.is_none())
    }

    /// Whether all that it writes is of one caller.
    fn is_of_one(&self) -> bool {
        matches!(&*self.items, [only] if self.batch.operations().len() <= only.work.operations.len())
    }
}

fn taken_over(head: Head) -> Error {
    Error::new(ErrorKind::Fenced, format!("another writer took the store over at epoch {}", head.epoch))
}

fn fail(items: impl IntoIterator<Item = Item>, error: &Error) {
    for item in items {
        let _ = item.answer.send(Err(error.clone()));
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
