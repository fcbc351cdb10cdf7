//! The tasks in each state: of all jobs together, and of each.

use std::sync::Arc;

use imbl::OrdMap;

use super::build::dense;
use super::progress::Progress;
use crate::id::TaskId;
use crate::task::{Task, TaskState};

/// Tasks by id.
pub(super) type Tasks = OrdMap<TaskId, Arc<Task>>;

/// The tasks in each state. The tasks themselves: whoever visits all pending ones would have to look each of them up.
#[derive(Debug, Clone, Default)]
pub(super) struct ByState([Tasks; TaskState::ALL.len()]);

impl ByState {
    pub(super) fn get(&self, state: TaskState) -> &Tasks {
        &self.0[state as usize]
    }

    /// Takes a task out of its old state, if it had one, and puts it into its new one, if it has one.
    pub(super) fn replace(&mut self, old: Option<&Task>, new: Option<&Arc<Task>>) {
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.state != old.state)) {
            self.0[old.state as usize].remove(&old.id);
        }
        if let Some(new) = new {
            self.0[new.state as usize].insert(new.id, Arc::clone(new));
        }
    }
}

/// The tasks come in the order of their ids.
impl<'a> FromIterator<&'a Arc<Task>> for ByState {
    fn from_iter<I: IntoIterator<Item = &'a Arc<Task>>>(tasks: I) -> Self {
        let mut sorted = TaskState::ALL.map(|_| Vec::new());
        for task in tasks {
            sorted[task.state as usize].push((task.id, Arc::clone(task)));
        }
        Self(sorted.map(|entries| dense(entries.into_iter())))
    }
}

/// The tasks of one job: counted, and by state.
#[derive(Debug, Clone, Default)]
pub(super) struct JobTasks {
    pub(super) progress: Progress,
    pub(super) by_state: ByState,
}

impl JobTasks {
    pub(super) fn is_empty(&self) -> bool {
        self.progress.tasks.total() == 0
    }

    /// Counts a task of this job that was `old` and is `new`.
    pub(super) fn replace(&mut self, old: Option<&Task>, new: Option<&Arc<Task>>) {
        if let Some(task) = old {
            self.progress.subtract(task);
        }
        if let Some(task) = new {
            self.progress.add(task);
        }
        self.by_state.replace(old, new);
    }
}
