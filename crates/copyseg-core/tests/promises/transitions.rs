//! Every change of state is legal by one table, and terminal is final.

use copyseg_core::{ErrorKind, JobAction, JobId, JobState, NodeId, TaskAction, TaskId, TaskState, Timestamp};
use rstest::rstest;

use super::{Fixture, visible};

/// The table as the documentation states it, written down a second time on purpose.
fn job_may(from: JobState, to: JobState) -> bool {
    use JobState::*;
    match from {
        Pending => [Executing, Failed, Cancelled].contains(&to),
        Executing => [Publishing, Failed, Cancelled].contains(&to),
        Publishing => [Completed, Failed].contains(&to),
        Completed | Failed | Cancelled => false,
    }
}

fn path_to(state: JobState) -> Vec<JobAction> {
    use JobState::*;
    let path: &[JobState] = match state {
        Pending => &[],
        Executing => &[Executing],
        Publishing => &[Executing, Publishing],
        Completed => &[Executing, Publishing, Completed],
        Failed => &[Failed],
        Cancelled => &[Cancelled],
    };
    path.iter().map(|state| JobAction::State(*state)).collect()
}

#[rstest]
#[tokio::test]
async fn a_job_changes_state_only_as_the_table_allows(
    #[values(
        JobState::Pending,
        JobState::Executing,
        JobState::Publishing,
        JobState::Completed,
        JobState::Failed,
        JobState::Cancelled
    )]
    from: JobState,
    #[values(
        JobState::Pending,
        JobState::Executing,
        JobState::Publishing,
        JobState::Completed,
        JobState::Failed,
        JobState::Cancelled
    )]
    to: JobState,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.meta.update_job(JobId(1), path_to(from)).await.unwrap();
    let before = visible(&fixture.meta.snapshot().unwrap());
    let outcome = fixture.meta.update_job(JobId(1), [JobAction::State(to)]).await;
    if job_may(from, to) {
        assert_eq!(outcome.unwrap().state, to);
    } else {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::IllegalTransition);
        assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
    }
}

/// Nothing changes a job that has ended, whatever is asked; only removing it is left.
#[rstest]
#[tokio::test]
async fn a_job_that_has_ended_never_changes_again(
    #[values(JobState::Completed, JobState::Failed, JobState::Cancelled)] end: JobState,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.meta.update_job(JobId(1), path_to(end)).await.unwrap();
    fixture.clock.advance(std::time::Duration::from_secs(1));
    let before = visible(&fixture.meta.snapshot().unwrap());
    let actions = [
        JobAction::Reason("later".into()),
        JobAction::Rows(1),
        JobAction::Deadline(Some(Timestamp::from_millis(1))),
        JobAction::Option("a".into(), "b".into()),
    ];
    for action in actions {
        let error = fixture.meta.update_job(JobId(1), [action]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IllegalTransition);
    }
    let refused = ErrorKind::IllegalTransition;
    assert_eq!(fixture.meta.add_task(JobId(1), super::task(11)).await.unwrap_err().kind(), refused);
    let cancelled = fixture.meta.cancel_job(JobId(1), "later").await;
    assert_eq!(
        cancelled.is_ok(),
        end == JobState::Cancelled,
        "cancelling again is fine, and changes nothing"
    );
    let failed = fixture.meta.fail_job(JobId(1), "later").await;
    assert_eq!(failed.is_ok(), end == JobState::Failed, "failing again is fine, and changes nothing");
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
    assert!(fixture.meta.remove_job(JobId(1)).await.unwrap());
}

/// A task 11 of an active job, brought into this state.
async fn task_in(state: TaskState) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let meta = &fixture.meta;
    match state {
        TaskState::Pending => {}
        TaskState::Cancelled => {
            meta.update_task(TaskId(11), [TaskAction::State(TaskState::Cancelled)]).await.map(drop).unwrap();
        }
        state => {
            let claim = meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
            match state {
                TaskState::Completed => meta.complete_task(claim).await.unwrap(),
                TaskState::Failed => meta.fail_task(claim, "gone").await.unwrap(),
                _ => {}
            }
        }
    }
    assert_eq!(meta.get_task(TaskId(11)).unwrap().unwrap().state, state);
    fixture
}

/// By an update, a task only leaves `Pending` for `Failed` or `Cancelled`: the rest takes a claim.
#[rstest]
#[tokio::test]
async fn an_update_moves_a_task_only_from_pending_to_an_end(
    #[values(
        TaskState::Pending,
        TaskState::InProgress,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Cancelled
    )]
    from: TaskState,
    #[values(
        TaskState::Pending,
        TaskState::InProgress,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Cancelled
    )]
    to: TaskState,
) {
    let fixture = task_in(from).await;
    let before = visible(&fixture.meta.snapshot().unwrap());
    let outcome = fixture.meta.update_task(TaskId(11), [TaskAction::State(to)]).await;
    if from == TaskState::Pending && [TaskState::Failed, TaskState::Cancelled].contains(&to) {
        let task = outcome.unwrap();
        assert_eq!((task.state, task.completed), (to, Some(super::NOW)));
    } else {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::IllegalTransition);
        assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
    }
}

#[rstest]
#[tokio::test]
async fn a_task_that_has_ended_never_changes_again(
    #[values(TaskState::Completed, TaskState::Failed, TaskState::Cancelled)] end: TaskState,
) {
    let fixture = task_in(end).await;
    let before = visible(&fixture.meta.snapshot().unwrap());
    let refused = ErrorKind::IllegalTransition;
    for action in [TaskAction::Reason("later".into()), TaskAction::Slots(9)] {
        assert_eq!(fixture.meta.update_task(TaskId(11), [action]).await.unwrap_err().kind(), refused);
    }
    assert_eq!(fixture.meta.claim_task(TaskId(11), NodeId(6)).await.unwrap_err().kind(), refused);
    assert_eq!(fixture.meta.reassign_node(NodeId(5), "lost").await.unwrap(), 0);
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
}

/// A task with its worker, or of a job that is being published, cannot be taken away underneath.
#[tokio::test]
async fn a_task_is_not_removed_while_somebody_counts_on_it() {
    let fixture = task_in(TaskState::InProgress).await;
    let refused = ErrorKind::IllegalTransition;
    assert_eq!(fixture.meta.remove_task(TaskId(11)).await.unwrap_err().kind(), refused);
    let claim = fixture.meta.get_task(TaskId(11)).unwrap().unwrap().claim().unwrap();
    fixture.meta.complete_task(claim).await.unwrap();
    fixture.meta.update_job(JobId(1), [JobAction::State(JobState::Publishing)]).await.unwrap();
    assert_eq!(fixture.meta.remove_task(TaskId(11)).await.unwrap_err().kind(), refused);
    assert_eq!(fixture.meta.tasks_of_job(JobId(1)).unwrap().len(), 1);
}

/// A removed task leaves its segments missing, so its job does not look complete.
#[tokio::test]
async fn a_job_whose_task_was_removed_cannot_be_published() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.meta.complete_task(claim).await.unwrap();
    fixture.meta.remove_task(TaskId(12)).await.unwrap();
    let publish = [JobAction::State(JobState::Publishing)];
    let error = fixture.meta.update_job(JobId(1), publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IllegalTransition);
    assert!(error.to_string().contains("1 of 2 segments"), "{error}");
}

#[tokio::test]
async fn ending_a_job_that_is_not_there_names_what_was_asked() {
    let fixture = Fixture::new().await;
    let cancelled = fixture.meta.cancel_job(JobId(7), "").await.unwrap_err();
    assert_eq!(cancelled.to_string(), "cancel job 7: there is no such job");
    let failed = fixture.meta.fail_job(JobId(7), "").await.unwrap_err();
    assert_eq!(failed.to_string(), "fail job 7: there is no such job");
}
