//! What each condition lets through, and how conditions compose.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::RangeBounds;

use rstest::rstest;

use super::*;
use crate::samples;

fn job() -> Job {
    Job {
        database: DatabaseId(3),
        collection: CollectionId(7),
        state: JobState::Executing,
        created: at(100),
        updated: at(200),
        ..samples::job(5)
    }
}

fn task() -> Task {
    Task {
        collection: CollectionId(7),
        node: Some(NodeId(4)),
        state: TaskState::InProgress,
        created: at(100),
        updated: at(200),
        ..samples::task(9, 5)
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[rstest]
#[case::no_condition(JobFilter::new(), true)]
#[case::its_collection(JobFilter::new().collection(CollectionId(7)), true)]
#[case::another_collection(JobFilter::new().collection(CollectionId(8)), false)]
#[case::two_collections(JobFilter::new().collection(CollectionId(8)).collection(CollectionId(7)), false)]
#[case::its_database(JobFilter::new().database(DatabaseId(3)), true)]
#[case::another_database(JobFilter::new().database(DatabaseId(4)), false)]
#[case::two_databases(JobFilter::new().database(DatabaseId(3)).database(DatabaseId(4)), false)]
#[case::its_state(JobFilter::new().states([JobState::Pending, JobState::Executing]), true)]
#[case::its_state_twice(JobFilter::new().states([JobState::Executing, JobState::Executing]), true)]
#[case::other_states(JobFilter::new().states([JobState::Pending, JobState::Failed]), false)]
#[case::no_states(JobFilter::new().states([]), false)]
#[case::states_apart(JobFilter::new().states([JobState::Executing]).states([JobState::Failed]), false)]
#[case::without_its_state(JobFilter::new().without_states([JobState::Executing]), false)]
#[case::without_others(JobFilter::new().without_states([JobState::Pending, JobState::Failed]), true)]
#[case::without_none(JobFilter::new().without_states([]), true)]
#[case::with_and_without(
    JobFilter::new().states([JobState::Executing]).without_states([JobState::Executing]),
    false
)]
#[case::after_it(JobFilter::new().after(JobId(5)), false)]
#[case::after_an_earlier_one(JobFilter::new().after(JobId(4)), true)]
#[case::the_later_cursor_holds(JobFilter::new().after(JobId(6)).after(JobId(4)), false)]
#[case::a_predicate_that_holds(JobFilter::new().matching(|job| job.id == JobId(5)), true)]
#[case::one_predicate_of_two(JobFilter::new().matching(|_| true).matching(|_| false), false)]
fn a_job_matches_when_every_condition_holds(#[case] filter: JobFilter, #[case] matches: bool) {
    assert_eq!(filter.matches(&job()), matches, "{filter:?}");
}

#[rstest]
#[case::no_condition(TaskFilter::new(), true)]
#[case::its_job(TaskFilter::new().job(JobId(5)), true)]
#[case::another_job(TaskFilter::new().job(JobId(6)), false)]
#[case::two_jobs(TaskFilter::new().job(JobId(6)).job(JobId(5)), false)]
#[case::the_same_job_twice(TaskFilter::new().job(JobId(5)).job(JobId(5)), true)]
#[case::its_collection(TaskFilter::new().collection(CollectionId(7)), true)]
#[case::two_collections(TaskFilter::new().collection(CollectionId(8)).collection(CollectionId(7)), false)]
#[case::its_node(TaskFilter::new().node(NodeId(4)), true)]
#[case::another_node(TaskFilter::new().node(NodeId(5)), false)]
#[case::two_nodes(TaskFilter::new().node(NodeId(5)).node(NodeId(4)), false)]
#[case::its_state(TaskFilter::new().states([TaskState::InProgress]), true)]
#[case::other_states(TaskFilter::new().states([TaskState::Pending, TaskState::Completed]), false)]
#[case::no_states(TaskFilter::new().states([]), false)]
#[case::without_its_state(TaskFilter::new().without_states([TaskState::InProgress]), false)]
#[case::without_none(TaskFilter::new().without_states([]), true)]
#[case::after_it(TaskFilter::new().after(TaskId(9)), false)]
#[case::after_an_earlier_one(TaskFilter::new().after(TaskId(8)), true)]
#[case::all_at_once(
    TaskFilter::new().job(JobId(5)).collection(CollectionId(7)).node(NodeId(4)).matching(|task| task.slots == 1),
    true
)]
#[case::all_but_one(
    TaskFilter::new().job(JobId(5)).collection(CollectionId(7)).node(NodeId(4)).matching(|task| task.slots == 2),
    false
)]
fn a_task_matches_when_every_condition_holds(#[case] filter: TaskFilter, #[case] matches: bool) {
    assert_eq!(filter.matches(&task()), matches, "{filter:?}");
}

#[test]
fn a_task_without_a_node_matches_no_node() {
    assert!(!TaskFilter::new().node(NodeId(0)).matches(&samples::task(1, 1)));
}

#[rstest]
#[case::from(at(100).., true)]
#[case::from_later(at(101).., false)]
#[case::until(..at(101), true)]
#[case::until_exclusive(..at(100), false)]
#[case::until_inclusive(..=at(100), true)]
#[case::between(at(99)..at(101), true)]
#[case::exactly(at(100)..=at(100), true)]
#[case::nothing_between(at(100)..at(100), false)]
#[case::strictly_after((Excluded(at(100)), Unbounded), false)]
#[case::strictly_after_the_one_before((Excluded(at(99)), Included(at(100))), true)]
#[case::any_time(.., true)]
fn a_time_range_takes_any_bounds(
    #[case] range: impl RangeBounds<Timestamp> + Clone + Send + Sync + 'static,
    #[case] matches: bool,
) {
    let job = Job { completed: Some(at(100)), updated: at(100), ..job() };
    let task = Task { completed: Some(at(100)), updated: at(100), ..task() };
    assert_eq!(JobFilter::new().created(range.clone()).matches(&job), matches);
    assert_eq!(JobFilter::new().updated(range.clone()).matches(&job), matches);
    assert_eq!(JobFilter::new().completed(range.clone()).matches(&job), matches);
    assert_eq!(TaskFilter::new().created(range.clone()).matches(&task), matches);
    assert_eq!(TaskFilter::new().updated(range.clone()).matches(&task), matches);
    assert_eq!(TaskFilter::new().completed(range).matches(&task), matches);
}

#[test]
fn each_time_range_asks_for_its_own_time() {
    assert!(JobFilter::new().created(..at(150)).updated(at(150)..).matches(&job()));
    assert!(!JobFilter::new().created(at(150)..).matches(&job()));
    assert!(!TaskFilter::new().updated(..at(150)).matches(&task()));
}

#[test]
fn what_has_not_ended_was_completed_at_no_time() {
    assert!(!JobFilter::new().completed(..).matches(&job()));
    assert!(!TaskFilter::new().completed(..).matches(&task()));
}

#[test]
fn the_smaller_limit_holds() {
    assert_eq!(JobFilter::new().limit(3).limit(8).limit, 3);
    assert_eq!(TaskFilter::new().limit(8).limit(3).limit, 3);
}
