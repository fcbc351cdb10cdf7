//! Building a store from all its tasks at once, as recovery does.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use imbl::OrdMap;

use super::job_tasks::{ByState, JobTasks};
use super::{ById, Collections, Index, Progress, TaskStore};
use crate::id::{JobId, NodeId, TaskId};
use crate::task::Task;

/// From this size on it is worth starting threads.
const LARGE: usize = 20_000;

/// Several times as fast as inserting one by one, and the store is smaller. Of tasks with the same id the last is
/// kept.
impl FromIterator<Arc<Task>> for TaskStore {
    fn from_iter<I: IntoIterator<Item = Arc<Task>>>(tasks: I) -> Self {
        let mut tasks: Vec<_> = tasks.into_iter().collect();
        tasks.reverse();
        tasks.sort_by_key(|task| task.id);
        tasks.dedup_by_key(|task| task.id);

        let by_id = || ById::of_distinct(tasks.iter().cloned());
        let (by_id, (by_job, by_collection), (by_state, by_node)) = if tasks.len() < LARGE {
            (by_id(), jobs(&tasks), states_and_nodes(&tasks))
        } else {
            thread::scope(|scope| {
                let by_id = scope.spawn(by_id);
                let by_job = scope.spawn(|| jobs(&tasks));
                let by_state = states_and_nodes(&tasks);
                (joined(by_id), joined(by_job), by_state)
            })
        };
        Self { tasks: by_id, by_state, by_node, by_collection, by_job }
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn jobs(tasks: &[Arc<Task>]) -> (OrdMap<JobId, Arc<JobTasks>>, Collections) {
    let (mut collections, mut jobs) = (HashMap::new(), HashMap::<JobId, Vec<&Arc<Task>>>::new());
    for task in tasks {
        *collections.entry((task.collection, task.job)).or_default() += 1;
        jobs.entry(task.job).or_default().push(task);
    }
    let of_job = |tasks: Vec<&Arc<Task>>| {
        let mut progress = Progress::default();
        tasks.iter().for_each(|task| progress.add(task));
        Arc::new(JobTasks { progress, by_state: tasks.into_iter().collect() })
    };
    let jobs = jobs.into_iter().map(|(job, tasks)| (job, of_job(tasks))).collect();
    (jobs, collections.into_iter().collect())
}

fn states_and_nodes(tasks: &[Arc<Task>]) -> (ByState, Index<NodeId, TaskId, ()>) {
    let nodes = tasks.iter().filter_map(|task| Some((task.node?, task.id, ())));
    (tasks.iter().collect(), nodes.collect())
}

/// A map of `sorted` entries with full leaves.
///
/// A B-tree that is filled in order splits every leaf when it is full and leaves it half full for good. Putting in
/// every other entry first, the rest finds room in those halves.
pub(super) fn dense<K: Ord + Clone, V: Clone>(sorted: impl Iterator<Item = (K, V)>) -> OrdMap<K, V> {
    let (mut map, mut rest) = (OrdMap::new(), Vec::new());
    for (position, (key, value)) in sorted.enumerate() {
        if position % 2 == 0 {
            map.insert(key, value);
        } else {
            rest.push((key, value));
        }
    }
    map.extend(rest);
    map
}
