//! Keeps the durable record of the jobs that copy the segments of a vector database, and of their tasks.
//!
//! One restore of a snapshot is a **job**; a job is cut into **tasks**, each a list of source -> target segments
//! that one worker copies. [`MetaManager`] keeps both in memory and in a storage [`Catalog`], and guarantees that
//! the two never disagree: a call that returned `Ok` survives a crash at any later moment, and after an error readers
//! see what a restart would load.
//!
//! ```
//! use copyseg::{NewJob, NewTask, NodeId, SegmentId, SegmentPair, TaskState};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> copyseg::Result<()> {
//! let manager = copyseg::open("memory:").await?; // or "redb:restores.redb", which outlives the process
//! let pair = SegmentPair::new(SegmentId(1), SegmentId(1001));
//! let job = manager.add_job(NewJob::default(), vec![NewTask::new([pair])]).await?;
//!
//! for task in manager.tasks_of_job(job)? {
//!     let claim = manager.claim_task(task.id, NodeId(1)).await?;
//!     // ... copy task.segments ...
//!     manager.complete_task(claim).await?;
//! }
//! let progress = manager.snapshot()?.progress(job);
//! assert_eq!(progress.map(|progress| progress.tasks.get(TaskState::Completed)), Some(1));
//! # manager.close().await
//! # }
//! ```
//!
//! # Where to look
//!
//! * [`open()`] and [`schemes`]: a manager from a URL.
//! * [`open_follower`], [`request_cancel`]: beside the process that holds the store.
//! * [`MetaManager`]: every operation on jobs and tasks, and [`transact`](MetaManager::transact) for several at once.
//! * [`Snapshot`]: everything at one instant; reading it never waits. [`JobFilter`] and [`TaskFilter`] search it.
//! * [`Error`] and [`ErrorKind`]: what went wrong, as advice to the caller.
//! * [`Catalog`]: what a storage backend has to do, should you bring your own. The example `custom_catalog.rs` does.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `redb` | yes | `redb:` URLs and the module `redb`: a catalog in one local file |
//! | `sled` | no | `sled:` URLs and the module `sled`: a catalog in one local folder |
//! | `etcd` | no | `etcd:` URLs and the module `etcd`: a catalog on an etcd cluster; building it needs `protoc` |
//!
//! `memory:` is always there. Without default features no storage crate is compiled.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod location;
mod open;
mod beside;

pub use beside::{dead_holder_timeout, holder, open_catalog_read_only, open_follower, request_cancel};
pub use copyseg_core::*;
#[cfg(feature = "etcd")]
#[doc(inline)]
pub use copyseg_etcd as etcd;
#[cfg(feature = "redb")]
#[doc(inline)]
pub use copyseg_redb as redb;
#[cfg(feature = "sled")]
#[doc(inline)]
pub use copyseg_sled as sled;
pub use open::{canonical_url, check_storage, open, open_catalog, open_or_wait, open_with, schemes};

/// The examples of the project's README, compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
