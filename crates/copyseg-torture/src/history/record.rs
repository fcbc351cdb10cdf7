//! Recording a history while it happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use copyseg_core::{
    Changes, Error, ErrorKind, Event, JobFilter, JobId, JobState, MetaManager, RecordKey, RecordKind, Result,
    Snapshot, TaskFilter, TaskId, TaskState, Txn,
};
use parking_lot::Mutex;

use super::{History, Outcome, Partial, Read, Seen, Span, Subscription, Told, Transaction, Values};

/// The number that stands for the content of a record: who wrote it last, and its state.
fn number(stamp: u64, state: usize) -> u64 {
    stamp << 8 | state as u64
}

/// What stands for the content of a job.
pub(super) fn job_number(job: &copyseg_core::Job) -> u64 {
    let state = JobState::ALL.iter().position(|state| *state == job.state);
    number(job.rows.unwrap_or_default(), state.unwrap_or_default())
}

/// What stands for the content of a task.
pub(super) fn task_number(task: &copyseg_core::Task) -> u64 {
    let state = TaskState::ALL.iter().position(|state| *state == task.state);
    number(task.slots.into(), state.unwrap_or_default())
}

/// The key of a job's record.
pub(super) fn job_key(id: JobId) -> RecordKey {
    RecordKey { kind: RecordKind::Job, id: id.0 }
}

/// The key of a task's record.
pub(super) fn task_key(id: TaskId) -> RecordKey {
    RecordKey { kind: RecordKind::Task, id: id.0 }
}

/// Everything that a snapshot shows. Whoever writes a job leaves a fresh number as its rows, and a task's as its slots.
pub fn values(snapshot: &Snapshot) -> Values {
    let (every_job, every_task) = (JobFilter::new(), TaskFilter::new());
    let jobs = snapshot.jobs(&every_job).map(|job| (job_key(job.id), job_number(job)));
    let tasks = snapshot.tasks(&every_task).map(|task| (task_key(task.id), task_number(task)));
    jobs.chain(tasks).collect()
}

fn changes_of(changes: &Changes) -> Partial {
    let jobs = changes.jobs.iter().map(|(id, job)| (job_key(*id), job.as_deref().map(job_number)));
    let tasks = changes.tasks.iter().map(|(id, task)| (task_key(*id), task.as_deref().map(task_number)));
    jobs.chain(tasks).collect()
}

/// What a closure does, step by step: a record that is added and removed again was changed all the same.
#[derive(Debug)]
pub struct Steps {
    revision: u64,
    before: Values,
    now: Values,
    changed: BTreeSet<RecordKey>,
}

impl Steps {
    fn new(txn: &Txn<'_>) -> Self {
        let before = values(txn.snapshot());
        Self { revision: txn.snapshot().revision().0, now: before.clone(), before, changed: BTreeSet::new() }
    }

    /// To be called after each step.
    pub fn note(&mut self, txn: &Txn<'_>) {
        let now = values(txn.snapshot());
        let keys = self.now.keys().chain(now.keys());
        self.changed.extend(keys.filter(|key| self.now.get(key) != now.get(key)));
        self.now = now;
    }

    fn writes(&self) -> Partial {
        self.changed.iter().map(|key| (*key, self.now.get(key).copied())).collect()
    }
}

/// Whether the manager, and not the closure of the transaction, answered with this error.
fn is_of_the_manager(kind: ErrorKind) -> bool {
    use ErrorKind::*;
    matches!(kind, Unavailable | OutcomeUnknown | Fenced | Closed | Corrupt | TooLarge)
}

/// Writes down what many callers do and see at the same time.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Recording>);

#[derive(Debug, Default)]
struct Recording {
    clock: AtomicU64,
    stamps: AtomicU32,
    history: Mutex<History>,
}

/// A transaction under way. Dropped without an answer, it is one whose outcome nobody was told.
struct UnderWay<'r> {
    recorder: &'r Recorder,
    life: usize,
    start: u64,
    ran: Mutex<Option<Steps>>,
    answer: Option<ErrorKind>,
    answered: bool,
}

impl Recorder {
    /// Notes that the next manager is about to be opened, and numbers it.
    pub fn open(&self) -> usize {
        let now = self.now();
        let mut history = self.0.history.lock();
        history.opened.push(now);
        history.opened.len() - 1
    }

    /// A number that no transaction has used yet.
    pub fn stamp(&self) -> u32 {
        self.0.stamps.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many transactions have been numbered.
    pub fn stamps(&self) -> u32 {
        self.0.stamps.load(Ordering::SeqCst)
    }

    /// Notes that a manager was closed in an orderly way, with nothing left to tell.
    pub fn closed(&self, life: usize, revision: u64) {
        self.0.history.lock().closed_at.insert(life, revision);
    }

    /// Runs a transaction and records it, also if the future is dropped.
    ///
    /// # Errors
    /// Those of [`MetaManager::transact`].
    pub async fn transact(
        &self,
        manager: &MetaManager,
        life: usize,
        change: impl FnOnce(&mut Txn<'_>, &mut Steps) -> Result<()>,
    ) -> Result<()> {
        let mut under_way = UnderWay {
            recorder: self,
            life,
            start: self.now(),
            ran: Mutex::new(None),
            answer: None,
            answered: false,
        };
        let ran = &under_way.ran;
        let answer = manager.transact(|txn| {
            let mut steps = Steps::new(txn);
            let result = change(txn, &mut steps);
            if result.is_err() {
                steps.changed.clear();
            }
            *ran.lock() = Some(steps);
            result
        });
        let answer = answer.await;
        under_way.answer = answer.as_ref().err().map(Error::kind);
        under_way.answered = true;
        answer
    }

    /// Adds a job by the call that takes any size, which does not tell the revision.
    ///
    /// # Errors
    /// Those of [`MetaManager::add_job`].
    pub async fn add_job(
        &self,
        manager: &MetaManager,
        life: usize,
        job: copyseg_core::NewJob,
        tasks: Vec<copyseg_core::NewTask>,
    ) -> Result<JobId> {
        let added = |id: RecordKey, stamp: u64| (id, Some(number(stamp, 0)));
        let its_job = job.id.map(|id| added(job_key(id), job.rows.unwrap_or_default()));
        let its_tasks = tasks.iter().filter_map(|task| Some(added(task_key(task.id?), task.slots.into())));
        let writes: Partial = its_job.into_iter().chain(its_tasks).collect();
        let start = self.now();
        let answer = manager.add_job(job, tasks).await;
        let outcome = match &answer {
            Ok(_) => Outcome::Acknowledged,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        let reads = Seen::Some(writes.keys().map(|key| (*key, None)).collect());
        let span = Span { life, start, end: self.now() };
        self.0.history.lock().transactions.push(Transaction { span, outcome, revision: None, reads, writes });
        answer
    }

    /// Takes a snapshot and records everything in it.
    ///
    /// # Errors
    /// Those of [`MetaManager::snapshot`].
    pub fn read_all(&self, manager: &MetaManager, life: usize) -> Result<Snapshot> {
        let start = self.now();
        let snapshot = manager.snapshot()?;
        self.saw_all(life, start, &snapshot);
        Ok(snapshot)
    }

    /// Records what a call saw that tells no revision.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read_some(&self, life: usize, read: impl FnOnce() -> Result<Partial>) -> Result<()> {
        let start = self.now();
        let seen = Seen::Some(read()?);
        self.saw(life, start, None, seen);
        Ok(())
    }

    /// Subscribes, and records everything that comes until the manager ends.
    pub async fn follow(&self, manager: MetaManager, life: usize) {
        let start = self.now();
        let Ok(mut subscription) = manager.subscribe() else { return };
        drop(manager);
        self.saw_all(life, start, subscription.snapshot());
        let base = subscription.snapshot().revision().0;
        let mut record = Subscription { life, base, told: Vec::new(), complete: false };
        loop {
            let start = self.now();
            match subscription.next().await {
                Ok(Event::Changes(changes)) => {
                    let (revision, changes) = (changes.revision.0, changes_of(&changes));
                    record.told.push(Told { at: self.now(), revision, changes });
                }
                Ok(Event::Lagged(snapshot)) => {
                    self.saw_all(life, start, &snapshot);
                    let base = snapshot.revision().0;
                    let next = Subscription { life, base, told: Vec::new(), complete: false };
                    self.0.history.lock().subscriptions.push(std::mem::replace(&mut record, next));
                }
                Err(_) => break,
            }
        }
        record.complete = true;
        self.0.history.lock().subscriptions.push(record);
    }

    /// The history so far; the store ended with `last`.
    pub fn finish(&self, last: &Snapshot) -> History {
        let mut history = self.0.history.lock().clone();
        history.last_revision = last.revision().0;
        history
    }

    fn saw_all(&self, life: usize, start: u64, snapshot: &Snapshot) {
        self.saw(life, start, Some(snapshot.revision().0), Seen::All(values(snapshot)));
    }

    fn saw(&self, life: usize, start: u64, revision: Option<u64>, seen: Seen) {
        let span = Span { life, start, end: self.now() };
        self.0.history.lock().reads.push(Read { span, revision, seen });
    }

    fn now(&self) -> u64 {
        self.0.clock.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl UnderWay<'_> {
    fn outcome(&self) -> Outcome {
        match self.answer {
            _ if !self.answered => Outcome::Unknown,
            None => Outcome::Acknowledged,
            Some(ErrorKind::OutcomeUnknown) => Outcome::Unknown,
            Some(_) => Outcome::Refused,
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(steps) = self.ran.get_mut().take() else { return };
        let writes = steps.writes();
        if !writes.is_empty() {
            let span = Span { life: self.life, start: self.start, end: self.recorder.now() };
            let reads = Seen::All(steps.before);
            let (outcome, revision) = (self.outcome(), Some(steps.revision + 1));
            let transaction = Transaction { span, outcome, revision, reads, writes };
            self.recorder.0.history.lock().transactions.push(transaction);
        } else if self.answered && !self.answer.is_some_and(is_of_the_manager) {
            // It changed nothing, and was answered once the state that it saw was durable: it was a read.
            self.recorder.saw(self.life, self.start, Some(steps.revision), Seen::All(steps.before));
        }
    }
}
