//! The runtime of `tokio`: shuttle's, which passes for several.

use shuttle::rand::{Rng, thread_rng};

/// Which runtime it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(bool);

/// The runtime of a task.
#[derive(Debug)]
pub struct Handle;

impl Handle {
    /// Of the task that asks.
    pub fn current() -> Self {
        Self
    }

    /// Another one each time, or the same: a task may run on a runtime of its own, and the schedule decides.
    pub fn id(&self) -> Id {
        Id(thread_rng().gen_bool(0.5))
    }
}
