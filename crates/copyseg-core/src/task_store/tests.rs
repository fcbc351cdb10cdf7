//! Every index and every counter equals a full scan, whatever happened before.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::samples;

const JOBS: Range<i64> = 0..4;
const COLLECTIONS: Range<i64> = 0..3;
const NODES: Range<i64> = 0..3;
const IDS: Range<i64> = -12..12;

/// What a store must be equal to: tasks by id, and nothing else to get out of step.
type Model = BTreeMap<TaskId, Arc<Task>>;

#[derive(Debug, Clone)]
enum Change {
    Insert(Task),
    SetState(TaskId, TaskState),
    Remove(TaskId),
}

fn any_state() -> impl Strategy<Value = TaskState> {
    proptest::sample::select(&TaskState::ALL)
}

fn any_task() -> impl Strategy<Value = Task> {
    (IDS, JOBS, COLLECTIONS, proptest::option::of(NODES), any_state(), 0..3i64, any::<u64>()).prop_map(
        |(id, job, collection, node, state, segments, bytes)| Task {
            collection: CollectionId(collection),
            node: node.map(NodeId),
            state,
            segments: samples::segments(segments, bytes),
            ..samples::task(id, job)
        },
    )
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => any_task().prop_map(Change::Insert),
        2 => (IDS, any_state()).prop_map(|(id, state)| Change::SetState(TaskId(id), state)),
        2 => IDS.prop_map(|id| Change::Remove(TaskId(id))),
    ]
}

fn apply(change: Change, store: &mut TaskStore, model: &mut Model) {
    match change {
        Change::Insert(task) => {
            let task = Arc::new(task);
            assert_eq!(store.insert(Arc::clone(&task)), model.insert(task.id, task));
        }
        Change::SetState(id, state) => {
            if let Some(task) = store.get(id) {
                let task = Arc::new(Task { state, ..Task::clone(task) });
                assert_eq!(store.insert(Arc::clone(&task)), model.insert(id, task));
            }
        }
        Change::Remove(id) => assert_eq!(store.remove(id), model.remove(&id)),
    }
}

fn check(store: &TaskStore, model: &Model) {
    assert_eq!(store.len(), model.len());
    assert_eq!(store.is_empty(), model.is_empty());
    assert!(store.iter().eq(model.values()));
    for id in IDS.map(TaskId) {
        assert_eq!(store.get(id), model.get(&id));
    }
    check_indexes(store, model);
    check_counters(store, model);
}

/// Compares every bucket, so that one that should have been dropped is found as well.
fn check_indexes(store: &TaskStore, model: &Model) {
    for state in TaskState::ALL {
        let ids = store.by_state.get(state as usize).iter_after(None);
        assert!(ids.eq(ids_of(scan(model, |task| task.state == state)).unwrap_or_default()));
        for job in JOBS.map(JobId) {
            let expected = scan(model, |task| task.job == job && task.state == state).unwrap_or_default();
            let found: Vec<_> =
                store.by_job.get(job).into_iter().flat_map(|it| it.get(state).iter()).collect();
            assert!(found.iter().map(|(_, task)| *task).eq(&expected));
            assert!(found.iter().all(|(id, task)| *id == task.id));
        }
    }
    for node in NODES.map(NodeId) {
        let ids = store.by_node.get(node).map(|ids| ids.iter_after(None).collect());
        assert_eq!(ids, ids_of(scan(model, |task| task.node == Some(node))));
    }
    for collection in COLLECTIONS.map(CollectionId) {
        let expected = scan(model, |task| task.collection == collection).unwrap_or_default();
        let mut jobs: Vec<_> = expected.iter().map(|task| task.job).collect();
        jobs.sort();
        jobs.dedup();
        assert_eq!(store.by_collection.count(collection), expected.len());
        assert!(store.by_collection.jobs(collection).eq(jobs));
        assert!(store.of_collection(collection).eq(&expected));
    }
}

fn check_counters(store: &TaskStore, model: &Model) {
    for job in JOBS.map(JobId) {
        let tasks = scan(model, |task| task.job == job).unwrap_or_default();
        assert!(store.of_job(job).eq(&tasks));
        assert_eq!(store.by_job.get(job).is_some(), !tasks.is_empty());
        let progress = store.progress(job);
        for state in TaskState::ALL {
            let of_state = || tasks.iter().filter(|task| task.state == state);
            let bytes = of_state().fold(0, |sum: u64, task| sum.wrapping_add(task.segments.bytes()));
            let segments: usize = of_state().map(|task| task.segments.len()).sum();
            assert_eq!(progress.tasks.get(state), of_state().count() as u64);
            assert_eq!(progress.segments.get(state), segments as u64);
            assert_eq!(progress.bytes.get(state), bytes);
        }
    }
}

/// The tasks for which `condition` holds, by visiting all; `None` if there are none, as with a bucket.
fn scan(model: &Model, condition: impl Fn(&Task) -> bool) -> Option<Vec<Arc<Task>>> {
    let tasks: Vec<_> = model.values().filter(|task| condition(task)).cloned().collect();
    (!tasks.is_empty()).then_some(tasks)
}

fn ids_of(tasks: Option<Vec<Arc<Task>>>) -> Option<Vec<TaskId>> {
    Some(tasks?.iter().map(|task| task.id).collect())
}

fn any_filter() -> impl Strategy<Value = TaskFilter> {
    let option = proptest::option::of::<Range<i64>>;
    let states = proptest::option::of(proptest::sample::subsequence(&TaskState::ALL, 0..=5));
    (option(JOBS), option(COLLECTIONS), option(NODES), states, option(IDS), option(0..6), any::<bool>())
        .prop_map(|(job, collection, node, states, after, limit, even)| {
            let mut filter = TaskFilter::new();
            filter = job.into_iter().fold(filter, |filter, id| filter.job(JobId(id)));
            filter = collection.into_iter().fold(filter, |filter, id| filter.collection(CollectionId(id)));
            filter = node.into_iter().fold(filter, |filter, id| filter.node(NodeId(id)));
            filter = states.into_iter().fold(filter, TaskFilter::states);
            filter = after.into_iter().fold(filter, |filter, id| filter.after(TaskId(id)));
            filter = limit.into_iter().fold(filter, |filter, limit| filter.limit(limit as usize));
            if even { filter.matching(|task| task.id.0 % 2 == 0) } else { filter }
        })
}

proptest! {
    #[test]
    fn every_index_and_counter_equals_a_full_scan(changes in proptest::collection::vec(any_change(), 0..60)) {
        let (mut store, mut model) = (TaskStore::new(), Model::new());
        for change in changes {
            let (held, held_model) = (store.clone(), model.clone());
            apply(change, &mut store, &mut model);
            check(&store, &model);
            check(&held, &held_model);
        }
    }

    #[test]
    fn a_store_built_at_once_equals_a_full_scan_and_keeps_the_last_of_each_id(
        tasks in proptest::collection::vec(any_task(), 0..80),
        changes in proptest::collection::vec(any_change(), 0..10),
        in_order in any::<bool>(),
    ) {
        let mut tasks: Vec<_> = tasks.into_iter().map(Arc::new).collect();
        let mut model: Model = tasks.iter().map(|task| (task.id, Arc::clone(task))).collect();
        if in_order {
            tasks = model.values().cloned().collect();
        }
        let mut store: TaskStore = tasks.into_iter().collect();
        check(&store, &model);
        for change in changes {
            apply(change, &mut store, &mut model);
        }
        check(&store, &model);
    }

    #[test]
    fn every_filter_leaves_what_a_full_scan_leaves(
        tasks in proptest::collection::vec(any_task(), 0..40),
        filters in proptest::collection::vec(any_filter(), 1..20),
    ) {
        let mut store = TaskStore::new();
        for task in tasks {
            store.insert(Arc::new(task));
        }
        for filter in filters {
            let expected: Vec<_> =
                store.iter().filter(|task| filter.matches(task)).take(filter.limit).collect();
            prop_assert_eq!(store.matching(&filter).collect::<Vec<_>>(), expected.clone(), "{:?}", filter);
            prop_assert_eq!(store.count(&filter), expected.len(), "{:?}", filter);
        }
    }
}

/// Ten jobs of ten tasks: task `i` is in job `i / 10` and on node `i % 5`, and every fourth is pending.
fn hundred() -> TaskStore {
    let mut store = TaskStore::new();
    for id in 0..100 {
        let state = if id % 4 == 0 { TaskState::Pending } else { TaskState::Completed };
        let task = Task { state, node: Some(NodeId(id % 5)), ..samples::task(id, id / 10) };
        store.insert(Arc::new(Task { collection: CollectionId(id / 50), ..task }));
    }
    store
}

#[rstest]
#[case::nothing(TaskFilter::new(), 100)]
#[case::a_job(TaskFilter::new().job(JobId(3)), 10)]
#[case::a_job_and_a_state(TaskFilter::new().job(JobId(3)).states([TaskState::Pending]), 2)]
#[case::a_state(TaskFilter::new().states([TaskState::Pending]), 25)]
#[case::a_node(TaskFilter::new().node(NodeId(2)), 20)]
#[case::a_node_and_a_wider_state(TaskFilter::new().node(NodeId(2)).states([TaskState::Completed]), 20)]
#[case::a_node_and_a_narrower_job(TaskFilter::new().node(NodeId(2)).job(JobId(3)), 10)]
#[case::a_collection_and_a_narrower_state(
    TaskFilter::new().collection(CollectionId(1)).states([TaskState::Pending]),
    25
)]
#[case::an_unknown_job(TaskFilter::new().job(JobId(77)), 0)]
#[case::no_state(TaskFilter::new().states([]), 0)]
fn the_narrowest_index_is_walked(#[case] filter: TaskFilter, #[case] visited: usize) {
    assert_eq!(hundred().candidates(&filter).count(), visited);
}

#[rstest]
#[case::all(TaskFilter::new())]
#[case::a_state(TaskFilter::new().states([TaskState::Pending]))]
#[case::a_node(TaskFilter::new().node(NodeId(2)))]
#[case::a_job(TaskFilter::new().job(JobId(9)))]
#[case::a_collection(TaskFilter::new().collection(CollectionId(1)))]
fn what_comes_before_the_cursor_is_not_walked(#[case] filter: TaskFilter) {
    let store = hundred();
    let first = store.candidates(&filter.after(TaskId(91))).next().map(|task| task.id.0);
    assert!(first.is_some_and(|id| id > 91), "{first:?}");
}

#[rstest]
#[case(TaskFilter::new())]
#[case(TaskFilter::new().without_states([TaskState::Completed]))]
#[case(TaskFilter::new().job(JobId(3)).states([TaskState::Pending]))]
#[case(TaskFilter::new().collection(CollectionId(1)))]
#[case(TaskFilter::new().node(NodeId(1)))]
#[case(TaskFilter::new().states([]))]
fn a_filter_that_one_index_answers_is_counted_at_once(#[case] filter: TaskFilter) {
    let store = hundred();
    assert_eq!(store.count_at_once(&filter), Some(store.matching(&filter).count()));
    assert_eq!(store.count(&filter), store.matching(&filter).count());
}

#[test]
fn pages_by_cursor_and_limit_are_the_whole_list() {
    let store = hundred();
    let filter = TaskFilter::new().states([TaskState::Pending]);
    let (mut pages, mut page) = (Vec::new(), filter.clone().limit(7));
    while let Some(last) = store.matching(&page).inspect(|task| pages.push(task.id)).last() {
        page = filter.clone().limit(7).after(last.id);
    }
    assert!(store.matching(&filter).map(|task| task.id).eq(pages));
}

#[test]
fn a_count_ends_at_the_limit() {
    assert_eq!(hundred().count(&TaskFilter::new().limit(3)), 3);
    assert_eq!(hundred().count(&TaskFilter::new().matching(|_| true).limit(3)), 3);
}

#[test]
fn progress_is_written_under_the_names_of_the_states() {
    let json = serde_json::to_value(hundred().progress(JobId(0))).unwrap();
    let expected =
        serde_json::json!({"pending": 3, "in_progress": 0, "completed": 7, "failed": 0, "cancelled": 0});
    assert_eq!(json["tasks"], expected);
}
