//! The durable record of segment-copy jobs and tasks.
//!
//! A vector database restores a snapshot by copying its segments. One restore is a [`Job`]; a job is cut into
//! [`Task`]s, each a list of [`SegmentPair`]s that one worker copies. This crate holds the model, the indexed
//! state in memory and the one writer that keeps it durable, over any storage that implements [`Catalog`]. It
//! does no I/O of its own; the `copyseg` crate adds storage by URL.
//!
//! ```
//! use std::sync::Arc;
//! use copyseg_core::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let manager = MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await?;
//! let pairs = (1..=4).map(|id| SegmentPair::new(SegmentId(id), SegmentId(1000 + id)));
//! let job = manager.add_job(NewJob::default(), vec![NewTask::new(pairs)]).await?;
//!
//! let pending = TaskFilter::new().job(job).states([TaskState::Pending]);
//! for task in manager.list_tasks(&pending)? {
//!     let claim = manager.claim_task(task.id, NodeId(1)).await?;
//!     manager.complete_task(claim).await?;
//!     // A worker whose attempt is over can no longer speak.
//!     let stale = Claim { attempt: claim.attempt + 1, ..claim };
//!     assert_eq!(manager.complete_task(stale).await.unwrap_err().kind(), ErrorKind::StaleClaim);
//! }
//! let progress = manager.snapshot()?.progress(job).unwrap_or_default();
//! assert_eq!(progress.segments.get(TaskState::Completed), 4);
//! # manager.close().await
//! # }
//! ```
//!
//! # Where to look
//! - [`MetaManager`]: every operation; [`transact`](MetaManager::transact) combines several into one.
//! - [`Snapshot`]: jobs and tasks at one instant, and every query on them; [`JobFilter`], [`TaskFilter`].
//! - [`Subscription`]: what changed, by revision. [`Follower`]: the same store, read beside its writer.
//! - [`JobState`], [`TaskState`]: the tables of legal transitions.
//! - [`Catalog`]: what a backend has to do, as named rules with a test of the same name for each.
//! - [`Error`]: one type whose [`kind`](Error::kind) says what to do.

mod id;
mod time;
mod job;
mod task;
mod action;
mod filter;
mod id_map;
mod id_set;
mod index;
mod task_store;
mod snapshot;
mod txn;
mod catalog;
mod wire;
mod manager;
mod follower;
mod error;
#[cfg(test)]
mod samples;

pub use action::{JobAction, TaskAction};
pub use catalog::follow::{Committed, Follow, Following};
pub use catalog::memory::MemoryCatalog;
pub use catalog::{
    Batch, Catalog, Head, Limits, Loaded, Operation, Record, RecordCounts, RecordKey, RecordKind, Revision,
};
pub use error::{Error, ErrorKind, Result};
pub use filter::{JobFilter, TaskFilter};
pub use follower::Follower;
pub use id::{CollectionId, DatabaseId, JobId, NodeId, PartitionId, SegmentId, TaskId};
pub use job::{Job, JobState, NewJob};
pub use manager::{Changes, Event, ManagerOptions, MetaManager, Subscription, WeakManager};
pub use snapshot::{SetAside, Snapshot};
pub use task::{Claim, NewTask, SegmentPair, Segments, Task, TaskState};
pub use task_store::{PerState, Progress, TaskStore};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use txn::Txn;
pub use wire::{DecodedRecord, RECORD_BYTES_MAX, StoreFormat, decode_record};
