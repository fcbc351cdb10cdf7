//! What is added is checked as a whole, and a transaction sees what it has added.

use copyseg_core::{
    ErrorKind, JobId, NewJob, NewTask, NodeId, PartitionId, SegmentId, SegmentPair, TaskId, TaskState,
};
use rstest::rstest;

use super::{Fixture, NOW, job, task};

fn copying<const N: usize>(pairs: [(i64, i64); N]) -> NewTask {
    NewTask::new(pairs.map(|(source, target)| SegmentPair::new(SegmentId(source), SegmentId(target))))
}

fn into_partition<const N: usize>(id: i64, pairs: [(i64, i64); N]) -> NewTask {
    let pairs = copying(pairs).segments;
    NewTask::new(pairs.iter().map(|pair| SegmentPair { partition: Some(PartitionId(id)), ..pair }))
}

#[rstest]
#[case::a_source_twice(vec![copying([(1, 101), (1, 102)])])]
#[case::a_source_twice_in_two_tasks(vec![copying([(1, 101)]), copying([(1, 102)])])]
#[case::two_sources_become_one_target(vec![copying([(1, 101), (2, 101)])])]
#[tokio::test]
async fn a_segment_is_copied_once_and_becomes_one_of_its_own(#[case] tasks: Vec<NewTask>) {
    let fixture = Fixture::new().await;
    let refused = fixture.meta.add_job(job(1), tasks).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(refused.to_string().starts_with("add job 1 "), "{refused}");
}

#[tokio::test]
async fn a_job_takes_tasks_until_they_hold_as_many_segments_as_it_was_created_with() {
    let fixture = Fixture::new().await;
    let room_for_five = NewJob { segments: Some(5), ..job(1) };
    let two = copying([(1, 101), (2, 102)]);
    fixture.meta.add_job(room_for_five, vec![two]).await.unwrap();
    let four = copying([(3, 103), (4, 104), (5, 105), (6, 106)]);
    let refused = fixture.meta.add_task(JobId(1), four).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let three = copying([(3, 103), (4, 104), (5, 105)]);
    fixture.meta.add_task(JobId(1), three).await.unwrap();
    let one = copying([(6, 106)]);
    assert_eq!(fixture.meta.add_task(JobId(1), one).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// Whoever lost the answer may ask again in the same words.
#[rstest]
#[case::counted(None, true)]
#[case::given(Some(2), true)]
#[case::given_otherwise(Some(3), false)]
#[tokio::test]
async fn a_job_added_again_is_identical_if_its_count_is_the_same(
    #[case] segments: Option<u64>,
    #[case] identical: bool,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12]).await;
    let again = NewJob { segments, ..job(1) };
    let refused = fixture.meta.add_job(again, vec![task(11), task(12)]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists { identical });
}

#[rstest]
#[case::in_one_task(vec![copying([(2, 102), (1, 101)])], true)]
#[case::another_target(vec![copying([(1, 101), (2, 103)])], false)]
#[case::another_partition(vec![copying([(1, 101)]), into_partition(7, [(2, 102)])], false)]
#[tokio::test]
async fn a_job_added_again_is_identical_if_its_pairs_are_the_same(
    #[case] tasks: Vec<NewTask>,
    #[case] identical: bool,
) {
    let fixture = Fixture::new().await;
    fixture.meta.add_job(job(1), vec![copying([(1, 101)]), copying([(2, 102)])]).await.unwrap();
    let refused = fixture.meta.add_job(job(1), tasks).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists { identical });
}

#[tokio::test]
async fn a_transaction_sees_its_own_changes_and_carries_one_time() {
    let fixture = Fixture::new().await;
    let seen = fixture.meta.transact(|txn| {
        assert_eq!(txn.task(TaskId(11)), None);
        txn.add_job(job(1), vec![task(11)])?;
        txn.claim_task(TaskId(11), NodeId(5))?;
        assert_eq!(txn.now(), NOW);
        Ok((txn.job(JobId(1)).cloned().unwrap(), txn.task(TaskId(11)).cloned().unwrap()))
    });
    let (job, task) = seen.await.unwrap();
    assert_eq!((job.created, task.state, task.started), (NOW, TaskState::InProgress, Some(NOW)));
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap().unwrap(), job);
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap().unwrap(), task);
}

#[tokio::test]
async fn taking_no_ids_is_no_change() {
    let fixture = Fixture::new().await;
    let (revision, commits) = (fixture.meta.snapshot().unwrap().revision(), fixture.faults.commits());
    assert!(fixture.meta.allocate_ids(0).await.unwrap().is_empty());
    assert_eq!(fixture.meta.snapshot().unwrap().revision(), revision);
    assert_eq!(fixture.faults.commits(), commits);
}

#[tokio::test]
async fn what_a_transaction_changes_carries_its_revision() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12]).await;
    fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    let snapshot = fixture.meta.snapshot().unwrap();
    let changed = [snapshot.job(JobId(1)).unwrap().revision, snapshot.task(TaskId(11)).unwrap().revision];
    assert_eq!(changed, [snapshot.revision(); 2]);
    assert!(snapshot.task(TaskId(12)).unwrap().revision < snapshot.revision());
}
