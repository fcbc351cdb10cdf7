//! The durable record of segment-copy jobs and tasks.
#![warn(missing_docs)]

mod id;
mod time;
mod job;
mod task;
mod action;
mod filter;
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
pub use manager::{Changes, Event, ManagerOptions, MetaManager, Subscription};
pub use snapshot::{SetAside, Snapshot};
pub use task::{Claim, NewTask, SegmentPair, Segments, Task, TaskState};
pub use task_store::{PerState, Progress, TaskStore};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use txn::Txn;
pub use wire::{DecodedRecord, RECORD_BYTES_MAX, StoreFormat, decode_record};
