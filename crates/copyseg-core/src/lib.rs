//! The durable record of segment-copy jobs and tasks.
#![warn(missing_docs)]

mod action;
mod catalog;
mod error;
mod id;
mod job;
mod task;
mod time;

pub use action::{JobAction, TaskAction};
pub use catalog::{
    Batch, Catalog, Head, Limits, Loaded, Operation, Record, RecordCounts, RecordKey, RecordKind, Revision,
};
pub use error::{Error, ErrorKind, Result};
pub use id::{CollectionId, DatabaseId, JobId, NodeId, PartitionId, SegmentId, TaskId};
pub use job::{Job, JobState, NewJob};
pub use task::{Claim, NewTask, SegmentPair, Segments, Task, TaskState};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
