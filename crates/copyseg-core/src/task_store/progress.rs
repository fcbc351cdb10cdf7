//! How far a job is: counts of its tasks by state.

use serde::{Serialize, Serializer};

use crate::task::{Task, TaskState};

/// How far a job is, by the states of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// How many tasks are in each state.
    pub tasks: PerState,
    /// How many segments the tasks in each state hold.
    pub segments: PerState,
    /// How many bytes, as planned, the tasks in each state hold.
    pub bytes: PerState,
}

impl Progress {
    pub(crate) fn add(&mut self, task: &Task) {
        self.change(task, u64::wrapping_add);
    }

    pub(crate) fn subtract(&mut self, task: &Task) {
        self.change(task, u64::wrapping_sub);
    }

    /// Wrapping, because only then does a subtraction always undo its addition.
    fn change(&mut self, task: &Task, apply: impl Fn(u64, u64) -> u64) {
        let counts = [
            (&mut self.tasks, 1),
            (&mut self.segments, task.segments.len() as u64),
            (&mut self.bytes, task.segments.bytes()),
        ];
        for (per_state, amount) in counts {
            let count = &mut per_state.0[task.state as usize];
            *count = apply(*count, amount);
        }
    }
}

/// One count for each state of a task. Written as an object in JSON, by the names of the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerState([u64; TaskState::ALL.len()]);

impl PerState {
    /// The count for `state`.
    pub const fn get(&self, state: TaskState) -> u64 {
        self.0[state as usize]
    }

    /// The sum over all states.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl Serialize for PerState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(TaskState::ALL.map(|state| (state, self.get(state))))
    }
}
