//! The job record: one restore, its states and the table of legal transitions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::catalog::Revision;
use crate::error::{Error, ErrorKind};
use crate::id::{CollectionId, DatabaseId, JobId};
use crate::time::Timestamp;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Recorded; no task has been claimed yet.
    Pending,
    /// Workers are copying.
    Executing,
    /// Every segment is copied; only making them visible is left. It can no longer be cancelled.
    Publishing,
    /// Done, and visible.
    Completed,
    /// Given up, with a reason.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl JobState {
    /// Every state, in the order a job can pass through them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Executing, Self::Publishing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The one table of legal transitions.
    pub const fn can_become(self, next: Self) -> bool {
        use JobState::*;
        matches!(
            (self, next),
            (Pending, Executing | Failed | Cancelled)
                | (Executing, Publishing | Failed | Cancelled)
                | (Publishing, Completed | Failed)
        )
    }

    /// Whether the state is final. A terminal job never changes again; it can only be removed.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether workers may claim and complete tasks of the job.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Executing)
    }

    /// The name shown to people and written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Executing => "executing",
            Self::Publishing => "publishing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::new(
                ErrorKind::InvalidArgument,
                format!("`{text}` is not a job state: expected one of {names}"),
            )
        })
    }
}

/// One restore of one snapshot into one collection.
///
/// It carries no segment list, so it stays small however many segments it restores, and no progress, which is
/// counted from its tasks instead ([`Snapshot::progress`](crate::Snapshot::progress)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Job {
    /// Its id, unique among jobs.
    pub id: JobId,
    /// A random number drawn when the job was added. A task belongs to the job only if it carries the same
    /// number, so that leftovers of an earlier job with this id stay invisible.
    #[serde(skip)]
    pub incarnation: u64,
    /// The target database.
    pub database: DatabaseId,
    /// The target collection.
    pub collection: CollectionId,
    /// The target collection's name, as it was when the job was added.
    pub collection_name: String,
    /// The name of the snapshot being restored.
    pub snapshot: String,
    /// Where the snapshot is read from, as a URL without secrets.
    pub source: String,
    /// Where the segments are written to, as a URL without secrets.
    pub target: String,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed or was cancelled, or what was last said of it while it was active; empty if nothing was.
    pub reason: String,
    /// What the restore was asked to do, by name.
    pub options: BTreeMap<String, String>,
    /// How many segments it restores, fixed when it was added.
    pub segments: u64,
    /// How many bytes the tasks that were added with it hold; 0 where unknown. Those of tasks added later do not count.
    pub bytes: u64,
    /// How many rows it restores, where known.
    pub rows: Option<u64>,
    /// When it was added.
    pub created: Timestamp,
    /// When it became [`Executing`](JobState::Executing), which the claim of its first task makes it unless an update did.
    pub started: Option<Timestamp>,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it reached a terminal state.
    pub completed: Option<Timestamp>,
    /// When it is to be failed if it has not ended by then.
    pub deadline: Option<Timestamp>,
    /// The revision of the transaction that last changed it.
    pub revision: Revision,
}

/// A job to be added: what the caller decides. Everything else starts as every job starts.
///
/// ```
/// # use copyseg_core::{CollectionId, NewJob};
/// let job = NewJob { snapshot: "nightly".into(), collection: CollectionId(7), ..NewJob::default() };
/// assert_eq!(job.id, None, "an id is taken from the durable counter");
/// ```
#[derive(Debug, Clone, Default)]
pub struct NewJob {
    /// The id to use; `None` takes the next one of the durable counter.
    pub id: Option<JobId>,
    /// The target database.
    pub database: DatabaseId,
    /// The target collection.
    pub collection: CollectionId,
    /// The target collection's name.
    pub collection_name: String,
    /// The name of the snapshot.
    pub snapshot: String,
    /// Where the snapshot is read from, without secrets.
    pub source: String,
    /// Where the segments are written to, without secrets.
    pub target: String,
    /// What the restore is asked to do, by name.
    pub options: BTreeMap<String, String>,
    /// How many segments it restores in all; `None` counts those of the tasks added with it. Set it when
    /// tasks are added later: the job cannot be published before its tasks hold this many.
    pub segments: Option<u64>,
    /// How many rows it restores, where known.
    pub rows: Option<u64>,
    /// When it is to be failed if it has not ended by then.
    pub deadline: Option<Timestamp>,
}
