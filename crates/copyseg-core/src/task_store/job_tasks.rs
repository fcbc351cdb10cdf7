//! The tasks of one job.

use std::sync::Arc;

use super::progress::Progress;
use super::states;
use crate::filter::StateSet;
use crate::id::{CollectionId, TaskId};
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

/// Tasks of one job that are yet to be made into [`JobTasks`], and how many of them are in each collection.
#[derive(Default)]
pub(super) struct Gathered {
    progress: Progress,
    by_state: [Vec<(TaskId, Arc<Task>)>; TaskState::ALL.len()],
    /// Of tasks that come after each other, so that a collection may occur more than once.
    pub(super) collections: Vec<(CollectionId, usize)>,
}

impl Gathered {
    /// Adds the next task, by the order of their ids.
    pub(super) fn add(&mut self, task: &Arc<Task>) {
        self.progress.add(task);
        self.by_state[task.state as usize].push((task.id, Arc::clone(task)));
        match self.collections.last_mut() {
            Some((collection, tasks)) if *collection == task.collection => *tasks += 1,
            _ => self.collections.push((task.collection, 1)),
        }
    }
}

impl From<Gathered> for JobTasks {
    fn from(gathered: Gathered) -> Self {
        Self { progress: gathered.progress, by_state: gathered.by_state.map(IdMap::from_iter) }
    }
}
