//! The restore engine: plans a snapshot into a job, copies its segments, and publishes them all at once.
//!
//! A caller makes a [`RestoreRequest`] and watches a channel of [`RestoreProgress`] until it has an
//! [`Outcome`]. A [`CancellationToken`] asks a run to stop; the same request then goes on where it stopped.

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
pub use retention::collect_garbage;
pub use tokio_util::sync::CancellationToken;
pub use verdict::{Manifest, RestoredSegment};
pub use worker::{Assignment, Slot, Worker};
