//! A store whose commits fail as planned, and the callers of its manager.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use copyseg_shuttle::task::{JoinHandle, spawn, yield_now};
use copyseg_shuttle_core::{
    Batch, Catalog, Error, ErrorKind, Head, Job, JobAction, JobId, Limits, Loaded, ManagerOptions,
    MemoryCatalog, MetaManager, NewJob, Result, Snapshot,
};
use futures::future::BoxFuture;
use shuttle::rand::{Rng, thread_rng};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused.
    Refused,
    /// It is applied, and the answer is lost.
    AnswerLost,
    /// It never arrives, and nobody is told.
    Lost,
    /// It arrives at any later time, and nobody is told.
    Late,
}

/// Those whose outcome is not told.
pub(crate) const UNKNOWN: [Fault; 3] = [Fault::AnswerLost, Fault::Lost, Fault::Late];

/// A store in memory. Clones are the same handle on it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    memory: Arc<MemoryCatalog>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    commits: usize,
    faults: BTreeMap<usize, Fault>,
}

thread_local! {
    /// Those of the scenario that runs.
    static STORES: RefCell<Vec<Weak<MemoryCatalog>>> = const { RefCell::new(Vec::new()) };
}

/// Waits until every manager has come to its end. Shuttle drops what still runs at its end where it stands, also with a
/// lock that others need.
pub(crate) async fn all_ended() {
    for store in STORES.take() {
        while store.strong_count() > 0 {
            yield_now().await;
        }
    }
}

/// A store with one job, and its manager, which may send a commit while one is under way, or not: the schedule decides.
pub(crate) async fn start(options: ManagerOptions) -> (Store, MetaManager) {
    // No two changes fit into a batch for certain.
    const TWO: Limits = Limits { operations_max: 4, bytes_max: 160, commits_max: 2 };
    let memory = match thread_rng().gen_bool(0.5) {
        true => MemoryCatalog::with_limits(TWO),
        false => MemoryCatalog::new(),
    };
    start_on(memory, options).await
}

pub(crate) async fn start_on(memory: MemoryCatalog, options: ManagerOptions) -> (Store, MetaManager) {
    let store = Store { memory: Arc::new(memory), plan: Arc::default() };
    STORES.with_borrow_mut(|stores| stores.push(Arc::downgrade(&store.memory)));
    let manager = store.open(options).await;
    manager.add_job(NewJob { id: Some(JOB), rows: Some(0), ..NewJob::default() }, vec![]).await.unwrap();
    store.plan.lock().unwrap().commits = 0;
    (store, manager)
}

pub(crate) const JOB: JobId = JobId(1);

impl Store {
    /// Another manager, which fences the one before.
    pub(crate) async fn open(&self, options: ManagerOptions) -> MetaManager {
        MetaManager::open(Arc::new(self.clone()), options).await.unwrap()
    }

    /// Makes the commit of this number fail, from 0.
    pub(crate) fn fail(&self, commit: usize, fault: Fault) {
        self.plan.lock().unwrap().faults.insert(commit, fault);
    }

    /// Forgets what was planned.
    pub(crate) fn heal(&self) {
        self.plan.lock().unwrap().faults.clear();
    }

    /// What a restart would load.
    pub(crate) async fn stored(&self) -> Snapshot {
        Snapshot::load(&MemoryCatalog::clone(&self.memory)).await.unwrap()
    }

    /// The number that callers raise, as a restart would find it.
    pub(crate) async fn stored_rows(&self) -> u64 {
        rows(&self.stored().await)
    }

    /// Asserts that readers see what a restart would load, and that the number is this.
    pub(crate) async fn assert_rows(&self, manager: &MetaManager, expected: u64) {
        let (shown, stored) = (manager.snapshot().unwrap(), self.stored().await);
        assert_eq!(shown.job(JOB), stored.job(JOB));
        assert_eq!(shown.revision(), stored.revision());
        assert_eq!(rows(&shown), expected);
    }
}

/// The number that callers raise.
pub(crate) fn rows(snapshot: &Snapshot) -> u64 {
    rows_of(snapshot.job(JOB).unwrap())
}

pub(crate) fn rows_of(job: &Job) -> u64 {
    job.rows.unwrap()
}

/// Raises the number by one, and answers what it is then.
pub(crate) async fn raise(manager: MetaManager) -> Result<u64> {
    let job = manager.transact(|txn| {
        let before = rows(txn.snapshot());
        txn.update_job(JOB, [JobAction::Rows(before + 1)])
    });
    job.await.map(|job| rows_of(&job))
}

/// As many callers who raise it at the same time.
pub(crate) fn raisers(manager: &MetaManager, count: usize) -> Vec<JoinHandle<Result<u64>>> {
    (0..count).map(|_| spawn(raise(manager.clone()))).collect()
}

/// What each was answered.
pub(crate) async fn answers(callers: Vec<JoinHandle<Result<u64>>>) -> Vec<Result<u64, ErrorKind>> {
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.unwrap().map_err(|error| error.kind()));
    }
    answers
}

/// How many were acknowledged: each with a number of its own, and nobody refused for another reason than these.
pub(crate) fn acknowledged(answers: &[Result<u64, ErrorKind>], reasons: &[ErrorKind]) -> u64 {
    let mut numbers: Vec<_> = answers.iter().filter_map(|answer| answer.ok()).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "{answers:?}");
    for error in answers.iter().filter_map(|answer| answer.err()) {
        assert!(reasons.contains(&error), "{answers:?}");
    }
    count as u64
}

#[async_trait]
impl Catalog for Store {
    async fn acquire(&self) -> Result<Head> {
        self.memory.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        self.memory.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        let fault = {
            let mut plan = self.plan.lock().unwrap();
            plan.commits += 1;
            let number = plan.commits - 1;
            plan.faults.remove(&number)
        };
        let unknown = || Err(Error::new(ErrorKind::OutcomeUnknown, "planned: there is no answer"));
        match fault {
            None => self.memory.commit(expected, next, batch).await,
            Some(Fault::Refused) => Err(Error::new(ErrorKind::Unavailable, "planned: it is refused")),
            Some(Fault::Lost) => unknown(),
            Some(Fault::AnswerLost) => {
                self.memory.commit(expected, next, batch).await?;
                unknown()
            }
            Some(Fault::Late) => {
                let (memory, expected, next, batch) =
                    (Arc::clone(&self.memory), *expected, *next, batch.clone());
                drop(spawn(async move { memory.commit(&expected, &next, &batch).await }));
                unknown()
            }
        }
    }

    async fn head(&self) -> Result<Head> {
        self.memory.head().await
    }

    fn limits(&self) -> Limits {
        self.memory.limits()
    }

    async fn close(&self) -> Result<()> {
        self.memory.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        drop(spawn(committer));
    }
}
