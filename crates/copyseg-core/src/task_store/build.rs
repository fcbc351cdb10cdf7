//! Building a store from all its tasks at once, as recovery does.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use super::job_tasks::{Gathered, JobTasks};
use super::{ByState, Collections, TaskStore};
use crate::id::{JobId, NodeId, TaskId};
use crate::id_map::IdMap;
use crate::index::Index;
use crate::task::Task;

/// From this size on it is worth starting threads.
const LARGE: usize = 20_000;

/// Several times as fast as inserting one by one, and the store is smaller. Of tasks with the same id the last is
/// kept.
impl FromIterator<Arc<Task>> for TaskStore {
    fn from_iter<I: IntoIterator<Item = Arc<Task>>>(tasks: I) -> Self {
        let mut tasks: Vec<_> = tasks.into_iter().collect();
        if !tasks.is_sorted_by(|one, next| one.id < next.id) {
            tasks.reverse();
            tasks.sort_by_key(|task| task.id);
            tasks.dedup_by_key(|task| task.id);
        }

        let by_id = || tasks.iter().map(|task| (task.id, Arc::clone(task))).collect();
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

fn jobs(tasks: &[Arc<Task>]) -> (IdMap<JobId, Arc<JobTasks>>, Collections) {
    let mut jobs = HashMap::<JobId, Gathered>::new();
    for task in tasks {
        // Everything that is needed of a task is taken now, while it is at hand: those of one job may be anywhere in memory.
        jobs.entry(task.job).or_default().add(task);
    }
    let mut jobs: Vec<_> = jobs.into_iter().collect();
    jobs.sort_by_key(|(job, _)| *job);
    let mut collections = Collections::default();
    for (job, gathered) in &jobs {
        for (collection, tasks) in &gathered.collections {
            collections.add(*collection, *job, *tasks);
        }
    }
    (jobs.into_iter().map(|(job, gathered)| (job, Arc::new(gathered.into()))).collect(), collections)
}

fn states_and_nodes(tasks: &[Arc<Task>]) -> (ByState, Index<NodeId, TaskId>) {
    let states = tasks.iter().map(|task| (task.state as usize, task.id));
    let nodes = tasks.iter().filter_map(|task| Some((task.node?, task.id)));
    (states.collect(), nodes.collect())
}
