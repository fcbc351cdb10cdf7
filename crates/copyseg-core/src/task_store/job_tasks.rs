//! The tasks in each state: of all jobs together, and of each.

use imbl::OrdMap;

use super::build::dense;
use super::progress::Progress;
use crate::id::TaskId;
use crate::task::{Task, TaskState};

/// Ids in order.
pub(super) type Ids = OrdMap<TaskId, ()>;

/// The tasks in each state, each under its id with a value.
#[derive(Debug, Clone)]
pub(super) struct ByState<V>([OrdMap<TaskId, V>; TaskState::ALL.len()]);

impl<V> Default for ByState<V> {
    fn default() -> Self {
        Self(TaskState::ALL.map(|_| OrdMap::new()))
    }
}

impl<V: Clone> ByState<V> {
    pub(super) fn get(&self, state: TaskState) -> &OrdMap<TaskId, V> {
        &self.0[state as usize]
    }

    /// Takes a task out of its old state, if it had one, and puts it with its new value into its new one, if it has
    /// one.
    pub(super) fn replace(&mut self, id: TaskId, old: Option<TaskState>, new: Option<(TaskState, V)>) {
        if let Some(state) = old.filter(|old| new.as_ref().is_none_or(|(new, _)| new != old)) {
            self.0[state as usize].remove(&id);
        }
        if let Some((state, value)) = new {
            self.0[state as usize].insert(id, value);
        }
    }

    /// From the entries of each state, in the order of their ids.
    pub(super) fn of(sorted: [Vec<(TaskId, V)>; TaskState::ALL.len()]) -> Self {
        Self(sorted.map(|entries| dense(entries.into_iter())))
    }
}

/// The tasks of one job: counted, and by state.
///
/// As ids and not the tasks themselves: copying a path would then count a reference in each of its neighbours, which
/// lie anywhere in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct JobTasks {
    pub(super) progress: Progress,
    pub(super) by_state: ByState<()>,
}

impl JobTasks {
    pub(super) fn is_empty(&self) -> bool {
        self.progress.tasks.total() == 0
    }

    /// Counts a task of this job that was `old` and is `new`.
    pub(super) fn replace(&mut self, id: TaskId, old: Option<&Task>, new: Option<&Task>) {
        if let Some(task) = old {
            self.progress.subtract(task);
        }
        if let Some(task) = new {
            self.progress.add(task);
        }
        let (old, new) = (old.map(|task| task.state), new.map(|task| task.state));
        if old != new {
            self.by_state.replace(id, old, new.map(|state| (state, ())));
        }
    }
}
