//! What is asked of a restore, and what it answers: request, options, progress and outcome.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, JobId, Result};

use crate::location::Location;

/// A restore to carry out: the segments below `source` become new segments below `target`.
///
/// Two requests with the same canonical pair of locations are the same restore, however they were written.
///
/// ```
/// # use copyseg_restore::RestoreRequest;
/// let request = RestoreRequest::new("./nightly/", "restored")?;
/// assert_eq!(request.source.to_string(), RestoreRequest::new("nightly", "restored")?.source.to_string());
/// # Ok::<(), copyseg_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The snapshot: one folder per segment, named by its id.
    pub source: Location,
    /// Where the restored segments go. It need not exist.
    pub target: Location,
    /// How to go about it.
    pub options: RestoreOptions,
}

impl RestoreRequest {
    /// A restore from `source` to `target`, each a path or a URL, with default options.
    ///
    /// # Errors
    /// Those of [`Location::parse`].
    pub fn new(source: &str, target: &str) -> Result<Self> {
        let (source, target) = (Location::parse(source)?, Location::parse(target)?);
        Ok(Self { source, target, options: RestoreOptions::default() })
    }
}

/// How to go about a restore.
///
/// The first three belong to the stored plan. `None` takes what the plan says, or the default for a new one;
/// a value that differs from the plan of an unfinished restore is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// How many segments one task copies, from 1 to [`SEGMENTS_PER_TASK_MAX`](Self::SEGMENTS_PER_TASK_MAX);
    /// by default [`SEGMENTS_PER_TASK`](Self::SEGMENTS_PER_TASK).
    pub segments_per_task: Option<usize>,
    /// How copies are checked; by default [`Verify::Content`].
    pub verify: Option<Verify>,
    /// How long the restore may take in all, from its first start; by default as long as it needs. After that
    /// the job fails.
    pub deadline: Option<Duration>,
    /// How many objects are copied at once over the whole restore, at least 1. Memory is proportional to it.
    pub objects_in_flight: usize,
    /// How often one run tries a task before its transient failures fail the job, at least 1. Attempts that
    /// ended with a killed process do not count.
    pub attempts_max: u32,
    /// The wait before the second attempt; it doubles with each further one and is jittered.
    pub retry_delay_min: Duration,
    /// The longest wait between two attempts.
    pub retry_delay_max: Duration,
    /// A worker that moved no byte for this long has lost its task to another attempt.
    pub heartbeat_timeout: Duration,
    /// A catalog that has not said for this long what became of a change ends the run; the same request goes on when
    /// it is back.
    pub catalog_timeout: Duration,
    /// Takes over a target that an unfinished restore of another source or catalog owns, removing what that
    /// one copied. Its process must be gone for good. A completed restore is never taken over.
    pub take_over: bool,
}

impl RestoreOptions {
    /// The default of [`segments_per_task`](Self::segments_per_task).
    pub const SEGMENTS_PER_TASK: usize = 10;
    /// The most segments one task may hold, so that its record stays well below 64 KiB.
    pub const SEGMENTS_PER_TASK_MAX: usize = 1000;
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            segments_per_task: None,
            verify: None,
            deadline: None,
            objects_in_flight: 16,
            attempts_max: 5,
            retry_delay_min: Duration::from_millis(200),
            retry_delay_max: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(300),
            catalog_timeout: Duration::from_secs(300),
            take_over: false,
        }
    }
}

/// How a copy is checked. Server-side copies inside one remote store move no bytes through this process: in
/// either mode the sizes are compared, and the etag of the source before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// A checksum is taken while copying, and compared with that of the target, read back.
    #[default]
    Content,
    /// Sizes are compared.
    Size,
}

impl Verify {
    /// The name shown to people and stored in the job's options.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Size => "size",
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verify {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Content, Self::Size].into_iter().find(|verify| verify.as_str() == text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("`{text}` is not a way to verify: expected content or size"),
            )
        })
    }
}

/// How a restore ended, or why it has not ended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every segment is copied, and the manifest names them.
    Completed {
        /// The job that did it.
        job: JobId,
        /// How many segments were restored.
        segments: u64,
        /// How many bytes they have.
        bytes: u64,
        /// Whether an earlier run had completed it, so that this one copied nothing.
        already: bool,
        /// Whether the store copied by itself, in which case sizes and etags were compared, not contents.
        server_side: bool,
    },
    /// The stop signal came first. The same request goes on where this run stopped.
    Stopped {
        /// The job, unless the run was stopped before there was one.
        job: Option<JobId>,
    },
    /// Given up for good. The same request removes what was copied and begins anew, unless the target was cleared.
    Failed {
        /// The job.
        job: JobId,
        /// Why, naming the segment and file where there is one.
        reason: String,
        /// Whether somebody cleared the target meanwhile. What is left in it then belongs to no restore, so that it has to be
        /// removed before the same request.
        target_cleared: bool,
    },
    /// The job was cancelled. The same request removes what was copied and begins anew.
    Cancelled {
        /// The job.
        job: JobId,
        /// What was given as the reason.
        reason: String,
    },
}

/// How far a restore has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreProgress {
    /// What is being done.
    pub phase: Phase,
    /// The job, once there is one.
    pub job: Option<JobId>,
    /// How many segments there are to restore; 0 until the plan is made.
    pub segments: u64,
    /// How many of them are copied, in earlier runs too.
    pub segments_copied: u64,
    /// How many bytes there are to restore; 0 until the plan is made.
    pub bytes: u64,
    /// How many of them are copied. It falls when an attempt fails, since its bytes are copied again.
    pub bytes_copied: u64,
    /// How many bytes had been copied before this run, so that a rate can be told from `bytes_copied`.
    pub bytes_before: u64,
    /// The last failure that is being retried, empty once that worked or a task was completed after it.
    pub waiting: String,
}

/// What a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Reading the source, checking the target and recording the job.
    #[default]
    Planning,
    /// Copying segments.
    Copying,
    /// Making the restored segments visible.
    Publishing,
    /// Nothing any more.
    Ended,
}
