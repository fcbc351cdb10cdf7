//! The tasks of one job.

use std::sync::Arc;

use super::progress::Progress;
use super::states;
use crate::filter::StateSet;
use crate::id::TaskId;
use crate::id_map::IdMap;
use crate::task::{Task, TaskState};

/// The tasks of one job: counted, and by state.
#[derive(Debug, Clone, Default)]
pub(super) struct JobTasks {
    pub(super) progress: Progress,
    /// The tasks themselves, because those of a job are what is asked for most, and few are beside each other.
    by_state: [IdMap<TaskId, Arc<Task>>; TaskState::ALL.len()],
}

impl JobTasks {
    pub(super) fn is_empty(&self) -> bool {
        self.progress.tasks.total() == 0
    }

    pub(super) fn get(&self, state: TaskState) -> &IdMap<TaskId, Arc<Task>> {
        &self.by_state[state as usize]
    }

    /// How many are in these states.
    pub(super) fn count(&self, allowed: StateSet) -> usize {
        states(allowed).map(|state| self.get(state).len()).sum()
    }

    /// Enters a task of this job that was `old` and is `new`.
    pub(super) fn replace(&mut self, old: Option<&Task>, new: Option<&Arc<Task>>) {
        if let Some(old) = old {
            self.progress.subtract(old);
        }
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.state != old.state)) {
            self.by_state[old.state as usize].remove(old.id);
        }
        if let Some(new) = new {
            self.progress.add(new);
            self.by_state[new.state as usize].insert(new.id, Arc::clone(new));
        }
    }
}

/// The tasks come in the order of their ids.
impl<'a> FromIterator<&'a Arc<Task>> for JobTasks {
    fn from_iter<I: IntoIterator<Item = &'a Arc<Task>>>(tasks: I) -> Self {
        let mut progress = Progress::default();
        let mut by_state = TaskState::ALL.map(|_| Vec::new());
        for task in tasks {
            progress.add(task);
            by_state[task.state as usize].push((task.id, Arc::clone(task)));
        }
        Self { progress, by_state: by_state.map(IdMap::from_iter) }
    }
}
