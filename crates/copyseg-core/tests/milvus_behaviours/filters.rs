//! Filters and actions: what Milvus' `copy_segment_job_test.go` and `copy_segment_task_test.go` ask of them.

use std::time::Duration;

use copyseg_core::{
    CollectionId, DatabaseId, ErrorKind, Job, JobAction, JobFilter, JobId, JobState, NewJob, NewTask, NodeId,
    TaskAction, TaskFilter, TaskId, TaskState, Timestamp,
};
use rstest::rstest;

use super::{Fixture, NOW, job};

const MINUTE: Duration = Duration::from_secs(60);

/// Jobs 1 to 6, one in each state, a minute apart; odd ones in collection 7 and database 70.
async fn six_jobs() -> Fixture {
    let fixture = Fixture::new().await;
    for id in 1..=6 {
        let odd = id % 2;
        let new = NewJob { database: DatabaseId(71 - odd), ..job(id, 8 - odd) };
        fixture.meta.add_job(new, vec![]).await.unwrap();
        fixture.clock.advance(MINUTE);
    }
    use JobState::*;
    let paths: [(i64, &[JobState]); 5] = [
        (2, &[Executing]),
        (3, &[Executing, Publishing]),
        (4, &[Executing, Publishing, Completed]),
        (5, &[Failed]),
        (6, &[Cancelled]),
    ];
    for (id, path) in paths {
        let actions = path.iter().map(|state| JobAction::State(*state));
        fixture.meta.update_job(JobId(id), actions).await.unwrap();
    }
    fixture
}

fn minute(n: u32) -> Timestamp {
    NOW.after(MINUTE * n)
}

#[rstest]
#[case::no_condition(JobFilter::new(), &[1, 2, 3, 4, 5, 6])]
#[case::collection(JobFilter::new().collection(CollectionId(7)), &[1, 3, 5])]
#[case::unknown_collection(JobFilter::new().collection(CollectionId(404)), &[])]
#[case::two_collections_are_nothing(JobFilter::new().collection(CollectionId(7)).collection(CollectionId(8)), &[])]
#[case::database(JobFilter::new().database(DatabaseId(70)), &[1, 3, 5])]
#[case::one_state(JobFilter::new().states([JobState::Executing]), &[2])]
#[case::several_states(JobFilter::new().states([JobState::Pending, JobState::Failed]), &[1, 5])]
#[case::no_state_at_all(JobFilter::new().states([]), &[])]
#[case::without_a_state(JobFilter::new().without_states([JobState::Pending]), &[2, 3, 4, 5, 6])]
#[case::without_several(JobFilter::new().without_states([JobState::Failed, JobState::Cancelled]), &[1, 2, 3, 4])]
#[case::without_none(JobFilter::new().without_states([]), &[1, 2, 3, 4, 5, 6])]
#[case::states_and_without(
    JobFilter::new().states([JobState::Pending, JobState::Failed]).without_states([JobState::Failed]), &[1])]
#[case::states_twice_is_both(
    JobFilter::new().states([JobState::Pending, JobState::Failed]).states([JobState::Failed, JobState::Completed]), &[5])]
#[case::collection_and_states(JobFilter::new().collection(CollectionId(7)).states([JobState::Failed]), &[5])]
#[case::predicate(JobFilter::new().matching(|job| job.id.0 > 4), &[5, 6])]
#[case::predicates(JobFilter::new().matching(|job| job.id.0 > 4).matching(|job| job.id.0 < 6), &[5])]
#[case::created_in_a_range(JobFilter::new().created(minute(1)..minute(3)), &[2, 3])]
#[case::created_up_to(JobFilter::new().created(..=minute(1)), &[1, 2])]
#[case::updated_since(JobFilter::new().updated(minute(6)..), &[2, 3, 4, 5, 6])]
#[case::completed_at_all(JobFilter::new().completed(..), &[4, 5, 6])]
#[case::completed_before_any_was(JobFilter::new().completed(..minute(6)), &[])]
#[case::limit(JobFilter::new().limit(2), &[1, 2])]
#[case::limit_of_none(JobFilter::new().limit(0), &[])]
#[case::after(JobFilter::new().after(JobId(4)), &[5, 6])]
#[case::the_next_page(JobFilter::new().collection(CollectionId(7)).after(JobId(1)).limit(1), &[3])]
#[case::everything_at_once(
    JobFilter::new()
        .collection(CollectionId(7))
        .database(DatabaseId(70))
        .without_states([JobState::Pending])
        .created(minute(1)..)
        .matching(|job| job.snapshot == "nightly")
        .limit(9),
    &[3, 5])]
#[tokio::test]
async fn a_job_filter_leaves_exactly_the_jobs_that_meet_all_conditions(
    #[case] filter: JobFilter,
    #[case] expected: &[i64],
) {
    let fixture = six_jobs().await;
    let ids: Vec<i64> = fixture.meta.list_jobs(&filter).unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(ids, expected, "{filter:?}");
    assert_eq!(fixture.meta.count_jobs(&filter).unwrap(), expected.len(), "{filter:?}");
}

/// Tasks 11 to 15 of job 1 in collection 7, one in each state but cancelled; 21 and 22 of job 2 in collection 8.
/// Node 5 has or had 12 and 13, node 6 has 14.
async fn seven_tasks() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11, 12, 13, 14, 15]).await;
    fixture.clock.advance(MINUTE);
    fixture.add(2, 8, [21, 22]).await;
    fixture.clock.advance(MINUTE);
    fixture.meta.claim_task(TaskId(12), NodeId(5)).await.unwrap();
    let done = fixture.meta.claim_task(TaskId(13), NodeId(5)).await.unwrap();
    let failed = fixture.meta.claim_task(TaskId(14), NodeId(6)).await.unwrap();
    fixture.meta.complete_task(done).await.unwrap();
    fixture.meta.fail_task(failed, "no such segment").await.unwrap();
    let cancelled = [TaskAction::State(TaskState::Cancelled)];
    fixture.meta.update_task(TaskId(15), cancelled).await.unwrap();
    fixture
}

#[rstest]
#[case::no_condition(TaskFilter::new(), &[11, 12, 13, 14, 15, 21, 22])]
#[case::job(TaskFilter::new().job(JobId(2)), &[21, 22])]
#[case::unknown_job(TaskFilter::new().job(JobId(404)), &[])]
#[case::two_jobs_are_nothing(TaskFilter::new().job(JobId(1)).job(JobId(2)), &[])]
#[case::collection(TaskFilter::new().collection(CollectionId(8)), &[21, 22])]
#[case::node(TaskFilter::new().node(NodeId(5)), &[12, 13])]
#[case::node_and_state(TaskFilter::new().node(NodeId(5)).states([TaskState::InProgress]), &[12])]
#[case::one_state(TaskFilter::new().states([TaskState::Pending]), &[11, 21, 22])]
#[case::several_states(TaskFilter::new().states([TaskState::Completed, TaskState::Failed]), &[13, 14])]
#[case::no_state_at_all(TaskFilter::new().states([]), &[])]
#[case::without_a_state(TaskFilter::new().without_states([TaskState::Pending]), &[12, 13, 14, 15])]
#[case::job_and_states(TaskFilter::new().job(JobId(1)).states([TaskState::Pending]), &[11])]
#[case::job_and_other_collection(TaskFilter::new().job(JobId(1)).collection(CollectionId(8)), &[])]
#[case::predicate(TaskFilter::new().matching(|task| task.attempt > 0), &[12, 13, 14])]
#[case::created(TaskFilter::new().created(minute(1)..), &[21, 22])]
#[case::updated(TaskFilter::new().updated(minute(2)..), &[12, 13, 14, 15])]
#[case::completed(TaskFilter::new().completed(..), &[13, 14, 15])]
#[case::page(TaskFilter::new().job(JobId(1)).after(TaskId(12)).limit(2), &[13, 14])]
#[tokio::test]
async fn a_task_filter_leaves_exactly_the_tasks_that_meet_all_conditions(
    #[case] filter: TaskFilter,
    #[case] expected: &[i64],
) {
    let fixture = seven_tasks().await;
    let ids: Vec<i64> = fixture.meta.list_tasks(&filter).unwrap().iter().map(|task| task.id.0).collect();
    assert_eq!(ids, expected, "{filter:?}");
    assert_eq!(fixture.meta.count_tasks(&filter).unwrap(), expected.len(), "{filter:?}");
}

#[tokio::test]
async fn job_actions_apply_in_order_and_the_last_word_counts() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, []).await;
    let deadline = NOW.after(MINUTE);
    let actions = [
        JobAction::State(JobState::Executing),
        JobAction::Reason("first".into()),
        JobAction::Rows(9),
        JobAction::Option("verify".into(), "full".into()),
        JobAction::Option("verify".into(), "size".into()),
        JobAction::Deadline(Some(deadline)),
        JobAction::State(JobState::Publishing),
        JobAction::Reason("second".into()),
    ];
    let job = fixture.meta.update_job(id, actions).await.unwrap();
    assert_eq!((job.state, job.reason.as_str(), job.rows), (JobState::Publishing, "second", Some(9)));
    assert_eq!(job.options.get("verify").map(String::as_str), Some("size"));
    assert_eq!(job.deadline, Some(deadline));
}

#[tokio::test]
async fn one_refused_action_drops_them_all() {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, [11]).await;
    let (job, head) = (fixture.meta.get_job(id).unwrap(), fixture.head().await);
    let actions = [JobAction::Reason("changed".into()), JobAction::State(JobState::Completed)];
    let error = fixture.meta.update_job(id, actions).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IllegalTransition);
    assert_eq!(fixture.meta.get_job(id).unwrap(), job);

    let task = fixture.meta.get_task(TaskId(11)).unwrap();
    let actions = [TaskAction::Slots(9), TaskAction::State(TaskState::InProgress)];
    let error = fixture.meta.update_task(TaskId(11), actions).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IllegalTransition);
    assert_eq!(fixture.meta.get_task(TaskId(11)).unwrap(), task);
    assert_eq!(fixture.head().await, head);
}

/// Where Milvus arms `cleanup_ts`, a terminal job here says when it ended; retention counts from there.
#[rstest]
#[case::executing(&[JobState::Executing], false)]
#[case::publishing(&[JobState::Executing, JobState::Publishing], false)]
#[case::completed(&[JobState::Executing, JobState::Publishing, JobState::Completed], true)]
#[case::failed(&[JobState::Failed], true)]
#[case::cancelled(&[JobState::Cancelled], true)]
#[tokio::test]
async fn only_a_terminal_state_says_when_the_job_ended(#[case] path: &[JobState], #[case] ended: bool) {
    let fixture = Fixture::new().await;
    let id = fixture.add(1, 7, []).await;
    fixture.clock.advance(MINUTE);
    let actions = path.iter().map(|state| JobAction::State(*state));
    let job = fixture.meta.update_job(id, actions).await.unwrap();
    assert_eq!(job.completed, ended.then_some(minute(1)));
    let executed = path.contains(&JobState::Executing);
    assert_eq!(job.started, executed.then_some(minute(1)));
    assert_eq!((job.created, job.updated), (NOW, minute(1)));
}

/// Milvus wrote a deadline in one unit and read it in another, so it never fired.
#[tokio::test]
async fn a_deadline_comes_back_to_the_millisecond() {
    let fixture = Fixture::new().await;
    let deadline = NOW.after(Duration::from_millis(3_600_001));
    let new = NewJob { deadline: Some(deadline), ..job(1, 7) };
    let id = fixture.meta.add_job(new, vec![]).await.unwrap();
    assert_eq!(fixture.stored().await.job(id).unwrap().deadline, Some(deadline));
    assert_eq!(deadline.since(NOW), Duration::from_millis(3_600_001));

    let lifted = fixture.meta.update_job(id, [JobAction::Deadline(None)]).await.unwrap();
    assert_eq!(lifted.deadline, None);
}

#[tokio::test]
async fn empty_options_and_segments_stay_empty() {
    let fixture = Fixture::new().await;
    fixture.meta.add_job(job(1, 7), vec![NewTask::new([])]).await.unwrap();
    let stored = fixture.stored().await;
    assert!(stored.job(JobId(1)).unwrap().options.is_empty());
    assert!(stored.tasks_of_job(JobId(1)).next().unwrap().segments.is_empty());
}

#[test]
fn every_state_is_found_by_its_name() {
    for state in JobState::ALL {
        assert_eq!(state.to_string().parse::<JobState>().unwrap(), state);
    }
    for state in TaskState::ALL {
        assert_eq!(state.to_string().parse::<TaskState>().unwrap(), state);
    }
    assert_eq!("done".parse::<JobState>().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!("done".parse::<TaskState>().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// Milvus clones records by hand so that a caller cannot change what the cache holds.
#[tokio::test]
async fn what_a_reader_holds_never_changes_under_it() {
    let fixture = Fixture::new().await;
    fixture.add(1, 7, [11]).await;
    let (job, task) = (
        fixture.meta.get_job(JobId(1)).unwrap().unwrap(),
        fixture.meta.get_task(TaskId(11)).unwrap().unwrap(),
    );
    let snapshot = fixture.meta.snapshot().unwrap();
    let mut mine = Job::clone(&job);
    mine.reason = "mine".into();

    fixture.meta.fail_job(JobId(1), "stopped").await.unwrap();
    fixture.meta.remove_job(JobId(1)).await.unwrap();
    assert_eq!((job.state, job.reason.as_str(), task.state), (JobState::Pending, "", TaskState::Pending));
    assert_eq!(snapshot.job(JobId(1)), Some(&job));
    assert_eq!(snapshot.task(TaskId(11)), Some(&task));
    assert_eq!(snapshot.count_tasks(&TaskFilter::new()), 1);
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap(), None);
}
