//! Ids come from a durable counter, and none is given out twice.

use std::collections::HashSet;

use copyseg_conformance::{Call, Fault};
use copyseg_core::{ErrorKind, JobId, MemoryCatalog, NewJob, NewTask};
use rstest::rstest;

use super::{Fixture, job, open, task};

#[tokio::test]
async fn no_id_is_given_out_twice_across_restarts() {
    let store = MemoryCatalog::new();
    let mut given = HashSet::new();
    for _ in 0..3 {
        let meta = open(&store).await;
        given.extend(meta.allocate_ids(10).await.unwrap());
        let tasks = vec![NewTask { id: None, ..task(1) }];
        let job = meta.add_job(NewJob::default(), tasks).await.unwrap();
        given.insert(job.0);
        given.insert(meta.tasks_of_job(job).unwrap()[0].id.0);
        meta.remove_job(job).await.unwrap();
    }
    assert_eq!(given.len(), 3 * 12);
}

#[tokio::test]
async fn concurrent_allocations_do_not_overlap() {
    let fixture = Fixture::new().await;
    let allocations = (0..50).map(|_| {
        let meta = fixture.meta.clone();
        tokio::spawn(async move { meta.allocate_ids(7).await.unwrap() })
    });
    let mut given = HashSet::new();
    for allocation in allocations.collect::<Vec<_>>() {
        given.extend(allocation.await.unwrap());
    }
    assert_eq!(given.len(), 50 * 7);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn an_allocation_that_returned_ok_is_never_repeated_whatever_failed_before(
    #[values(Fault::Before, Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
) {
    let fixture = Fixture::new().await;
    let mut given = HashSet::new();
    for _ in 0..5 {
        fixture.faults.fail_nth_of(Call::Commit, 1, fault);
        for _ in 0..3 {
            if let Ok(ids) = fixture.meta.allocate_ids(4).await {
                assert!(ids.into_iter().all(|id| given.insert(id)), "given out twice");
            }
        }
    }
    let reopened = open(&fixture.store).await;
    assert!(reopened.allocate_ids(100).await.unwrap().all(|id| given.insert(id)));
}

#[tokio::test]
async fn ids_that_callers_brought_are_not_given_out_for_the_same_kind() {
    let fixture = Fixture::new().await;
    for id in 1..=5 {
        fixture.add(id, [id + 5]).await;
    }
    for _ in 0..10 {
        let tasks = vec![NewTask { id: None, ..task(100) }];
        fixture.meta.add_job(NewJob::default(), tasks).await.unwrap();
    }
    assert_eq!(fixture.meta.count_jobs(&copyseg_core::JobFilter::new()).unwrap(), 15);
    assert_eq!(fixture.meta.count_tasks(&copyseg_core::TaskFilter::new()).unwrap(), 15);
}

#[tokio::test]
async fn tasks_with_and_without_an_id_of_their_own_can_be_added_together() {
    let fixture = Fixture::new().await;
    let next = fixture.meta.allocate_ids(1).await.unwrap().end;
    // The job takes the next one.
    let without = NewTask { id: None, ..task(100) };
    let id = fixture.meta.add_job(NewJob::default(), vec![without, task(next + 1)]).await.unwrap();
    let ids: Vec<i64> = fixture.meta.tasks_of_job(id).unwrap().iter().map(|task| task.id.0).collect();
    assert_eq!(ids, [next + 1, next + 2]);

    let twice = [task(200), NewTask { id: task(200).id, ..task(201) }];
    let error = fixture.meta.add_job(NewJob::default(), twice.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("task id 200 is given twice"), "{error}");
}

#[tokio::test]
async fn extreme_ids_are_ids_like_any_other_and_the_counter_has_an_end() {
    let fixture = Fixture::new().await;
    for id in [i64::MIN, -1, 0, i64::MAX] {
        fixture.add(id, [id]).await;
    }
    let meta = open(&fixture.store).await;
    assert!(meta.get_job(JobId(i64::MIN)).unwrap().is_some());
    let error = meta.allocate_ids(u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    meta.allocate_ids(i64::MAX as u64 - 1).await.unwrap();
    assert_eq!(meta.allocate_ids(1).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    meta.add_job(job(7), vec![task(7)]).await.unwrap();
}
