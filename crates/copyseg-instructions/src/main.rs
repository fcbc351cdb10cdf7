//! The hot read and the hot update of a store with many tasks, as often as asked: `cargo xtask instructions` runs it under
//! callgrind.
//!
//! Calls are made and committed on one thread, so that the same commit takes the same instructions on every run.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use copyseg_core::{
    CollectionId, ManagerOptions, MemoryCatalog, MetaManager, NewJob, NewTask, NodeId, SegmentId,
    SegmentPair, TaskId, Txn,
};

const JOBS: i64 = 100;
const TASKS: i64 = 10_000;
const SEGMENTS_PER_TASK: i64 = 8;
/// Has no common divisor with [`TASKS`], so calls go all over the store and come to each task before to any twice.
const STRIDE: i64 = 7_919;

fn main() -> Result<(), Box<dyn Error>> {
    let mut counts = env::args().skip(1).map(|argument| argument.parse::<i64>());
    let (Some(reads), Some(updates), None) = (counts.next(), counts.next(), counts.next()) else {
        return Err("usage: copyseg-instructions READS UPDATES".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Ok(runtime.block_on(run(reads?, updates?))?)
}

async fn run(reads: i64, updates: i64) -> copyseg_core::Result<()> {
    let manager = MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await?;
    for job in 0..JOBS {
        manager.transact(|txn| add_job(txn, job)).await?;
    }
    for call in 0..reads {
        black_box(manager.get_task(task(call))?.map(|task| task.state));
    }
    for call in 0..updates {
        let claim = manager.claim_task(task(call), NodeId(1)).await?;
        manager.release_task(claim, "").await?;
    }
    manager.close().await
}

fn add_job(txn: &mut Txn<'_>, job: i64) -> copyseg_core::Result<()> {
    let tasks = (job..TASKS).step_by(JOBS as usize).map(|number| {
        let pairs = (number * SEGMENTS_PER_TASK..).take(SEGMENTS_PER_TASK as usize);
        let pairs = pairs.map(|pair| SegmentPair::new(SegmentId(1 + pair), SegmentId(1 + pair)));
        NewTask { id: Some(TaskId(1 + number)), ..NewTask::new(pairs) }
    });
    let new = NewJob { collection: CollectionId(1), snapshot: "snapshot".into(), ..NewJob::default() };
    txn.add_job(new, tasks.collect()).map(drop)
}

fn task(call: i64) -> TaskId {
    TaskId(1 + call * STRIDE % TASKS)
}
