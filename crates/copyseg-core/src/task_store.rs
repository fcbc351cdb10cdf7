//! The indexed task store: tasks by id, and what they are looked up and counted by.

mod build;
mod collection;
mod job_tasks;
mod merge;
mod progress;

use std::sync::Arc;

use crate::filter::{StateSet, TaskFilter};
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::id_map::IdMap;
use crate::id_set::IdSet;
use crate::index::{self, Index};
use crate::task::{Task, TaskState};

use collection::Collections;
use job_tasks::JobTasks;
pub(crate) use merge::merge;
pub use progress::{PerState, Progress};

/// Tasks in id order, with indexes by job, collection, state and node, and counters per job.
///
/// It is a value with structural sharing: a clone costs the same at any size, and never sees what happens to
/// the original. A change costs `O(log n)` for ids in a row, and never more than 22 steps in each index.
#[derive(Debug, Clone, Default)]
pub struct TaskStore {
    tasks: IdMap<TaskId, Arc<Task>>,
    /// As ids, because a change copies references to whatever is in the same node, anywhere in memory.
    by_state: ByState,
    by_node: Index<NodeId, TaskId>,
    by_collection: Collections,
    by_job: IdMap<JobId, Arc<JobTasks>>,
}

type ByState = index::ByState<TaskId, { TaskState::ALL.len() }>;

/// An index to read, which leads to every task that a filter can leave.
enum AccessPath {
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
        self.tasks.iter().map(|(_, task)| task)
    }

    /// Adds `task`, or puts it in the place of the one with the same id, which is returned. The replacement
    /// may differ in everything but the id.
    pub fn insert(&mut self, task: Arc<Task>) -> Option<Arc<Task>> {
        let old = self.tasks.insert(task.id, Arc::clone(&task));
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
        // By job and states alone the path leads to nothing else, and tasks need not be touched.
        let is_exact = filter.collection.is_none() && filter.node.is_none() && filter.predicates.is_empty();
        self.candidates(filter).filter(move |task| is_exact || filter.matches(task)).take(filter.limit)
    }

    /// The tasks of one job, in id order.
    pub fn of_job(&self, id: JobId) -> impl Iterator<Item = &Arc<Task>> {
        self.in_jobs([id], StateSet::ALL, None)
    }

    /// The tasks of one collection, in id order.
    pub fn of_collection(&self, id: CollectionId) -> impl Iterator<Item = &Arc<Task>> {
        let tasks = self.in_jobs(self.by_collection.jobs(id), StateSet::ALL, None);
        tasks.filter(move |task| task.collection == id)
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
        self.by_job.get(job).map(|tasks| tasks.progress).unwrap_or_default()
    }

    /// Brings indexes and counters in step with `tasks`, where `new` has taken the place of `old`.
    fn reindex(&mut self, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        let Some(task) = new.or(old) else { return };
        let state = |task: Option<&Arc<Task>>| task.map(|task| task.state as usize);
        self.by_state.replace(task.id, state(old), state(new));
        let node = |task: Option<&Arc<Task>>| task.and_then(|task| task.node);
        self.by_node.replace(task.id, node(old), node(new));
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
        let is_empty = self.by_job.change(job, |tasks| {
            let tasks = Arc::make_mut(tasks);
            tasks.replace(old.map(|task| &**task), new);
            tasks.is_empty()
        });
        if is_empty {
            self.by_job.remove(job);
        }
    }

    fn candidates<'s>(&'s self, filter: &TaskFilter) -> Box<dyn Iterator<Item = &'s Arc<Task>> + 's> {
        let after = filter.after;
        match self.narrowest(filter) {
            AccessPath::States if filter.states == StateSet::ALL => {
                Box::new(self.tasks.iter_after(after).map(|(_, task)| task))
            }
            AccessPath::States => Box::new(self.in_sets(self.in_states(filter.states), after)),
            AccessPath::Job(job) => Box::new(self.in_jobs([job], filter.states, after)),
            AccessPath::Collection(id) => {
                Box::new(self.in_jobs(self.by_collection.jobs(id), filter.states, after))
            }
            AccessPath::Node(node) => Box::new(self.in_sets(self.by_node.get(node).into_iter(), after)),
        }
    }

    fn in_states(&self, allowed: StateSet) -> impl Iterator<Item = &IdSet<TaskId>> {
        states(allowed).map(|state| self.by_state.get(state as usize))
    }

    /// The tasks whose ids are in one of these sets and come `after`, in id order.
    fn in_sets<'s>(
        &'s self,
        sets: impl Iterator<Item = &'s IdSet<TaskId>>,
        after: Option<TaskId>,
    ) -> impl Iterator<Item = &'s Arc<Task>> {
        self.tasks.get_each(merge(sets.map(move |ids| ids.iter_after(after)), |id| id))
    }

    /// The tasks of these jobs that are in these states and come `after`, in id order.
    fn in_jobs(
        &self,
        jobs: impl IntoIterator<Item = JobId>,
        allowed: StateSet,
        after: Option<TaskId>,
    ) -> impl Iterator<Item = &Arc<Task>> {
        let jobs = jobs.into_iter().filter_map(|job| self.by_job.get(job));
        let maps = jobs.flat_map(move |tasks| states(allowed).map(|state| tasks.get(state)));
        merge(maps.map(move |tasks| tasks.iter_after(after)), |(id, _)| id).map(|(_, task)| task)
    }

    /// A job that is named goes before all tasks in the same states, also where these are no more than its own.
    fn narrowest(&self, filter: &TaskFilter) -> AccessPath {
        let sized = |path: AccessPath| (self.size(&path, filter), path);
        let named = [
            filter.job.map(AccessPath::Job),
            filter.collection.map(AccessPath::Collection),
            filter.node.map(AccessPath::Node),
        ];
        let paths = named.into_iter().flatten().chain([AccessPath::States]);
        paths.map(sized).min_by_key(|(size, _)| *size).map_or(AccessPath::States, |(_, path)| path)
    }

    /// How many tasks an access path leads to, at most.
    fn size(&self, path: &AccessPath, filter: &TaskFilter) -> usize {
        match path {
            AccessPath::States => self.in_states(filter.states).map(IdSet::len).sum(),
            AccessPath::Job(job) => self.by_job.get(*job).map_or(0, |tasks| tasks.count(filter.states)),
            AccessPath::Collection(id) => self.by_collection.count(*id),
            AccessPath::Node(id) => self.by_node.count(*id),
        }
    }

    fn count_at_once(&self, filter: &TaskFilter) -> Option<usize> {
        if !filter.predicates.is_empty() || filter.after.is_some() {
            return None;
        }
        let every_state = states(filter.states).count() == TaskState::ALL.len();
        let path = match (filter.job, filter.collection, filter.node) {
            (None, None, None) => AccessPath::States,
            (Some(job), None, None) => AccessPath::Job(job),
            (None, Some(id), None) if every_state => AccessPath::Collection(id),
            (None, None, Some(id)) if every_state => AccessPath::Node(id),
            _ => return None,
        };
        Some(self.size(&path, filter))
    }
}

/// The states that are allowed.
fn states(allowed: StateSet) -> impl Iterator<Item = TaskState> {
    TaskState::ALL.into_iter().filter(move |state| allowed.contains(*state as u8))
}

#[cfg(test)]
mod tests;
