//! A job far larger than a transaction of etcd, on a server with its default limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use copyseg_core::{
    Catalog, CollectionId, JobAction, JobId, JobState, ManagerOptions, MetaManager, NewJob, NewTask, NodeId,
    RecordKind, SegmentId, SegmentPair, Snapshot, TaskFilter, TaskState,
};
use futures::{StreamExt, stream};

use crate::member::Member;

const TASKS: i64 = 10_000;
const SEGMENTS_PER_TASK: i64 = 100;

fn tasks() -> Vec<NewTask> {
    let pair = |id| SegmentPair::new(SegmentId(id), SegmentId(TASKS * SEGMENTS_PER_TASK + id));
    let task =
        |number: i64| NewTask::new((0..SEGMENTS_PER_TASK).map(|id| pair(number * SEGMENTS_PER_TASK + id)));
    (0..TASKS).map(task).collect()
}

/// Runs the job by a worker that copies nothing.
async fn carry_out(manager: &MetaManager, job: JobId) {
    let tasks = manager.tasks_of_job(job).unwrap();
    let done = stream::iter(tasks).for_each_concurrent(256, |task| async move {
        let claim = manager.claim_task(task.id, NodeId(1)).await.unwrap();
        manager.complete_task(claim).await.unwrap();
    });
    done.await;
    for state in [JobState::Publishing, JobState::Completed] {
        manager.update_job(job, [JobAction::State(state)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_million_segments_is_added_cancelled_added_again_run_and_removed() {
    let member = Member::start(&[]);
    let catalog = Arc::new(member.catalog().await);
    let manager = MetaManager::open(catalog.clone(), ManagerOptions::default()).await.unwrap();
    let other = manager.add_job(NewJob::default(), vec![]).await.unwrap();

    // Another caller, all along.
    let (stop, updates) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let caller = tokio::spawn({
        let (manager, stop, updates) = (manager.clone(), Arc::clone(&stop), Arc::clone(&updates));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let rows = updates.fetch_add(1, Ordering::Relaxed);
                manager.update_job(other, [JobAction::Rows(rows)]).await.unwrap();
            }
        }
    });

    let large = || NewJob { collection: CollectionId(7), ..NewJob::default() };
    let before = updates.load(Ordering::Relaxed);
    let first = manager.add_job(large(), tasks()).await.unwrap();
    assert!(updates.load(Ordering::Relaxed) > before + 10, "others go on while it is added");
    manager.cancel_job(first, "another one").await.unwrap();
    let second = manager.add_job(large(), tasks()).await.unwrap();
    carry_out(&manager, second).await;

    let stored = Snapshot::load(&*catalog).await.unwrap();
    assert_eq!(stored.job(second).unwrap().state, JobState::Completed);
    assert_eq!(stored.progress(second).unwrap().segments.get(TaskState::Completed), 1_000_000);
    let cancelled = TaskFilter::new().job(first).states([TaskState::Cancelled]);
    assert_eq!(stored.count_tasks(&cancelled), TASKS as usize);

    assert!(manager.remove_job(first).await.unwrap());
    assert!(manager.remove_job(second).await.unwrap());
    while catalog.head().await.unwrap().counts.0[RecordKind::Task as usize] > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    caller.await.unwrap();
    manager.close().await.unwrap();
}
