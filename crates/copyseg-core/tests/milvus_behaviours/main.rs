//! The behaviours that Milvus' own tests hold its copy-segment meta manager to, held here too.
//!
//! Each test names the Milvus test it descends from, with its number in the order of that file
//! (`internal/datacoord/copy_segment_meta_test.go`). Three differences are deliberate, and named where they are met:
//!
//! - **Missing id.** Milvus' updates of an unknown id silently succeed; here they are `NotFound`.
//! - **Duplicate add.** Milvus overwrites; here it is `AlreadyExists`, which says whether nothing is left to do.
//! - **Orphan tasks.** Milvus keeps tasks whose job is not there; here they are invisible, and swept.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod added_later;
mod filters;
mod jobs;
mod opening;
mod tasks;

use std::sync::Arc;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{
    Catalog, CollectionId, Head, JobId, ManagerOptions, ManualClock, MemoryCatalog, MetaManager, NewJob,
    NewTask, SegmentId, SegmentPair, Snapshot, TaskId, Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);

/// A manager on a store of its own, with a clock that stands still and storage that can be made to refuse.
struct Fixture {
    store: MemoryCatalog,
    faults: Arc<FaultyCatalog>,
    clock: ManualClock,
    meta: MetaManager,
}

impl Fixture {
    async fn new() -> Self {
        let store = MemoryCatalog::new();
        let faults = Arc::new(FaultyCatalog::new(Arc::new(store.clone())));
        let clock = ManualClock::at(NOW);
        let options = ManagerOptions { clock: Arc::new(clock.clone()), ..ManagerOptions::default() };
        let meta = MetaManager::open(Arc::clone(&faults) as Arc<dyn Catalog>, options).await.unwrap();
        Self { store, faults, clock, meta }
    }

    /// Makes storage refuse the next commit.
    fn refuse_next_commit(&self) {
        self.faults.fail_nth_of(Call::Commit, 0, Fault::Before);
    }

    /// What a restart would load.
    async fn stored(&self) -> Snapshot {
        Snapshot::load(&self.store).await.unwrap()
    }

    /// The head moves with every write, so an unmoved head proves that nothing was written.
    async fn head(&self) -> Head {
        self.store.head().await.unwrap()
    }

    async fn add(&self, id: i64, collection: i64, tasks: impl IntoIterator<Item = i64>) -> JobId {
        self.meta.add_job(job(id, collection), tasks.into_iter().map(task).collect()).await.unwrap()
    }
}

fn job(id: i64, collection: i64) -> NewJob {
    NewJob {
        id: Some(JobId(id)),
        collection: CollectionId(collection),
        snapshot: "nightly".into(),
        ..NewJob::default()
    }
}

/// A task with one segment pair, made from its id.
fn task(id: i64) -> NewTask {
    let pair = SegmentPair::new(SegmentId(1_000 + id), SegmentId(2_000 + id));
    NewTask { id: Some(TaskId(id)), ..NewTask::new([pair]) }
}
