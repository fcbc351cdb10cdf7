//! What one transaction may combine, and that storage holds the same afterwards.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    Catalog, JobFilter, JobId, JobState, ManagerOptions, MemoryCatalog, MetaManager, NewJob, NewTask, NodeId,
    RecordKind, SegmentId, SegmentPair, Snapshot, TaskAction, TaskFilter, TaskId, TaskState,
};

async fn open(catalog: &MemoryCatalog) -> MetaManager {
    MetaManager::open(Arc::new(catalog.clone()), ManagerOptions::default()).await.unwrap()
}

fn job(id: i64) -> NewJob {
    NewJob { id: Some(JobId(id)), ..NewJob::default() }
}

fn task(id: i64) -> NewTask {
    NewTask { id: Some(TaskId(id)), ..NewTask::new([SegmentPair::new(SegmentId(id), SegmentId(-id))]) }
}

fn same(left: &Snapshot, right: &Snapshot) -> bool {
    left.revision() == right.revision()
        && left.jobs(&JobFilter::new()).eq(right.jobs(&JobFilter::new()))
        && left.tasks(&TaskFilter::new()).eq(right.tasks(&TaskFilter::new()))
}

/// Waits until the store holds as many task records as are visible: what removed jobs leave behind is swept in
/// the background.
async fn swept(catalog: &MemoryCatalog, manager: &MetaManager) {
    let visible = manager.count_tasks(&TaskFilter::new()).unwrap() as u64;
    while catalog.head().await.unwrap().counts.0[RecordKind::Task as usize] != visible {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_job_replaced_within_one_transaction_keeps_its_new_tasks() {
    let catalog = MemoryCatalog::new();
    let manager = open(&catalog).await;
    manager.add_job(job(1), vec![task(10), task(11)]).await.unwrap();
    manager
        .transact(|txn| {
            txn.remove_job(JobId(1))?;
            txn.add_job(job(1), vec![task(11), task(12)])
        })
        .await
        .unwrap();
    manager.allocate_ids(1).await.unwrap();
    swept(&catalog, &manager).await;
    let ids: Vec<_> =
        Snapshot::load(&catalog).await.unwrap().tasks_of_job(JobId(1)).map(|task| task.id).collect();
    assert_eq!(ids, [TaskId(11), TaskId(12)]);
}

#[tokio::test]
async fn a_task_updated_and_settled_in_one_transaction_is_stored_as_it_is_shown() {
    let catalog = MemoryCatalog::new();
    let manager = open(&catalog).await;
    manager.add_job(job(1), vec![task(10), task(11)]).await.unwrap();
    manager
        .transact(|txn| {
            txn.update_task(TaskId(10), [TaskAction::Slots(7)])?;
            txn.cancel_job(JobId(1), "enough")
        })
        .await
        .unwrap();
    let shown = manager.snapshot().unwrap();
    let tasks: Vec<_> = shown.tasks_of_job(JobId(1)).map(|task| (task.slots, task.state)).collect();
    assert_eq!(tasks, [(7, TaskState::Cancelled), (1, TaskState::Cancelled)]);
    assert!(same(&shown, &Snapshot::load(&catalog).await.unwrap()));
}

#[tokio::test]
async fn a_task_removed_after_its_job_ended_in_the_same_transaction_is_gone() {
    let catalog = MemoryCatalog::new();
    let manager = open(&catalog).await;
    manager.add_job(job(1), vec![task(10), task(11)]).await.unwrap();
    manager
        .transact(|txn| {
            txn.fail_job(JobId(1), "enough")?;
            txn.remove_task(TaskId(10))
        })
        .await
        .unwrap();
    let shown = manager.snapshot().unwrap();
    assert_eq!(shown.count_tasks(&TaskFilter::new()), 1);
    assert!(same(&shown, &Snapshot::load(&catalog).await.unwrap()));
}

#[tokio::test]
async fn a_job_added_and_removed_within_one_transaction_leaves_nothing() {
    let catalog = MemoryCatalog::new();
    let manager = open(&catalog).await;
    manager
        .transact(|txn| {
            txn.add_job(job(1), vec![task(10)])?;
            txn.remove_job(JobId(1))
        })
        .await
        .unwrap();
    swept(&catalog, &manager).await;
    assert!(same(&manager.snapshot().unwrap(), &Snapshot::load(&catalog).await.unwrap()));
}

#[tokio::test]
async fn ending_a_job_of_a_thousand_tasks_is_one_operation() {
    let catalog = MemoryCatalog::new();
    let manager = open(&catalog).await;
    manager.add_job(job(1), (10..1010).map(task).collect()).await.unwrap();
    manager.claim_task(TaskId(10), NodeId(1)).await.unwrap();
    let before = records(&catalog).await;
    manager.cancel_job(JobId(1), "enough").await.unwrap();
    let after = records(&catalog).await;
    assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
    let cancelled = TaskFilter::new().job(JobId(1)).states([TaskState::Cancelled]);
    assert_eq!(Snapshot::load(&catalog).await.unwrap().count_tasks(&cancelled), 1000);
    assert_eq!(manager.count_jobs(&JobFilter::new().states([JobState::Cancelled])).unwrap(), 1);
}

async fn records(catalog: &MemoryCatalog) -> Vec<copyseg_core::Record> {
    use futures::TryStreamExt;
    let pages: Vec<_> = catalog.load().await.unwrap().pages.try_collect().await.unwrap();
    pages.into_iter().flatten().collect()
}
