//! Jobs: behaviours 6 to 16.

use copyseg_core::{CollectionId, ErrorKind, JobAction, JobFilter, JobId, JobState, NewJob, Revision};

use super::{Fixture, NOW, job, task};

/// 6. `AddJob_Success`
#[tokio::test]
async fn an_added_job_is_stored_once_and_readable() {
    let fixture = Fixture::new().await;
    let before = fixture.head().await;
    let id = fixture.add(1, 7, []).await;

    let read = fixture.meta.get_job(id).unwrap().unwrap();
    assert_eq!((read.state, read.collection, read.created), (JobState::Pending, CollectionId(7), NOW));
    assert_eq!(fixture.stored().await.job(id), Some(&read));
    assert_eq!(fixture.head().await.revision, Revision(before.revision.0 + 1));
}

/// 6, deliberate difference: Milvus overwrites a job that is added again.
#[tokio::test]
async fn a_job_added_again_is_refused_and_told_whether_it_is_the_same() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let (read, head) = (fixture.meta.get_job(JobId(1)).unwrap(), fixture.head().await);

    let again = fixture.meta.add_job(job(1, 7), vec![task(11)]).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists { identical: true });
    let other = NewJob { snapshot: "weekly".into(), ..job(1, 7) };
    let other = fixture.meta.add_job(other, vec![task(11)]).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::AlreadyExists { identical: false });
    let other_tasks = fixture.meta.add_job(job(1, 7), vec![task(12)]).await.unwrap_err();
    assert_eq!(other_tasks.kind(), ErrorKind::AlreadyExists { identical: false });
    assert!(other.to_string().contains("job 1"), "{other}");

    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap(), read);
    assert_eq!(fixture.head().await, head);
}

/// 7. `AddJob_CatalogError`
#[tokio::test]
async fn a_job_that_storage_refuses_is_not_readable() {
    let fixture = Fixture::new().await;
    fixture.refuse_next_commit();
    let error = fixture.meta.add_job(job(1, 7), vec![task(11)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap(), None);
    assert_eq!(fixture.meta.count_jobs(&JobFilter::new()).unwrap(), 0);
    assert_eq!(fixture.stored().await.job(JobId(1)), None);

    fixture.add(1, 7, [11]).await;
}

/// 8. `UpdateJob_Success`
#[tokio::test]
async fn an_update_applies_state_and_reason_in_one_write() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, []).await;
    let before = fixture.head().await;
    let actions = [JobAction::State(JobState::Failed), JobAction::Reason("the source is gone".into())];
    let updated = fixture.meta.update_job(id, actions).await.unwrap();

    assert_eq!((updated.state, updated.reason.as_str()), (JobState::Failed, "the source is gone"));
    assert_eq!(fixture.meta.get_job(id).unwrap().as_ref(), Some(&updated));
    assert_eq!(fixture.stored().await.job(id), Some(&updated));
    assert_eq!(fixture.head().await.revision, Revision(before.revision.0 + 1));
}

/// 9. `UpdateJob_NotFound`. Deliberate difference: Milvus says nothing.
#[tokio::test]
async fn updating_a_job_that_is_not_there_says_so_and_writes_nothing() {
    let fixture = Fixture::new().await;
    let before = fixture.head().await;
    let error = fixture.meta.update_job(JobId(404), [JobAction::Rows(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("404"), "{error}");
    assert_eq!(fixture.head().await, before);
}

/// 10. `UpdateJob_CatalogError`
#[tokio::test]
async fn an_update_of_a_job_that_storage_refuses_leaves_it_as_it_was() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, []).await;
    let before = fixture.meta.get_job(id).unwrap();
    fixture.refuse_next_commit();
    let error = fixture.meta.update_job(id, [JobAction::State(JobState::Executing)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.meta.get_job(id).unwrap(), before);
    assert_eq!(fixture.stored().await.job(id), before.as_ref());
}

/// 11. `GetJob`
#[tokio::test]
async fn a_job_is_found_by_its_id_and_a_miss_gives_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, []).await;
    assert_eq!(fixture.meta.get_job(id).unwrap().unwrap().id, id);
    assert_eq!(fixture.meta.get_job(JobId(2)).unwrap(), None);
}

/// 12. `GetJobBy`
#[tokio::test]
async fn jobs_are_found_by_collection_by_state_and_by_both() {
    let fixture = Fixture::new().await;
    for (id, collection) in [(1, 7), (2, 7), (3, 8)] {
        fixture.add(id, collection, []).await;
    }
    fixture.meta.update_job(JobId(2), [JobAction::State(JobState::Executing)]).await.unwrap();

    let found = |filter: &JobFilter| -> Vec<i64> {
        fixture.meta.list_jobs(filter).unwrap().iter().map(|job| job.id.0).collect()
    };
    assert_eq!(found(&JobFilter::new()), [1, 2, 3]);
    assert_eq!(found(&JobFilter::new().collection(CollectionId(7))), [1, 2]);
    assert_eq!(found(&JobFilter::new().states([JobState::Pending])), [1, 3]);
    assert_eq!(found(&JobFilter::new().collection(CollectionId(7)).states([JobState::Pending])), [1]);
}

/// 13. `CountJobBy`
#[tokio::test]
async fn jobs_are_counted_by_state() {
    let fixture = Fixture::new().await;
    for id in 1..=3 {
        fixture.add(id, 7, []).await;
    }
    let count = |state| fixture.meta.count_jobs(&JobFilter::new().states([state])).unwrap();
    assert_eq!((count(JobState::Pending), count(JobState::Executing)), (3, 0));
}

/// 14. `RemoveJob_Success`
#[tokio::test]
async fn a_removed_job_is_gone_from_memory_and_storage() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, [11]).await;
    assert!(fixture.meta.remove_job(id).await.unwrap());
    assert_eq!(fixture.meta.get_job(id).unwrap(), None);
    assert_eq!(fixture.stored().await.job(id), None);
}

/// 15. `RemoveJob_NotFound`
#[tokio::test]
async fn removing_a_job_that_is_not_there_says_so_and_writes_nothing() {
    let fixture = Fixture::new().await;
    let before = fixture.head().await;
    assert!(!fixture.meta.remove_job(JobId(404)).await.unwrap());
    assert_eq!(fixture.head().await, before);
}

/// 16. `RemoveJob_CatalogError`
#[tokio::test]
async fn a_job_whose_removal_storage_refuses_stays() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, [11]).await;
    let before = (fixture.meta.get_job(id).unwrap(), fixture.meta.tasks_of_job(id).unwrap());
    fixture.refuse_next_commit();
    assert_eq!(fixture.meta.remove_job(id).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((fixture.meta.get_job(id).unwrap(), fixture.meta.tasks_of_job(id).unwrap()), before);
    assert_eq!(fixture.stored().await.job(id), before.0.as_ref());
}
