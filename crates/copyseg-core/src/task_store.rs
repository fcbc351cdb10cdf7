//! The indexed task store: tasks by id, and what they are looked up and counted by.

mod build;
mod by_id;
mod collection;
mod index;
mod job_tasks;
mod merge;
mod progress;

use std::ops::Bound::{self, Excluded, Unbounded};
use std::sync::Arc;

use imbl::OrdMap;

use crate::filter::{StateSet, TaskFilter};
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::task::{Task, TaskState};

use by_id::ById;
use collection::Collections;
pub(crate) use index::Index;
use job_tasks::{ByState, JobTasks, Tasks};
pub(crate) use merge::merge;
pub use progress::{PerState, Progress};

/// Tasks in id order, with indexes by job, collection, state and node, and counters per job.
///
/// It is a value with structural sharing: a clone costs the same at any size, and never sees what happens to
/// the original. A change costs `O(log n)`.
#[derive(Debug, Clone, Default)]
pub struct TaskStore {
    /// Hashed, because a single task is looked up twice as fast as in a tree. Whoever wants an order takes `by_state`.
    tasks: ById,
    by_state: ByState,
    /// Holds ids only, so that a task that changes state on its node leaves it as it is.
    by_node: Index<NodeId, TaskId, ()>,
    by_collection: Collections,
    by_job: OrdMap<JobId, Arc<JobTasks>>,
}

/// An index that leads to every task that a filter can leave.
enum Way {
    States,
    Job(JobId),
    Collection(CollectionId),
    Node(NodeId),
}

impl TaskStore {
    /// A store without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The task with this id.
    pub fn get(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(id)
    }

    /// Every task, in id order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Task>> {
        in_order(states(StateSet::ALL).map(|state| self.by_state.get(state)), Unbounded)
    }

    /// Adds `task`, or puts it in the place of the one with the same id, which is returned. The replacement
    /// may differ in everything but the id.
    pub fn insert(&mut self, task: Arc<Task>) -> Option<Arc<Task>> {
        let old = self.tasks.insert(Arc::clone(&task));
        self.reindex(old.as_ref(), Some(&task));
        old
    }

    /// Removes the task with this id and returns it.
    pub fn remove(&mut self, id: TaskId) -> Option<Arc<Task>> {
        let old = self.tasks.remove(id)?;
        self.reindex(Some(&old), None);
        Some(old)
    }

    /// The tasks that `filter` leaves, in id order, found through the narrowest index it names.
    pub fn matching<'s>(&'s self, filter: &TaskFilter) -> impl Iterator<Item = &'s Arc<Task>> {
        // By job and states alone the way leads to nothing else, and tasks need not be touched.
        let is_exact = filter.collection.is_none() && filter.node.is_none() && filter.predicates.is_empty();
        self.candidates(filter).filter(move |task| is_exact || filter.matches(task)).take(filter.limit)
    }

    /// The tasks of one job, in id order.
    pub fn of_job(&self, id: JobId) -> impl Iterator<Item = &Arc<Task>> {
        in_order(self.in_jobs([id], StateSet::ALL), Unbounded)
    }

    /// The tasks of one collection, in id order.
    pub fn of_collection(&self, id: CollectionId) -> impl Iterator<Item = &Arc<Task>> {
        let tasks = self.in_jobs(self.by_collection.jobs(id), StateSet::ALL);
        in_order(tasks, Unbounded).filter(move |task| task.collection == id)
    }

    /// How many tasks `filter` leaves. A filter by nothing but states, or a job and states, or a collection, or
    /// a node, is answered without visiting a task.
    pub fn count(&self, filter: &TaskFilter) -> usize {
        match self.count_at_once(filter) {
            Some(count) => count.min(filter.limit),
            None => self.matching(filter).count(),
        }
    }

    /// The tasks of one job by state; all zero if it has none. Costs the same whatever their number.
    pub fn progress(&self, job: JobId) -> Progress {
        self.by_job.get(&job).map(|tasks| tasks.progress).unwrap_or_default()
    }

    /// Brings indexes and counters in step with `tasks`, where `new` has taken the place of `old`.
    fn reindex(&mut self, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        let Some(task) = new.or(old) else { return };
        self.by_state.replace(old.map(|task| &**task), new);
        let node = |task: Option<&Arc<Task>>| task.and_then(|task| task.node);
        if node(old) != node(new) {
            self.by_node.replace(task.id, node(old), node(new), ());
        }
        let collection = |task: Option<&Arc<Task>>| task.map(|task| (task.collection, task.job));
        if collection(old) != collection(new) {
            self.by_collection.replace(collection(old), collection(new));
        }
        match (old, new) {
            (Some(old), Some(new)) if old.job != new.job => {
                self.reindex_job(old.job, Some(old), None);
                self.reindex_job(new.job, None, Some(new));
            }
            _ => self.reindex_job(task.job, old, new),
        }
    }

    fn reindex_job(&mut self, job: JobId, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        let tasks = Arc::make_mut(self.by_job.entry(job).or_default());
        tasks.replace(old.map(|task| &**task), new);
        if tasks.is_empty() {
            self.by_job.remove(&job);
        }
    }

    fn candidates<'s>(&'s self, filter: &TaskFilter) -> Box<dyn Iterator<Item = &'s Arc<Task>> + 's> {
        let after = filter.after.map_or(Unbounded, Excluded);
        match self.narrowest(filter) {
            Way::States => {
                Box::new(in_order(states(filter.states).map(|state| self.by_state.get(state)), after))
            }
            Way::Job(job) => Box::new(in_order(self.in_jobs([job], filter.states), after)),
            Way::Collection(id) => {
                Box::new(in_order(self.in_jobs(self.by_collection.jobs(id), filter.states), after))
            }
            Way::Node(node) => {
                let ids =
                    self.by_node.get(node).into_iter().flat_map(move |ids| ids.range((after, Unbounded)));
                Box::new(ids.filter_map(|(id, ())| self.tasks.get(*id)))
            }
        }
    }

    /// The tasks of these jobs in these states.
    fn in_jobs(
        &self,
        jobs: impl IntoIterator<Item = JobId>,
        allowed: StateSet,
    ) -> impl Iterator<Item = &Tasks> {
        let tasks = jobs.into_iter().filter_map(|job| self.by_job.get(&job));
        tasks.flat_map(move |tasks| states(allowed).map(|state| tasks.by_state.get(state)))
    }

    /// A job that is named goes before all tasks in the same states, also where these are no more than its own.
    fn narrowest(&self, filter: &TaskFilter) -> Way {
        let sized = |way: Way| (self.size(&way, filter), way);
        let named =
            [filter.job.map(Way::Job), filter.collection.map(Way::Collection), filter.node.map(Way::Node)];
        let ways = named.into_iter().flatten().chain([Way::States]);
        ways.map(sized).min_by_key(|(size, _)| *size).map_or(Way::States, |(_, way)| way)
    }

    /// How many tasks a way leads to, at most.
    fn size(&self, way: &Way, filter: &TaskFilter) -> usize {
        match way {
            Way::States => states(filter.states).map(|state| self.by_state.get(state).len()).sum(),
            Way::Job(job) => self.in_jobs([*job], filter.states).map(Tasks::len).sum(),
            Way::Collection(id) => self.by_collection.count(*id),
            Way::Node(id) => self.by_node.count(*id),
        }
    }

    fn count_at_once(&self, filter: &TaskFilter) -> Option<usize> {
        if !filter.predicates.is_empty() || filter.after.is_some() {
            return None;
        }
        let every_state = states(filter.states).count() == TaskState::ALL.len();
        let way = match (filter.job, filter.collection, filter.node) {
            (None, None, None) => Way::States,
            (Some(job), None, None) => Way::Job(job),
            (None, Some(id), None) if every_state => Way::Collection(id),
            (None, None, Some(id)) if every_state => Way::Node(id),
            _ => return None,
        };
        Some(self.size(&way, filter))
    }
}

/// What is in these maps and comes `after`, in id order.
fn in_order<'s>(
    maps: impl Iterator<Item = &'s Tasks>,
    after: Bound<TaskId>,
) -> impl Iterator<Item = &'s Arc<Task>> {
    merge(maps.map(move |tasks| tasks.range((after, Unbounded)))).map(|(_, task)| task)
}

/// The states that are allowed.
fn states(allowed: StateSet) -> impl Iterator<Item = TaskState> {
    TaskState::ALL.into_iter().filter(move |state| allowed.contains(*state as u8))
}

#[cfg(test)]
mod tests;
