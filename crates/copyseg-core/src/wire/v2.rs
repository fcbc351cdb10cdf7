//! Schema 2, of tasks alone: their segment pairs are written as they are packed in memory. Frozen, like schema 1.
//!
//! A task of the benchmark's workload, with eight pairs, takes 171 bytes instead of 361, and is read without making each pair
//! anew. Pairs whose ids are in no order, or whose fingerprints are small numbers, take more than in schema 1.

use bincode::{BorrowDecode, Encode};

use super::v1::{task_state, task_state_code};
use crate::catalog::Revision;
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::task::{Segments, Task};
use crate::time::Timestamp;

pub(super) const SCHEMA: u8 = 2;

#[derive(Encode, BorrowDecode)]
pub(super) struct TaskV2<'a> {
    id: i64,
    job: i64,
    incarnation: u64,
    collection: i64,
    node: Option<i64>,
    attempt: u32,
    slots: u32,
    state: u8,
    reason: &'a str,
    segments: &'a [u8],
    created_ms: u64,
    started_ms: Option<u64>,
    updated_ms: u64,
    completed_ms: Option<u64>,
    revision: u64,
}

impl<'a> From<&'a Task> for TaskV2<'a> {
    fn from(task: &'a Task) -> Self {
        Self {
            id: task.id.0,
            job: task.job.0,
            incarnation: task.incarnation,
            collection: task.collection.0,
            node: task.node.map(|node| node.0),
            attempt: task.attempt,
            slots: task.slots,
            state: task_state_code(task.state),
            reason: &task.reason,
            segments: task.segments.packed(),
            created_ms: task.created.as_millis(),
            started_ms: task.started.map(Timestamp::as_millis),
            updated_ms: task.updated.as_millis(),
            completed_ms: task.completed.map(Timestamp::as_millis),
            revision: task.revision.0,
        }
    }
}

impl TryFrom<TaskV2<'_>> for Task {
    type Error = &'static str;

    fn try_from(task: TaskV2<'_>) -> Result<Self, Self::Error> {
        Ok(Self {
            id: TaskId(task.id),
            job: JobId(task.job),
            incarnation: task.incarnation,
            collection: CollectionId(task.collection),
            node: task.node.map(NodeId),
            attempt: task.attempt,
            slots: task.slots,
            state: task_state(task.state)?,
            reason: task.reason.into(),
            segments: Segments::from_packed(task.segments)
                .ok_or("its segment pairs are not packed as they should be")?,
            created: Timestamp::from_millis(task.created_ms),
            started: task.started_ms.map(Timestamp::from_millis),
            updated: Timestamp::from_millis(task.updated_ms),
            completed: task.completed_ms.map(Timestamp::from_millis),
            revision: Revision(task.revision),
        })
    }
}
