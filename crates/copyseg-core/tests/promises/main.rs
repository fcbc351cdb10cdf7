//! The promises of the meta manager, one test for each sentence of its documentation that could break.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod additions;
mod any_size;
mod batches;
mod committer;
mod damage;
mod dispatch;
mod faults;
mod idle;
mod ids;
mod one_writer;
mod opening;
mod readers;
mod refusals;
mod rollback;
mod subscriptions;
mod transitions;
mod under_way;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use copyseg_conformance::{FaultyCatalog, SlowCatalog};
use copyseg_core::{
    Batch, Catalog, CollectionId, Job, JobAction, JobFilter, JobId, Limits, ManagerOptions, ManualClock,
    MemoryCatalog, MetaManager, NewJob, NewTask, Operation, RecordCounts, RecordKey, RecordKind, Revision,
    SegmentId, SegmentPair, Snapshot, Task, TaskFilter, TaskId, Timestamp,
};
use futures::TryStreamExt;
use tokio::task::JoinHandle;

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

/// So few that a job of a handful of tasks takes several batches.
const TINY: Limits = Limits { operations_max: 4, bytes_max: 128 << 10, commits_max: 1 };

/// A manager on a store of its own. Commits pass through `slow`, which can hold them, and then `faults`.
struct Fixture {
    store: MemoryCatalog,
    faults: Arc<FaultyCatalog>,
    slow: Arc<SlowCatalog>,
    clock: ManualClock,
    meta: MetaManager,
}

impl Fixture {
    async fn new() -> Self {
        Self::on(MemoryCatalog::new()).await
    }

    async fn on(store: MemoryCatalog) -> Self {
        Self::with(store, ManagerOptions::default()).await
    }

    async fn with(store: MemoryCatalog, options: ManagerOptions) -> Self {
        Self::over(Arc::new(store.clone()), store, options).await
    }

    /// With something between `faults` and the store.
    async fn over(catalog: Arc<dyn Catalog>, store: MemoryCatalog, options: ManagerOptions) -> Self {
        let faults = Arc::new(FaultyCatalog::new(catalog));
        let slow = Arc::new(SlowCatalog::new(Arc::clone(&faults) as Arc<dyn Catalog>));
        let clock = ManualClock::at(NOW);
        let options = ManagerOptions { clock: Arc::new(clock.clone()), ..options };
        let meta = MetaManager::open(Arc::clone(&slow) as Arc<dyn Catalog>, options).await.unwrap();
        Self { store, faults, slow, clock, meta }
    }

    async fn add(&self, id: i64, tasks: impl IntoIterator<Item = i64>) -> JobId {
        self.meta.add_job(job(id), tasks.into_iter().map(task).collect()).await.unwrap()
    }

    /// Holds commits, and starts one that is held, so that whatever comes next waits behind it.
    async fn occupy(&self, id: i64) -> JoinHandle<copyseg_core::Result<Arc<Job>>> {
        self.slow.hold_commits();
        let first = self.spawn_update(id, "first");
        self.slow.commit_held().await;
        first
    }

    fn spawn_update(&self, id: i64, reason: &str) -> JoinHandle<copyseg_core::Result<Arc<Job>>> {
        let (meta, actions) = (self.meta.clone(), [JobAction::Reason(reason.into())]);
        tokio::spawn(async move { meta.update_job(JobId(id), actions).await })
    }

    fn reason(&self, id: i64) -> String {
        self.meta.get_job(JobId(id)).unwrap().unwrap().reason.clone()
    }
}

async fn open(store: &MemoryCatalog) -> MetaManager {
    MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap()
}

/// What a restart would load.
async fn stored(store: &MemoryCatalog) -> Visible {
    visible(&Snapshot::load(&store.clone()).await.unwrap())
}

/// All that a snapshot shows, to be compared.
#[derive(Debug, Clone, PartialEq)]
struct Visible {
    revision: Revision,
    jobs: Vec<Arc<Job>>,
    tasks: Vec<Arc<Task>>,
    set_aside: Vec<RecordKey>,
}

fn visible(snapshot: &Snapshot) -> Visible {
    Visible {
        revision: snapshot.revision(),
        jobs: snapshot.jobs(&JobFilter::new()).cloned().collect(),
        tasks: snapshot.tasks(&TaskFilter::new()).cloned().collect(),
        set_aside: snapshot.set_aside().map(|record| record.key).collect(),
    }
}

/// Every record of the store, visible or not.
async fn records(store: &MemoryCatalog) -> BTreeMap<RecordKey, Vec<u8>> {
    let pages: Vec<_> = store.clone().load().await.unwrap().pages.try_collect().await.unwrap();
    pages.into_iter().flatten().map(|record| (record.key, record.bytes.into())).collect()
}

/// Changes the store behind everybody's back, keeping its counts right.
async fn tamper(store: &MemoryCatalog, operations: impl IntoIterator<Item = Operation>) {
    let (batch, store) = (Batch::from_iter(operations), store.clone());
    let mut left = records(&store).await;
    for operation in batch.operations() {
        match operation {
            Operation::Put(key, bytes) => drop(left.insert(*key, bytes.to_vec())),
            Operation::Delete(key) => drop(left.remove(key)),
        }
    }
    let head = store.head().await.unwrap();
    let count = |kind| left.keys().filter(|key| key.kind == kind).count() as u64;
    let next = copyseg_core::Head { counts: RecordCounts(RecordKind::ALL.map(count)), ..head };
    store.commit(&head, &next, &batch).await.unwrap();
}

fn job(id: i64) -> NewJob {
    NewJob {
        id: Some(JobId(id)),
        collection: CollectionId(7),
        snapshot: "nightly".into(),
        ..NewJob::default()
    }
}

/// A task with one segment pair, made from its id.
fn task(id: i64) -> NewTask {
    let pair = SegmentPair::new(SegmentId(id.wrapping_add(1_000)), SegmentId(id.wrapping_add(2_000)));
    NewTask { id: Some(TaskId(id)), ..NewTask::new([pair]) }
}

fn job_key(id: i64) -> RecordKey {
    RecordKey { kind: RecordKind::Job, id }
}

fn task_key(id: i64) -> RecordKey {
    RecordKey { kind: RecordKind::Task, id }
}

/// Lets every other task run until all of them wait for something.
async fn until_idle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// Waits until storage holds no task that is not visible.
async fn until_swept(store: &MemoryCatalog) {
    let swept = async || {
        let shown = stored(store).await.tasks.len();
        records(store).await.keys().filter(|key| key.kind == RecordKind::Task).count() == shown
    };
    eventually(swept).await;
}

async fn eventually<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    for _ in 0..10_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("it never came to be");
}
