//! Tasks: behaviours 17 to 29.

use copyseg_core::{
    CollectionId, ErrorKind, JobFilter, JobId, NewJob, NewTask, NodeId, Revision, SegmentId, SegmentPair,
    TaskAction, TaskFilter, TaskId, TaskState,
};

use super::{Fixture, job, task};

/// A job with room for tasks that are added later.
async fn add_job_with_room(fixture: &Fixture, id: i64, collection: i64) -> JobId {
    let job = NewJob { segments: Some(100), ..job(id, collection) };
    fixture.meta.add_job(job, vec![]).await.unwrap()
}

fn ids(tasks: Vec<std::sync::Arc<copyseg_core::Task>>) -> Vec<i64> {
    tasks.iter().map(|task| task.id.0).collect()
}

/// 17. `AddTask_Success`
#[tokio::test]
async fn an_added_task_is_stored_once_and_readable() {
    let fixture = Fixture::new().await;
    let job = add_job_with_room(&fixture, 1, 7).await;
    let before = fixture.head().await;
    let id = fixture.meta.add_task(job, task(11)).await.unwrap();

    let read = fixture.meta.get_task(id).unwrap().unwrap();
    assert_eq!((read.id, read.job, read.collection), (TaskId(11), job, CollectionId(7)));
    assert_eq!((read.state, read.node, read.attempt, read.slots), (TaskState::Pending, None, 0, 1));
    assert_eq!(fixture.stored().await.task(id), Some(&read));
    assert_eq!(fixture.head().await.revision, Revision(before.revision.0 + 1));
}

/// 17, deliberate differences: Milvus overwrites a task that is added again, and takes one without a job.
#[tokio::test]
async fn a_task_added_again_or_without_a_job_is_refused() {
    let fixture = Fixture::new().await;
    let job = add_job_with_room(&fixture, 1, 7).await;
    let other_job = add_job_with_room(&fixture, 2, 7).await;
    fixture.meta.add_task(job, task(11)).await.unwrap();
    let before = fixture.head().await;

    let refusals = [
        (job, task(11), ErrorKind::AlreadyExists { identical: true }),
        (job, NewTask { slots: 2, ..task(11) }, ErrorKind::AlreadyExists { identical: false }),
        (other_job, task(11), ErrorKind::AlreadyExists { identical: false }),
        (JobId(404), task(12), ErrorKind::NotFound),
    ];
    for (job, new, expected) in refusals {
        let error = fixture.meta.add_task(job, new).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
    }
    assert_eq!(fixture.head().await, before);
}

/// 18. `AddTask_CatalogError`
#[tokio::test]
async fn a_task_that_storage_refuses_is_not_readable() {
    let fixture = Fixture::new().await;
    let job = add_job_with_room(&fixture, 1, 7).await;
    fixture.refuse_next_commit();
    let error = fixture.meta.add_task(job, task(11)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap(), None);
    assert_eq!(fixture.meta.tasks_of_job(job).unwrap(), []);
    assert_eq!(fixture.stored().await.task(TaskId(11)), None);
}

/// 19. `UpdateTask_Success`
#[tokio::test]
async fn an_update_of_a_task_applies_state_and_reason_in_one_write() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let before = fixture.head().await;
    let actions = [TaskAction::State(TaskState::Failed), TaskAction::Reason("no such segment".into())];
    let updated = fixture.meta.update_task(TaskId(11), actions).await.unwrap();

    assert_eq!((updated.state, updated.reason.as_str()), (TaskState::Failed, "no such segment"));
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap().as_ref(), Some(&updated));
    assert_eq!(fixture.stored().await.task(TaskId(11)), Some(&updated));
    assert_eq!(fixture.head().await.revision, Revision(before.revision.0 + 1));
}

/// 20. `UpdateTask_NotFound`. Deliberate difference: Milvus says nothing.
#[tokio::test]
async fn updating_a_task_that_is_not_there_says_so_and_writes_nothing() {
    let fixture = Fixture::new().await;
    let before = fixture.head().await;
    let error = fixture.meta.update_task(TaskId(404), [TaskAction::Slots(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("404"), "{error}");
    assert_eq!(fixture.head().await, before);
}

/// 21. `GetTask`
#[tokio::test]
async fn a_task_is_found_by_its_id_and_a_miss_gives_nothing() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap().unwrap().id, TaskId(11));
    assert_eq!(fixture.meta.get_task(TaskId(12)).unwrap(), None);
}

/// 22. `GetTaskBy`
#[tokio::test]
async fn tasks_are_found_by_job_by_state_and_by_both() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    fixture.add(2, 8, [21]).await;
    fixture.meta.claim_task(TaskId(12), NodeId(5)).await.unwrap();

    let found = |filter: &TaskFilter| ids(fixture.meta.list_tasks(filter).unwrap());
    assert_eq!(found(&TaskFilter::new()), [11, 12, 21]);
    assert_eq!(found(&TaskFilter::new().job(JobId(1))), [11, 12]);
    assert_eq!(found(&TaskFilter::new().states([TaskState::Pending])), [11, 21]);
    assert_eq!(found(&TaskFilter::new().job(JobId(1)).states([TaskState::Pending])), [11]);
}

/// 23. `RemoveTask_Success`
#[tokio::test]
async fn a_removed_task_is_gone_from_memory_and_storage() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    assert!(fixture.meta.remove_task(TaskId(11)).await.unwrap());
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap(), None);
    assert_eq!(fixture.stored().await.task(TaskId(11)), None);
}

/// 24. `RemoveTask_NotFound`
#[tokio::test]
async fn removing_a_task_that_is_not_there_says_so_and_writes_nothing() {
    let fixture = Fixture::new().await;
    let before = fixture.head().await;
    assert!(!fixture.meta.remove_task(TaskId(404)).await.unwrap());
    assert_eq!(fixture.head().await, before);
}

/// 25. `RemoveTask_CatalogError`
#[tokio::test]
async fn a_task_whose_removal_storage_refuses_stays() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let before = fixture.meta.get_task(TaskId(11)).unwrap();
    fixture.refuse_next_commit();
    assert_eq!(fixture.meta.remove_task(TaskId(11)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap(), before);
    assert_eq!(fixture.stored().await.task(TaskId(11)), before.as_ref());
}

/// 26. `CopySegmentTasks_Operations`, on the task store that a snapshot shows.
#[tokio::test]
async fn the_task_store_starts_empty_and_adds_gets_lists_and_removes() {
    let fixture = Fixture::new().await;
    let empty = fixture.meta.snapshot().unwrap();
    assert!(empty.task(TaskId(11)).is_none() && empty.tasks(&TaskFilter::new()).next().is_none());

    fixture.add(1, 7, [11, 12]).await;
    let two = fixture.meta.snapshot().unwrap();
    assert_eq!(two.task(TaskId(11)).unwrap().id, TaskId(11));
    assert_eq!(two.tasks(&TaskFilter::new()).map(|task| task.id.0).collect::<Vec<_>>(), [11, 12]);

    fixture.meta.remove_task(TaskId(11)).await.unwrap();
    let one = fixture.meta.snapshot().unwrap();
    assert!(one.task(TaskId(11)).is_none());
    assert_eq!(one.tasks(&TaskFilter::new()).count(), 1);
}

/// 27. `GetTasksByJobID`
#[tokio::test]
async fn tasks_are_listed_by_job_and_an_unknown_job_has_none() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    fixture.add(2, 7, [21]).await;
    assert_eq!(ids(fixture.meta.tasks_of_job(JobId(1)).unwrap()), [11, 12]);
    assert_eq!(ids(fixture.meta.tasks_of_job(JobId(2)).unwrap()), [21]);
    assert_eq!(ids(fixture.meta.tasks_of_job(JobId(404)).unwrap()), []);
}

/// 28. `GetTasksByCollectionID`
#[tokio::test]
async fn tasks_are_listed_by_collection_and_an_unknown_collection_has_none() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    fixture.add(2, 8, [21]).await;
    assert_eq!(ids(fixture.meta.tasks_of_collection(CollectionId(7)).unwrap()), [11, 12]);
    assert_eq!(ids(fixture.meta.tasks_of_collection(CollectionId(8)).unwrap()), [21]);
    assert_eq!(ids(fixture.meta.tasks_of_collection(CollectionId(404)).unwrap()), []);
}

/// 29. `SecondaryIndexCleanup`
#[tokio::test]
async fn every_removal_leaves_both_indexes_with_what_is_left() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    for (removed, left) in [(11, vec![12]), (12, vec![])] {
        fixture.meta.remove_task(TaskId(removed)).await.unwrap();
        assert_eq!(ids(fixture.meta.tasks_of_job(JobId(1)).unwrap()), left);
        assert_eq!(ids(fixture.meta.tasks_of_collection(CollectionId(7)).unwrap()), left);
        assert_eq!(fixture.meta.count_tasks(&TaskFilter::new().job(JobId(1))).unwrap(), left.len());
        assert_eq!(
            fixture.meta.count_tasks(&TaskFilter::new().collection(CollectionId(7))).unwrap(),
            left.len()
        );
    }
    assert_eq!(fixture.meta.count_jobs(&JobFilter::new()).unwrap(), 1);
}

/// The union of a job's segments, which Milvus keeps in the job record, comes from its tasks.
#[tokio::test]
async fn the_segments_of_a_job_are_those_of_its_tasks() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    let snapshot = fixture.meta.snapshot().unwrap();
    let pairs: Vec<SegmentPair> = snapshot.segments_of_job(JobId(1)).collect();
    assert_eq!(pairs, [11, 12].map(|id| SegmentPair::new(SegmentId(1_000 + id), SegmentId(2_000 + id))));
}
