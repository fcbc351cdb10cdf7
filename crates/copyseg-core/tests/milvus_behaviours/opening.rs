//! Opening: behaviours 1 to 5.

use std::sync::Arc;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{
    Batch, Catalog, ErrorKind, JobFilter, JobId, Loaded, ManagerOptions, MemoryCatalog, MetaManager, NewJob,
    Operation, RecordKey, RecordKind, TaskFilter, TaskId,
};

use super::{Fixture, job, task};

async fn reopened(store: &MemoryCatalog) -> MetaManager {
    MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap()
}

/// 1. `NewCopySegmentMeta_Success`
#[tokio::test]
async fn a_manager_on_an_empty_store_is_usable() {
    let meta = reopened(&MemoryCatalog::new()).await;
    assert_eq!(meta.count_jobs(&JobFilter::new()).unwrap(), 0);
    assert_eq!(meta.count_tasks(&TaskFilter::new()).unwrap(), 0);
    let id = meta.add_job(NewJob::default(), vec![]).await.unwrap();
    assert_eq!(meta.get_job(id).unwrap().unwrap().id, id);
}

/// Opens a store of several pages whose reading fails at one of them. Store records come first, then jobs.
async fn open_with_page_failing(page: u64) {
    let store = MemoryCatalog::new();
    let pages = 2 * Loaded::PAGE_RECORDS_MAX as i64;
    reopened(&store).await.add_job(job(1, 7), (0..pages).map(task).collect()).await.unwrap();
    let faulty = FaultyCatalog::new(Arc::new(store.clone()));
    faulty.fail_nth_of(Call::Page, page, Fault::Before);
    let error = MetaManager::open(Arc::new(faulty), ManagerOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("planned fault"), "the cause is told: {}", error.chain());

    let meta = reopened(&store).await;
    assert!(meta.get_job(JobId(1)).unwrap().is_some());
    assert_eq!(meta.tasks_of_job(JobId(1)).unwrap().len() as i64, pages);
}

/// 2. `NewCopySegmentMeta_ListJobsError`
#[tokio::test]
async fn an_error_while_loading_jobs_refuses_to_open_and_loses_nothing() {
    open_with_page_failing(0).await;
}

/// 3. `NewCopySegmentMeta_ListTasksError`
#[tokio::test]
async fn an_error_while_loading_tasks_refuses_to_open_and_loses_nothing() {
    open_with_page_failing(1).await;
}

/// 4. `NewCopySegmentMeta_RestoreJobs`
#[tokio::test]
async fn stored_jobs_are_found_by_id_after_a_restart() {
    let fixture = Fixture::new().await;
    let (one, two) = (fixture.add(1, 7, []).await, fixture.add(2, 8, []).await);
    let before = fixture.meta.list_jobs(&JobFilter::new()).unwrap();
    fixture.meta.close().await.unwrap();

    let meta = reopened(&fixture.store).await;
    assert_eq!(meta.list_jobs(&JobFilter::new()).unwrap(), before);
    for id in [one, two] {
        assert_eq!(meta.get_job(id).unwrap().unwrap().id, id);
    }
}

/// 5. `NewCopySegmentMeta_RestoreTasks`. Deliberate difference: in Milvus their jobs need not exist.
#[tokio::test]
async fn stored_tasks_are_found_by_id_after_a_restart_together_with_their_job() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    let before = fixture.meta.list_tasks(&TaskFilter::new()).unwrap();
    fixture.meta.close().await.unwrap();

    let meta = reopened(&fixture.store).await;
    assert_eq!(meta.list_tasks(&TaskFilter::new()).unwrap(), before);
    for id in [11, 12] {
        assert_eq!(meta.get_task(TaskId(id)).unwrap().unwrap().job, JobId(1));
    }
}

/// 5, deliberate difference: tasks whose job is not there are invisible, and swept.
#[tokio::test]
async fn tasks_of_a_job_that_is_not_there_are_invisible_and_swept() {
    let store = MemoryCatalog::new();
    let meta = reopened(&store).await;
    meta.add_job(job(1, 7), vec![task(11), task(12)]).await.unwrap();
    meta.close().await.unwrap();
    // What a process leaves that dies between the removal of a job and that of its tasks.
    let other = store.clone();
    let head = other.acquire().await.unwrap();
    let mut next = head;
    next.counts.0[RecordKind::Job as usize] -= 1;
    let delete = Operation::Delete(RecordKey { kind: RecordKind::Job, id: 1 });
    other.commit(&head, &next, &Batch::from_iter([delete])).await.unwrap();

    let meta = reopened(&store).await;
    assert_eq!(meta.get_task(TaskId(11)).unwrap(), None);
    assert_eq!(meta.count_tasks(&TaskFilter::new()).unwrap(), 0);
    // Whoever waits for one commit has waited for the sweep that goes with it.
    meta.add_job(job(2, 7), vec![]).await.unwrap();
    assert_eq!(store.head().await.unwrap().counts.0[RecordKind::Task as usize], 0);
}
