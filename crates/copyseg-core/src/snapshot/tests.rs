//! Every query of a snapshot, and that a snapshot never moves.

use rstest::rstest;

use super::*;
use crate::id::SegmentId;
use crate::job::JobState;
use crate::samples;
use crate::task::TaskState;

/// Jobs 1, 2 and 3 in collections 1, 1 and 2, job 2 completed. Job 1 has tasks 10 (completed, 2 segments), 11 and
/// 12 (pending, 1 segment each); job 2 has task 20; job 3 has none.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.set_revision(Revision(5));
    for (id, collection, state) in
        [(1, 1, JobState::Executing), (2, 1, JobState::Completed), (3, 2, JobState::Pending)]
    {
        let collection = CollectionId(collection);
        snapshot.insert_job(Arc::new(Job { collection, state, segments: 4, ..samples::job(id) }));
    }
    for (id, job, state, segments) in [
        (12, 1, TaskState::Pending, 1),
        (10, 1, TaskState::Completed, 2),
        (20, 2, TaskState::Completed, 3),
        (11, 1, TaskState::Pending, 1),
    ] {
        let segments = samples::segments(segments, 100);
        snapshot.insert_task(Arc::new(Task { state, segments, ..samples::task(id, job) }));
    }
    snapshot
}

fn job_ids(snapshot: &Snapshot, filter: &JobFilter) -> Vec<i64> {
    snapshot.jobs(filter).map(|job| job.id.0).collect()
}

fn task_ids<'s>(tasks: impl Iterator<Item = &'s Arc<Task>>) -> Vec<i64> {
    tasks.map(|task| task.id.0).collect()
}

fn damaged(kind: RecordKind, id: i64) -> SetAside {
    SetAside { key: RecordKey { kind, id }, reason: "the checksum does not match".into() }
}

#[test]
fn an_empty_snapshot_has_nothing_and_counts_ids_from_one() {
    let empty = Snapshot::default();
    assert_eq!((empty.revision(), empty.next_id()), (Revision(0), 1));
    assert_eq!(empty.count_jobs(&JobFilter::new()) + empty.count_tasks(&TaskFilter::new()), 0);
    assert_eq!(empty.set_aside().count(), 0);
}

#[test]
fn a_record_is_found_by_its_id() {
    let snapshot = snapshot();
    assert_eq!(snapshot.job(JobId(2)).map(|job| job.state), Some(JobState::Completed));
    assert_eq!(snapshot.task(TaskId(12)).map(|task| task.job), Some(JobId(1)));
    assert_eq!(snapshot.job(JobId(4)), None);
    assert_eq!(snapshot.task(TaskId(1)), None);
}

#[rstest]
#[case::all(JobFilter::new(), &[1, 2, 3])]
#[case::a_collection(JobFilter::new().collection(CollectionId(1)), &[1, 2])]
#[case::states(JobFilter::new().states([JobState::Pending, JobState::Executing]), &[1, 3])]
#[case::no_states(JobFilter::new().states([]), &[])]
#[case::without_states(JobFilter::new().without_states([JobState::Completed]), &[1, 3])]
#[case::a_collection_and_a_state(
    JobFilter::new().collection(CollectionId(1)).states([JobState::Completed]),
    &[2]
)]
#[case::an_unknown_collection(JobFilter::new().collection(CollectionId(9)), &[])]
#[case::a_predicate(JobFilter::new().matching(|job| job.id > JobId(1)), &[2, 3])]
#[case::after(JobFilter::new().after(JobId(1)), &[2, 3])]
#[case::after_within_a_state(JobFilter::new().states([JobState::Executing]).after(JobId(1)), &[])]
#[case::limit(JobFilter::new().limit(2), &[1, 2])]
#[case::limit_of_a_state(JobFilter::new().without_states([JobState::Pending]).limit(1), &[1])]
fn jobs_are_listed_and_counted_by_filter(#[case] filter: JobFilter, #[case] expected: &[i64]) {
    assert_eq!(job_ids(&snapshot(), &filter), expected);
    assert_eq!(snapshot().count_jobs(&filter), expected.len());
}

#[test]
fn a_job_that_changed_is_found_under_its_new_state_and_collection_alone() {
    let mut snapshot = snapshot();
    let (state, collection) = (JobState::Failed, CollectionId(2));
    let old = snapshot.insert_job(Arc::new(Job { state, collection, ..samples::job(1) }));
    assert_eq!(old.map(|job| job.state), Some(JobState::Executing));
    assert_eq!(job_ids(&snapshot, &JobFilter::new().states([JobState::Failed])), [1]);
    assert_eq!(snapshot.count_jobs(&JobFilter::new().states([JobState::Executing])), 0);
    assert_eq!(job_ids(&snapshot, &JobFilter::new().collection(collection)), [1, 3]);
    assert_eq!(job_ids(&snapshot, &JobFilter::new().collection(CollectionId(1))), [2]);
}

#[test]
fn a_removed_job_is_in_no_list() {
    let mut snapshot = snapshot();
    assert_eq!(snapshot.remove_job(JobId(2)).map(|job| job.id), Some(JobId(2)));
    assert_eq!(snapshot.remove_job(JobId(2)), None);
    assert_eq!(job_ids(&snapshot, &JobFilter::new()), [1, 3]);
    assert_eq!(snapshot.count_jobs(&JobFilter::new().states([JobState::Completed])), 0);
    assert_eq!(snapshot.count_jobs(&JobFilter::new().collection(CollectionId(1))), 1);
}

#[test]
fn tasks_are_listed_and_counted_by_filter() {
    let (snapshot, pending) = (snapshot(), TaskFilter::new().states([TaskState::Pending]));
    assert_eq!(task_ids(snapshot.tasks(&pending)), [11, 12]);
    assert_eq!(snapshot.count_tasks(&pending), 2);
}

#[test]
fn tasks_of_a_job_and_of_a_collection_come_in_id_order() {
    assert_eq!(task_ids(snapshot().tasks_of_job(JobId(1))), [10, 11, 12]);
    assert_eq!(task_ids(snapshot().tasks_of_job(JobId(3))), [0; 0]);
    assert_eq!(task_ids(snapshot().tasks_of_collection(CollectionId(1))), [10, 11, 12, 20]);
    assert_eq!(task_ids(snapshot().tasks_of_collection(CollectionId(2))), [0; 0]);
}

#[test]
fn the_segments_of_a_job_are_those_of_its_tasks_in_turn() {
    let sources = |id| snapshot().segments_of_job(JobId(id)).map(|pair| pair.source).collect::<Vec<_>>();
    assert_eq!(sources(1), [0, 1, 0, 0].map(SegmentId));
    assert_eq!(sources(3), []);
}

#[test]
fn progress_counts_tasks_segments_and_bytes_by_state() {
    let progress = snapshot().progress(JobId(1)).unwrap();
    let of = |state| (progress.tasks.get(state), progress.segments.get(state), progress.bytes.get(state));
    assert_eq!(of(TaskState::Pending), (2, 2, 200));
    assert_eq!(of(TaskState::Completed), (1, 2, 200));
    assert_eq!(progress.segments.total(), 4);
}

#[test]
fn a_job_without_tasks_has_made_no_progress_and_an_unknown_job_has_none_to_make() {
    assert_eq!(snapshot().progress(JobId(3)), Some(Progress::default()));
    assert_eq!(snapshot().progress(JobId(4)), None);
}

#[test]
fn a_record_set_aside_is_listed_until_it_is_dropped() {
    let mut snapshot = snapshot();
    let (task, job) = (damaged(RecordKind::Task, 11), damaged(RecordKind::Job, 9));
    snapshot.set_aside_record(task.clone());
    snapshot.set_aside_record(job.clone());
    assert!(snapshot.set_aside().eq([&job, &task]));
    assert!(snapshot.is_set_aside(task.key));
    assert!(snapshot.remove_set_aside(task.key));
    assert!(!snapshot.remove_set_aside(task.key));
    assert!(snapshot.set_aside().eq([&job]));
}

#[rstest]
#[case::which_lacks_segments(2, RecordKind::Task, true)]
#[case::which_lacks_all_its_tasks(3, RecordKind::Task, true)]
#[case::which_has_all_its_segments(1, RecordKind::Task, false)]
#[case::while_only_a_job_record_is_damaged(2, RecordKind::Job, false)]
#[case::which_is_not_there(4, RecordKind::Task, false)]
fn a_damaged_task_record_damages_a_job(#[case] id: i64, #[case] kind: RecordKind, #[case] expected: bool) {
    let mut snapshot = snapshot();
    assert!(!snapshot.is_damaged(JobId(id)), "nothing is set aside yet");
    snapshot.set_aside_record(damaged(kind, 77));
    assert_eq!(snapshot.is_damaged(JobId(id)), expected);
}

#[test]
fn tasks_set_at_once_replace_all_there_were() {
    let mut snapshot = snapshot();
    snapshot.set_tasks([samples::task(31, 3), samples::task(30, 1)].map(Arc::new));
    assert_eq!(task_ids(snapshot.tasks(&TaskFilter::new())), [30, 31]);
    assert_eq!(snapshot.progress(JobId(3)).map(|progress| progress.tasks.total()), Some(1));
    assert_eq!(snapshot.progress(JobId(2)), Some(Progress::default()));
}

#[test]
fn a_snapshot_held_does_not_move() {
    let held = snapshot();
    let mut changed = held.clone();
    changed.set_revision(Revision(6));
    changed.set_next_id(50);
    changed.remove_job(JobId(2));
    changed.insert_task(Arc::new(Task { state: TaskState::InProgress, ..samples::task(11, 1) }));
    changed.remove_task(TaskId(20));
    changed.set_aside_record(damaged(RecordKind::Task, 20));

    assert_eq!((held.revision(), held.next_id()), (Revision(5), 1));
    assert_eq!(job_ids(&held, &JobFilter::new()), [1, 2, 3]);
    assert_eq!(task_ids(held.tasks(&TaskFilter::new())), [10, 11, 12, 20]);
    assert_eq!(task_ids(held.tasks(&TaskFilter::new().states([TaskState::Pending]))), [11, 12]);
    assert_eq!(held.progress(JobId(1)).map(|progress| progress.tasks.get(TaskState::InProgress)), Some(0));
    assert_eq!(held.set_aside().count(), 0);
    assert_eq!(changed.count_tasks(&TaskFilter::new()), 3);
}

#[test]
fn the_key_of_a_record_has_its_id_as_a_string_in_json() {
    let record = SetAside { key: RecordKey { kind: RecordKind::Task, id: i64::MAX }, reason: "why".into() };
    let expected = serde_json::json!({"key": {"kind": "task", "id": "9223372036854775807"}, "reason": "why"});
    assert_eq!(serde_json::to_value(record).unwrap(), expected);
}
