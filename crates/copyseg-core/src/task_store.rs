//! The indexed task store: tasks by id, and what they are looked up and counted by.

mod build;
mod collection;
mod index;
mod merge;
mod progress;

use std::ops::Bound::{self, Excluded, Unbounded};
use std::sync::Arc;

use imbl::OrdMap;

use crate::filter::TaskFilter;
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::task::{Task, TaskState};

use collection::Collections;
pub(crate) use index::Index;
pub(crate) use merge::merge;
pub use progress::{PerState, Progress};

/// Tasks in id order, with indexes by job, collection, state and node, and counters per job.
///
/// It is a value with structural sharing: a clone costs the same at any size, and never sees what happens to
/// the original. A change costs `O(log n)`.
#[derive(Debug, Clone, Default)]
pub struct TaskStore {
    tasks: OrdMap<TaskId, Arc<Task>>,
    /// Holds the tasks themselves: a walk over ids would have to look each of them up.
    by_state: Index<StateKey, TaskId, Arc<Task>>,
    /// Holds ids only, so that a task that changes state on its node leaves it as it is.
    by_node: Index<NodeId, TaskId, ()>,
    by_collection: Collections,
    by_job: OrdMap<JobId, Progress>,
}

/// Tasks in one state: those of one job, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum StateKey {
    Job(JobId, TaskState),
    Any(TaskState),
}

/// Where one task is found: the one place that derives it from the task.
struct Entries {
    job_state: StateKey,
    state: StateKey,
    node: Option<NodeId>,
    collection: (CollectionId, JobId),
}

impl Entries {
    fn of(task: &Task) -> Self {
        Self {
            job_state: StateKey::Job(task.job, task.state),
            state: StateKey::Any(task.state),
            node: task.node,
            collection: (task.collection, task.job),
        }
    }
}

/// An index that leads to every task that a filter can leave.
enum Way {
    All,
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
        self.tasks.is_empty()
    }

    /// The task with this id.
    pub fn get(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// Every task, in id order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
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
        let old = self.tasks.remove(&id)?;
        self.reindex(Some(&old), None);
        Some(old)
    }

    /// The tasks that `filter` leaves, in id order, found through the narrowest index it names.
    pub fn matching<'s>(&'s self, filter: &TaskFilter) -> impl Iterator<Item = &'s Arc<Task>> {
        self.candidates(filter).filter(move |task| filter.matches(task)).take(filter.limit)
    }

    /// The tasks of one job, in id order.
    pub fn of_job(&self, id: JobId) -> impl Iterator<Item = &Arc<Task>> {
        self.in_buckets(TaskState::ALL.map(|state| StateKey::Job(id, state)), Unbounded)
    }

    /// The tasks of one collection, in id order.
    pub fn of_collection(&self, id: CollectionId) -> impl Iterator<Item = &Arc<Task>> {
        let jobs = self.by_collection.jobs(id);
        let keys = jobs.flat_map(|job| TaskState::ALL.map(|state| StateKey::Job(job, state)));
        self.in_buckets(keys, Unbounded).filter(move |task| task.collection == id)
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
        self.by_job.get(&job).copied().unwrap_or_default()
    }

    /// Brings indexes and counters in step with `tasks`, where `new` has taken the place of `old`.
    fn reindex(&mut self, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        let Some(task) = new.or(old) else { return };
        let (from, to) = (old.map(|task| Entries::of(task)), new.map(|task| Entries::of(task)));
        for key in [|it: &Entries| it.job_state, |it: &Entries| it.state] {
            self.by_state.replace(task.id, from.as_ref().map(key), to.as_ref().map(key), Arc::clone(task));
        }
        let node = |entries: &Option<Entries>| entries.as_ref().and_then(|it| it.node);
        if node(&from) != node(&to) {
            self.by_node.replace(task.id, node(&from), node(&to), ());
        }
        let collection = |entries: &Option<Entries>| entries.as_ref().map(|it| it.collection);
        if collection(&from) != collection(&to) {
            self.by_collection.replace(collection(&from), collection(&to));
        }
        self.count_progress(old, new);
    }

    fn count_progress(&mut self, old: Option<&Arc<Task>>, new: Option<&Arc<Task>>) {
        if let Some(task) = new {
            self.by_job.entry(task.job).or_default().add(task);
        }
        if let Some(task) = old
            && let Some(progress) = self.by_job.get_mut(&task.job)
        {
            progress.subtract(task);
            if progress.tasks.total() == 0 {
                self.by_job.remove(&task.job);
            }
        }
    }

    fn candidates<'s>(&'s self, filter: &TaskFilter) -> Box<dyn Iterator<Item = &'s Arc<Task>> + 's> {
        let after = filter.after.map_or(Unbounded, Excluded);
        let states = states(filter);
        match self.narrowest(filter) {
            Way::All => Box::new(self.tasks.range((after, Unbounded)).map(|(_, task)| task)),
            Way::States => Box::new(self.in_buckets(states.map(StateKey::Any), after)),
            Way::Job(job) => {
                Box::new(self.in_buckets(states.map(move |state| StateKey::Job(job, state)), after))
            }
            Way::Collection(id) => {
                let states: Vec<_> = states.collect();
                let keys = self.by_collection.jobs(id).flat_map(move |job| {
                    states.clone().into_iter().map(move |state| StateKey::Job(job, state))
                });
                Box::new(self.in_buckets(keys, after))
            }
            Way::Node(node) => {
                let ids =
                    self.by_node.get(node).into_iter().flat_map(move |ids| ids.range((after, Unbounded)));
                Box::new(ids.filter_map(|(id, ())| self.tasks.get(id)))
            }
        }
    }

    /// The tasks in the buckets of `keys`, in id order.
    fn in_buckets(
        &self,
        keys: impl IntoIterator<Item = StateKey>,
        after: Bound<TaskId>,
    ) -> impl Iterator<Item = &Arc<Task>> {
        let buckets = keys.into_iter().filter_map(|key| self.by_state.get(key));
        merge(buckets.map(move |bucket| bucket.range((after, Unbounded))))
    }

    fn narrowest(&self, filter: &TaskFilter) -> Way {
        let sized = |way: Way| (self.size(&way, filter), way);
        let named =
            [filter.job.map(Way::Job), filter.collection.map(Way::Collection), filter.node.map(Way::Node)];
        let ways = [Way::All, Way::States].into_iter().chain(named.into_iter().flatten());
        ways.map(sized).min_by_key(|(size, _)| *size).map_or(Way::All, |(_, way)| way)
    }

    /// How many tasks a way leads to, at most.
    fn size(&self, way: &Way, filter: &TaskFilter) -> usize {
        match way {
            Way::All => self.tasks.len(),
            Way::States => states(filter).map(|state| self.by_state.count(StateKey::Any(state))).sum(),
            Way::Job(job) => {
                states(filter).map(|state| self.by_state.count(StateKey::Job(*job, state))).sum()
            }
            Way::Collection(id) => self.by_collection.count(*id),
            Way::Node(id) => self.by_node.count(*id),
        }
    }

    fn count_at_once(&self, filter: &TaskFilter) -> Option<usize> {
        if !filter.predicates.is_empty() || filter.after.is_some() {
            return None;
        }
        let every_state = states(filter).count() == TaskState::ALL.len();
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

/// The states that `filter` allows.
fn states(filter: &TaskFilter) -> impl Iterator<Item = TaskState> + use<> {
    let allowed = filter.states;
    TaskState::ALL.into_iter().filter(move |state| allowed.contains(*state as u8))
}

#[cfg(test)]
mod tests;
