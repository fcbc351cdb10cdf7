//! The restore engine: plans a snapshot into a job, copies its segments, and publishes them all at once.
//!
//! A caller makes a [`RestoreRequest`] and watches a channel of [`RestoreProgress`] until [`restore`] has an
//! [`Outcome`]. A [`CancellationToken`] asks a run to stop; the same request then goes on where it stopped, as
//! it does after a crash at any point.
//!
//! # The snapshot
//! A directory, or a prefix of a remote store, with one folder per segment, named by its id as it would be
//! printed (`7`, neither `007` nor `+7`). A folder holds at least one file and may hold folders. Nothing else is
//! taken for a snapshot: a loose file, an empty folder, a symbolic link and anything that is not a regular file
//! is refused by name, before a byte is written. Links on the way to the snapshot are followed.
//!
//! # The target
//! ```text
//! restored/1/vectors.npy       a copy of the source segment's file, in a segment with a new id
//! restored/_copyseg/owner      the restore that owns the target, created before anything is copied
//! restored/_copyseg/outcome    the manifest; or, of a restore that failed or was cancelled, its marker
//! restored/_copyseg/plan-*     while it is unfinished, what was planned
//! restored/_copyseg/staging/   while it is unfinished, files that are not whole yet, in a folder for each run
//! ```
//! Segments count as restored once the [`Manifest`] names them, and are not looked at again: a restore that is run again
//! says that it is complete by the manifest alone. Other files in the target are left alone.
//!
//! # Tasks in progress
//! Small tasks are claimed up to 128 ahead of their copying, and reported up to 64 at once, so that they share commits of the
//! catalog; of large ones, or if more than 64 objects may be in flight, two for each object. A task that a stopped or killed run had claimed counts one attempt
//! more when it is claimed again.
//!
//! # What can go wrong
//! A worker's [`Failure`] is [transient](FailureKind::Transient) and retried with backoff, a bounded number of
//! times; or [blocked](FailureKind::Blocked), such as a full disk or a missing permission, which ends the run
//! with an error that says what to do and keeps the job, so that nothing is lost; or
//! [permanent](FailureKind::Permanent), such as a source file that changed or disappeared since the plan, which fails the
//! job.
//!
//! # Local files
//! Bytes are copied through a staging file that is synced and renamed, and the folders above it are synced,
//! before a task counts as completed. A run begins by removing the staging folders of earlier ones: a process that was
//! frozen and wakes up after another has gone on can put nothing in place any more. Files are read and written
//! directly, not through `object_store`, whose local `copy` makes hard links and whose listing hides names like `x#1`.
//! Nothing is written through a symbolic link in the target, which may be reached through one itself. Others may do no
//! more with the copy of a local file than with its source; folders get what the umask leaves.
//!
//! # Remote stores
//! `s3://`, `gs://` and `az://` need the features `s3`, `gcs` and `azure`; [`Location::with_store`] takes a store
//! that the caller opened. A copy inside one store is made by the store. A large object is uploaded in parts that
//! are noted in the target, so that what a killed process left open is aborted by the next run; only a process
//! killed between opening an upload and noting it leaves one to the store's lifecycle rules.

mod request;
mod options;
mod location;
mod layout;
mod plan;
mod owner;
mod verdict;
mod failure;
mod storage;
mod worker;
mod copy;
mod verify;
mod engine;
mod retention;

pub use copy::CopyWorker;
pub use engine::{check, restore, restore_with};
pub use failure::{Failure, FailureKind};
pub use layout::{OUTCOME, OWNER};
pub use location::{Location, RemoteStore};
pub use request::{Outcome, Phase, RestoreOptions, RestoreProgress, RestoreRequest, Verify};
pub use retention::{collect_garbage, expired};
#[cfg(feature = "faults")]
pub use storage::local::disk::{DiskCall, DiskHook};
pub use tokio_util::sync::CancellationToken;
pub use verdict::{Manifest, RestoredSegment};
pub use worker::{Assignment, Slot, Worker};
