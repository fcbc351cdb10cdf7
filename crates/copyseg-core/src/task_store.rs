//! The indexed task store: tasks by id, and what they are looked up and counted by.

mod index;
mod merge;
mod progress;

use std::ops::Bound::{self, Excluded, Unbounded};
use std::sync::Arc;

use imbl::OrdMap;

use crate::filter::TaskFilter;
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::task::{Task, TaskState};

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
    index: Index<IndexKey, TaskId>,
    progress: OrdMap<JobId, Progress>,
}

/// What a task is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum IndexKey {
    /// Split by state, so that the pending tasks of a job are found without walking its completed ones.
    Job(JobId, TaskState),
    Collection(CollectionId),
    Node(NodeId),
    State(TaskState),
}

/// The one place that says under which keys a task is found.
fn index_keys(task: &Task) -> [Option<IndexKey>; 4] {
    [
        Some(IndexKey::Job(task.job, task.state)),
        Some(IndexKey::Collection(task.collection)),
        Some(IndexKey::State(task.state)),
        task.node.map(IndexKey::Node),
    ]
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
        let id = task.id;
        let old = self.tasks.insert(id, Arc::clone(&task));
        self.reindex(id, old.as_deref(), Some(&task));
        old
    }

    /// Removes the task with this id and returns it.
    pub fn remove(&mut self, id: TaskId) -> Option<Arc<Task>> {
        let old = self.tasks.remove(&id)?;
        self.reindex(id, Some(&old), None);
        Some(old)
    }

    /// The tasks that `filter` leaves, in id order, found through the narrowest index it names.
    pub fn matching<'s>(&'s self, filter: &TaskFilter) -> impl Iterator<Item = &'s Arc<Task>> {
        self.candidates(filter).filter(move |task| filter.matches(task)).take(filter.limit)
    }

    /// The tasks of one job, in id order.
    pub fn of_job(&self, id: JobId) -> impl Iterator<Item = &Arc<Task>> {
        self.merged(TaskState::ALL.map(|state| IndexKey::Job(id, state)), (Unbounded, Unbounded))
    }

    /// The tasks of one collection, in id order.
    pub fn of_collection(&self, id: CollectionId) -> impl Iterator<Item = &Arc<Task>> {
        self.merged([IndexKey::Collection(id)], (Unbounded, Unbounded))
    }

    /// How many tasks `filter` leaves. A filter by nothing but a job and states, or a collection, or a node, is
    /// answered without visiting a task.
    pub fn count(&self, filter: &TaskFilter) -> usize {
        match self.count_at_once(filter) {
            Some(count) => count.min(filter.limit),
            None => self.matching(filter).count(),
        }
    }

    /// The tasks of one job by state; `None` if it has none. Costs the same whatever their number.
    pub fn progress(&self, job: JobId) -> Option<&Progress> {
        self.progress.get(&job)
    }

    fn reindex(&mut self, id: TaskId, old: Option<&Task>, new: Option<&Task>) {
        let (old_keys, new_keys) = (old.map(index_keys), new.map(index_keys));
        self.index.replace(id, old_keys.unwrap_or_default(), new_keys.unwrap_or_default());
        if let Some(task) = new {
            self.progress.entry(task.job).or_default().add(task);
        }
        if let Some(task) = old {
            let emptied = self.progress.get_mut(&task.job).is_some_and(|progress| {
                progress.subtract(task);
                progress.tasks.total() == 0
            });
            if emptied {
                self.progress.remove(&task.job);
            }
        }
    }

    fn candidates<'s>(&'s self, filter: &TaskFilter) -> Box<dyn Iterator<Item = &'s Arc<Task>> + 's> {
        let range = (filter.after.map_or(Unbounded, Excluded), Unbounded);
        match self.narrowest(filter) {
            Some(keys) => Box::new(self.merged(keys, range)),
            None => Box::new(self.tasks.range(range).map(|(_, task)| task)),
        }
    }

    fn merged<K: IntoIterator<Item = IndexKey>>(
        &self,
        keys: K,
        range: (Bound<TaskId>, Bound<TaskId>),
    ) -> impl Iterator<Item = &Arc<Task>> + use<'_, K> {
        let buckets = keys.into_iter().filter_map(|key| self.index.get(&key));
        merge(buckets.map(move |ids| ids.range(range))).filter_map(|id| self.tasks.get(id))
    }

    /// The keys whose buckets together hold every match and the fewest other tasks; `None` means that nothing
    /// is narrower than all tasks.
    fn narrowest(&self, filter: &TaskFilter) -> Option<Vec<IndexKey>> {
        let states = || TaskState::ALL.into_iter().filter(|state| filter.states.contains(*state as u8));
        let ways: [Option<Vec<IndexKey>>; 4] = [
            filter.job.map(|job| states().map(|state| IndexKey::Job(job, state)).collect()),
            filter.collection.map(|id| vec![IndexKey::Collection(id)]),
            filter.node.map(|id| vec![IndexKey::Node(id)]),
            Some(states().map(IndexKey::State).collect()),
        ];
        let (size, keys) = ways
            .into_iter()
            .flatten()
            .map(|keys| (keys.iter().map(|key| self.index.count(key)).sum::<usize>(), keys))
            .min_by_key(|(size, _)| *size)?;
        (size < self.tasks.len()).then_some(keys)
    }

    fn count_at_once(&self, filter: &TaskFilter) -> Option<usize> {
        if !filter.predicates.is_empty() || filter.after.is_some() {
            return None;
        }
        let states = || TaskState::ALL.into_iter().filter(|state| filter.states.contains(*state as u8));
        let every_state = states().count() == TaskState::ALL.len();
        match (filter.job, filter.collection, filter.node) {
            (None, None, None) => Some(states().map(|state| self.index.count(&IndexKey::State(state))).sum()),
            (Some(job), None, None) => {
                Some(states().map(|state| self.index.count(&IndexKey::Job(job, state))).sum())
            }
            (None, Some(id), None) if every_state => Some(self.index.count(&IndexKey::Collection(id))),
            (None, None, Some(id)) if every_state => Some(self.index.count(&IndexKey::Node(id))),
            _ => None,
        }
    }
}
