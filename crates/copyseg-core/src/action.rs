//! Composable updates: an update applies a list of actions, in order, all or none.
//!
//! An action cannot express a change of identity (id, job, collection, incarnation), so an update can never
//! invalidate an index, which in Milvus was left to the discipline of callers.

use crate::job::JobState;
use crate::task::TaskState;
use crate::time::Timestamp;

/// A change to a job.
///
/// ```
/// # use copyseg_core::{JobAction, JobState};
/// let give_up = [JobAction::State(JobState::Failed), JobAction::Reason("the source is gone".into())];
/// # let _ = give_up;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobAction {
    /// Moves the job to this state, if the table of transitions allows it. `started` and `completed` follow
    /// by themselves. `Publishing` also needs every task completed and all segments accounted for.
    State(JobState),
    /// Says why.
    Reason(String),
    /// Says how many rows the restore has.
    Rows(u64),
    /// Moves or lifts the deadline.
    Deadline(Option<Timestamp>),
    /// Sets one option.
    Option(String, String),
}

/// A change to a task. Moving it into or out of `InProgress` is for the dispatch operations alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskAction {
    /// Moves the task to this state, if the table of transitions allows it.
    State(TaskState),
    /// Says why.
    Reason(String),
    /// Says how many slots of a worker it takes.
    Slots(u32),
}
