//! The restore engine: plans a snapshot into a job, copies its segments, and publishes them all at once.
//!
//! A caller makes a [`RestoreRequest`] and watches a channel of [`RestoreProgress`] until it has an
//! [`Outcome`]. A [`CancellationToken`] asks a run to stop; the same request then goes on where it stopped.

mod location;
mod request;

pub use location::{Location, RemoteStore};
pub use request::{Outcome, Phase, RestoreOptions, RestoreProgress, RestoreRequest, Verify};
pub use tokio_util::sync::CancellationToken;
