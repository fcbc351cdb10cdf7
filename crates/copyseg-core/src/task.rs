//! The task record: the part of a job that one worker carries out, its states and legal transitions.

mod segments;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::catalog::Revision;
use crate::error::{Error, ErrorKind};
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::job::{Job, JobState};
use crate::time::Timestamp;

pub use segments::{SegmentPair, Segments};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waiting for a worker.
    Pending,
    /// A worker holds its claim.
    InProgress,
    /// Its segments are copied and durable.
    Completed,
    /// Given up, with a reason.
    Failed,
    /// Stopped with its job.
    Cancelled,
}

impl TaskState {
    /// Every state, in the order a task can pass through them.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::InProgress, Self::Completed, Self::Failed, Self::Cancelled];

    /// The one table of legal transitions.
    pub const fn can_become(self, next: Self) -> bool {
        use TaskState::*;
        matches!(
            (self, next),
            (Pending, InProgress | Failed | Cancelled)
                | (InProgress, Pending | Completed | Failed | Cancelled)
        )
    }

    /// Whether the state is final. A terminal task never changes again; it can only be removed.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The name shown to people and written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::new(
                ErrorKind::InvalidArgument,
                format!("`{text}` is not a task state: expected one of {names}"),
            )
        })
    }
}

/// The part of a job that one worker carries out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Task {
    /// Its id, unique among tasks.
    pub id: TaskId,
    /// The job it belongs to.
    pub job: JobId,
    /// The incarnation of that job; see [`Job::incarnation`].
    #[serde(skip)]
    pub incarnation: u64,
    /// The target collection, the same as its job's.
    pub collection: CollectionId,
    /// The worker that has it, or had it last.
    pub node: Option<NodeId>,
    /// How often it has been claimed. A report that carries another number is refused.
    pub attempt: u32,
    /// How many slots of a worker it takes.
    pub slots: u32,
    /// Where it stands.
    pub state: TaskState,
    /// Why it failed or was cancelled, or why the last attempt gave up; empty otherwise.
    pub reason: String,
    /// What it copies.
    pub segments: Segments,
    /// When it was added.
    pub created: Timestamp,
    /// When it was first claimed.
    pub started: Option<Timestamp>,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it reached a terminal state.
    pub completed: Option<Timestamp>,
    /// The revision of the transaction that last changed it. A task that was added with a job larger than one
    /// batch carries the revision at which its id was taken, a little before that of its job.
    pub revision: Revision,
}

impl Task {
    /// The claim its current attempt reports with, while a worker has it.
    pub fn claim(&self) -> Option<Claim> {
        (self.state == TaskState::InProgress).then_some(Claim {
            task: self.id,
            incarnation: self.incarnation,
            attempt: self.attempt,
        })
    }

    /// The one rule of what is visible: a task is there if and only if its job is, with the same incarnation.
    pub(crate) fn belongs_to(&self, job: &Job) -> bool {
        self.job == job.id && self.incarnation == job.incarnation
    }

    /// This task as its ended job leaves it, or `None` if the job does not touch it.
    ///
    /// Ending a job is one write of the job's record: an open task of a job that failed or was cancelled *is*
    /// failed or cancelled, from the same revision on and after any restart, whatever its own record still says.
    pub(crate) fn settled_by(&self, job: &Job) -> Option<Self> {
        if self.state.is_terminal() {
            return None;
        }
        let state = match job.state {
            JobState::Failed => TaskState::Failed,
            JobState::Cancelled => TaskState::Cancelled,
            _ => return None,
        };
        Some(Self {
            state,
            reason: job.reason.clone(),
            updated: job.updated,
            completed: job.completed,
            revision: job.revision,
            ..self.clone()
        })
    }
}

/// A task to be added: what the caller decides.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// The id to use; `None` takes the next one of the durable counter.
    pub id: Option<TaskId>,
    /// What it copies.
    pub segments: Segments,
    /// How many slots of a worker it takes; usually 1.
    pub slots: u32,
}

impl NewTask {
    /// A task of one slot that copies `segments`.
    pub fn new(segments: impl IntoIterator<Item = SegmentPair>) -> Self {
        Self { id: None, segments: segments.into_iter().collect(), slots: 1 }
    }
}

/// The right to speak for one attempt at a task, given out by
/// [`MetaManager::claim_task`](crate::MetaManager::claim_task).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// The incarnation of its job.
    pub incarnation: u64,
    /// The attempt it was given.
    pub attempt: u32,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} at task {}", self.attempt, self.task)
    }
}
