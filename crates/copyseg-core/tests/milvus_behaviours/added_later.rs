//! What later versions of Milvus added to its meta manager after nine months of production use.

use copyseg_core::{
    ErrorKind, JobAction, JobFilter, JobId, JobState, MetaManager, NodeId, TaskAction, TaskFilter, TaskId,
    TaskState,
};
use rstest::rstest;

use super::{Fixture, job, task};

/// `UpdateTask_SaveFailureLeavesCacheUnchanged`
#[tokio::test]
async fn an_update_of_a_task_that_storage_refuses_leaves_it_as_it_was() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let before = fixture.meta.get_task(TaskId(11)).unwrap();
    fixture.refuse_next_commit();
    let actions = [TaskAction::State(TaskState::Failed), TaskAction::Reason("gone".into())];
    let error = fixture.meta.update_task(TaskId(11), actions).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap(), before);
    assert_eq!(fixture.stored().await.task(TaskId(11)), before.as_ref());
}

/// Compare and set, as `UpdateJobInState` does it.
async fn update_in_state(meta: &MetaManager, id: JobId, expected: JobState, next: JobState) -> bool {
    let change = |txn: &mut copyseg_core::Txn<'_>| {
        if txn.job(id).is_none_or(|job| job.state != expected) {
            return Ok(false);
        }
        txn.update_job(id, [JobAction::State(next)]).map(|_| true)
    };
    meta.transact(change).await.unwrap()
}

/// `UpdateJobInState_AppliesOnlyWhenStateMatches`
#[rstest]
#[case::a_match(1, JobState::Pending, true)]
#[case::a_mismatch(1, JobState::Executing, false)]
#[case::a_missing_job(404, JobState::Pending, false)]
#[tokio::test]
async fn compare_and_set_applies_only_when_the_state_matches(
    #[case] id: i64,
    #[case] expected: JobState,
    #[case] applied: bool,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, []).await;
    let before = fixture.head().await;
    assert_eq!(update_in_state(&fixture.meta, JobId(id), expected, JobState::Failed).await, applied);
    assert_eq!(fixture.head().await != before, applied, "a change is written, no change is not");
    let state = fixture.meta.get_job(JobId(1)).unwrap().unwrap().state;
    assert_eq!(state, if applied { JobState::Failed } else { JobState::Pending });
}

#[tokio::test]
async fn of_many_that_compare_and_set_exactly_one_applies() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, []).await;
    let attempts = (0..32).map(|_| {
        let meta = fixture.meta.clone();
        tokio::spawn(
            async move { update_in_state(&meta, JobId(1), JobState::Pending, JobState::Cancelled).await },
        )
    });
    let mut applied = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        applied += usize::from(attempt.await.unwrap());
    }
    assert_eq!(applied, 1);
}

/// `TimeoutJob`: takes every state that is not terminal, `Publishing` included.
#[rstest]
#[case::pending(&[], true)]
#[case::executing(&[JobState::Executing], true)]
#[case::publishing(&[JobState::Executing, JobState::Publishing], true)]
#[case::completed(&[JobState::Executing, JobState::Publishing, JobState::Completed], false)]
#[case::cancelled(&[JobState::Cancelled], false)]
#[tokio::test]
async fn a_job_past_its_deadline_fails_unless_it_has_ended(#[case] path: &[JobState], #[case] fails: bool) {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, []).await;
    fixture.meta.update_job(id, path.iter().map(|state| JobAction::State(*state))).await.unwrap();
    let before = fixture.meta.get_job(id).unwrap().unwrap();
    let outcome = fixture.meta.fail_job(id, "timeout").await;
    let after = fixture.meta.get_job(id).unwrap().unwrap();
    if fails {
        assert_eq!((after.state, after.reason.as_str()), (JobState::Failed, "timeout"));
    } else {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::IllegalTransition);
        assert_eq!(after, before);
    }
    assert_eq!(fixture.meta.fail_job(JobId(404), "timeout").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// `ClaimTaskDispatch`: attempts count 1, 2 and are durable; a second claim while one is out is refused.
#[tokio::test]
async fn attempts_are_counted_durably_and_given_out_one_at_a_time() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    let first = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    assert_eq!((first.attempt, fixture.stored().await.task(TaskId(11)).unwrap().attempt), (1, 1));
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap().unwrap().state, JobState::Executing);
    let second = fixture.meta.claim_task(TaskId(11), NodeId(6)).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::IllegalTransition);
    assert_eq!(
        fixture.meta.claim_task(TaskId(12), NodeId(6)).await.unwrap().attempt,
        1,
        "claims are per task"
    );

    fixture.meta.release_task(first, "no slots").await.unwrap();
    let released = fixture.meta.get_task(TaskId(11)).unwrap().unwrap();
    assert_eq!(
        (released.state, released.node, released.reason.as_str()),
        (TaskState::Pending, None, "no slots")
    );
    let second = fixture.meta.claim_task(TaskId(11), NodeId(6)).await.unwrap();
    assert_eq!((second.attempt, fixture.stored().await.task(TaskId(11)).unwrap().attempt), (2, 2));
}

/// `ClaimTaskDispatch`: a failed save keeps the attempt and does not leak the claim.
#[tokio::test]
async fn a_claim_that_storage_refuses_was_never_given_out() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    fixture.refuse_next_commit();
    let error = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap().unwrap().state, JobState::Pending);
    assert_eq!(fixture.meta.claim_task(TaskId(11), NodeId(6)).await.unwrap().attempt, 1);
}

/// `ClaimTaskDispatch` and `CommitTaskDispatch`: what forbids a claim.
#[rstest]
#[case::cancelled(&[JobState::Cancelled])]
#[case::failed(&[JobState::Failed])]
#[case::failed_while_executing(&[JobState::Executing, JobState::Failed])]
#[tokio::test]
async fn nothing_is_claimed_once_the_job_has_ended(#[case] path: &[JobState]) {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, [11]).await;
    fixture.meta.update_job(id, path.iter().map(|state| JobAction::State(*state))).await.unwrap();
    let before = fixture.head().await;
    let error = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IllegalTransition);
    let error = fixture.meta.claim_task(TaskId(404), NodeId(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(fixture.head().await, before);
}

/// `CommitTaskDispatch`: a result that comes after its job ended is discarded and revives nothing.
#[rstest]
#[case::cancelled(JobState::Cancelled, TaskState::Cancelled)]
#[case::failed(JobState::Failed, TaskState::Failed)]
#[tokio::test]
async fn a_result_that_comes_after_its_job_ended_is_discarded(
    #[case] end: JobState,
    #[case] task_end: TaskState,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    let actions = [JobAction::State(end), JobAction::Reason("stopped".into())];
    fixture.meta.update_job(JobId(1), actions).await.unwrap();
    let before = fixture.head().await;

    assert_eq!(fixture.meta.complete_task(claim).await.unwrap_err().kind(), ErrorKind::StaleClaim);
    assert_eq!(fixture.meta.release_task(claim, "").await.unwrap_err().kind(), ErrorKind::StaleClaim);
    assert_eq!(fixture.meta.heartbeat(claim).unwrap_err().kind(), ErrorKind::StaleClaim);
    let task = fixture.meta.get_task(TaskId(11)).unwrap().unwrap();
    assert_eq!((task.state, task.reason.as_str()), (task_end, "stopped"));
    assert_eq!(fixture.head().await, before);
}

/// A worker's failure comes with its reason, and its job is the caller's to decide about.
#[tokio::test]
async fn a_failed_task_keeps_the_reason_of_its_worker() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.meta.fail_task(claim, "no such bucket").await.unwrap();
    let task = fixture.stored().await.task(TaskId(11)).cloned().unwrap();
    assert_eq!(
        (task.state, task.reason.as_str(), task.node),
        (TaskState::Failed, "no such bucket", Some(NodeId(5)))
    );
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap().unwrap().state, JobState::Executing);
}

/// `ResolveTaskOnWorkerLoss`: back to pending without a node, for that node only, and the next attempt is later.
#[tokio::test]
async fn the_tasks_of_a_lost_worker_go_back_and_what_it_still_says_is_refused() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12, 13]).await;
    let lost = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.meta.claim_task(TaskId(12), NodeId(6)).await.unwrap();
    let done = fixture.meta.claim_task(TaskId(13), NodeId(5)).await.unwrap();
    fixture.meta.complete_task(done).await.unwrap();

    assert_eq!(fixture.meta.reassign_node(NodeId(5), "the worker was lost").await.unwrap(), 1);
    let task = fixture.meta.get_task(TaskId(11)).unwrap().unwrap();
    assert_eq!(
        (task.state, task.node, task.reason.as_str()),
        (TaskState::Pending, None, "the worker was lost")
    );
    let in_progress = TaskFilter::new().states([TaskState::InProgress]);
    assert_eq!(
        fixture.meta.list_tasks(&in_progress).unwrap()[0].id,
        TaskId(12),
        "another worker keeps its task"
    );
    assert_eq!(fixture.meta.get_task(TaskId(13)).unwrap().unwrap().state, TaskState::Completed);
    assert_eq!(fixture.meta.reassign_node(NodeId(404), "").await.unwrap(), 0);

    assert_eq!(fixture.meta.claim_task(TaskId(11), NodeId(6)).await.unwrap().attempt, 2);
    assert_eq!(fixture.meta.complete_task(lost).await.unwrap_err().kind(), ErrorKind::StaleClaim);
}

/// `ResolveTaskOnWorkerLoss`: a catalog error changes nothing.
#[tokio::test]
async fn a_reassignment_that_storage_refuses_leaves_the_task_with_its_worker() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.refuse_next_commit();
    let error = fixture.meta.reassign_node(NodeId(5), "lost").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fixture.meta.complete_task(claim).await.unwrap();
}

/// `AddJobWithSegments` and the import manager's `AddTasksToJob`: a job and its tasks come in one write or not at all.
#[tokio::test]
async fn a_job_and_its_tasks_come_together_or_not_at_all() {
    let fixture = Fixture::new().await;
    fixture.refuse_next_commit();
    fixture.meta.add_job(job(1, 7), vec![task(11), task(12)]).await.unwrap_err();
    assert_eq!(fixture.meta.count_jobs(&JobFilter::new()).unwrap(), 0);
    assert_eq!(fixture.meta.count_tasks(&TaskFilter::new()).unwrap(), 0);
    assert_eq!(fixture.stored().await.count_tasks(&TaskFilter::new()), 0);

    let commits = fixture.faults.commits();
    fixture.meta.add_job(job(1, 7), vec![task(11), task(12)]).await.unwrap();
    assert_eq!(fixture.faults.commits(), commits + 1);
    assert_eq!(fixture.stored().await.job(JobId(1)).unwrap().segments, 2);
    assert_eq!(fixture.stored().await.count_tasks(&TaskFilter::new()), 2);
}

/// `FinalizeJobPublication`: a job is published only when every segment is copied, and only once.
#[tokio::test]
async fn a_job_is_published_only_when_every_segment_is_copied() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12]).await;
    let publish = || fixture.meta.update_job(JobId(1), [JobAction::State(JobState::Publishing)]);
    for (task, left) in [(11, 1), (12, 0)] {
        let claim = fixture.meta.claim_task(TaskId(task), NodeId(5)).await.unwrap();
        let error = publish().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IllegalTransition);
        fixture.meta.complete_task(claim).await.unwrap();
        let open = TaskFilter::new().job(JobId(1)).without_states([TaskState::Completed]);
        assert_eq!(fixture.meta.count_tasks(&open).unwrap(), left);
    }
    publish().await.unwrap();
    assert_eq!(publish().await.unwrap_err().kind(), ErrorKind::IllegalTransition);
    assert_eq!(
        fixture.meta.cancel_job(JobId(1), "too late").await.unwrap_err().kind(),
        ErrorKind::IllegalTransition
    );
    let completed = fixture.meta.update_job(JobId(1), [JobAction::State(JobState::Completed)]).await.unwrap();
    assert_eq!(completed.state, JobState::Completed);
}
