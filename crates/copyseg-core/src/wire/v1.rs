//! Schema 1 of every record. What is written here is frozen: stores of version 0.1 stay readable for ever.
//!
//! A field can only be added in a new schema, because bincode does not name fields. Tasks are read and no longer written in it.

use std::collections::BTreeMap;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use super::StoreFormat;
use crate::catalog::Revision;
use crate::id::{CollectionId, DatabaseId, JobId, NodeId, PartitionId, SegmentId, TaskId};
use crate::job::{Job, JobState};
use crate::task::{SegmentPair, Segments, Task, TaskState};
use crate::time::Timestamp;

pub(super) const SCHEMA: u8 = 1;

/// The number of a state on disk, never the order of its variant.
const fn job_state_code(state: JobState) -> u8 {
    match state {
        JobState::Pending => 1,
        JobState::Executing => 2,
        JobState::Publishing => 3,
        JobState::Completed => 4,
        JobState::Failed => 5,
        JobState::Cancelled => 6,
    }
}

/// The number of a state on disk, never the order of its variant.
pub(super) const fn task_state_code(state: TaskState) -> u8 {
    match state {
        TaskState::Pending => 1,
        TaskState::InProgress => 2,
        TaskState::Completed => 3,
        TaskState::Failed => 4,
        TaskState::Cancelled => 5,
    }
}

pub(super) fn task_state(code: u8) -> Result<TaskState, &'static str> {
    let state = TaskState::ALL.into_iter().find(|state| task_state_code(*state) == code);
    state.ok_or("its state has an unknown number")
}

#[derive(Encode, Decode)]
pub(super) struct JobV1 {
    id: i64,
    incarnation: u64,
    database: i64,
    collection: i64,
    collection_name: String,
    snapshot: String,
    source: String,
    target: String,
    state: u8,
    reason: String,
    options: BTreeMap<String, String>,
    segments: u64,
    bytes: u64,
    rows: Option<u64>,
    created_ms: u64,
    started_ms: Option<u64>,
    updated_ms: u64,
    completed_ms: Option<u64>,
    deadline_ms: Option<u64>,
    revision: u64,
}

impl From<&Job> for JobV1 {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id.0,
            incarnation: job.incarnation,
            database: job.database.0,
            collection: job.collection.0,
            collection_name: job.collection_name.clone(),
            snapshot: job.snapshot.clone(),
            source: job.source.clone(),
            target: job.target.clone(),
            state: job_state_code(job.state),
            reason: job.reason.clone(),
            options: job.options.clone(),
            segments: job.segments,
            bytes: job.bytes,
            rows: job.rows,
            created_ms: job.created.as_millis(),
            started_ms: job.started.map(Timestamp::as_millis),
            updated_ms: job.updated.as_millis(),
            completed_ms: job.completed.map(Timestamp::as_millis),
            deadline_ms: job.deadline.map(Timestamp::as_millis),
            revision: job.revision.0,
        }
    }
}

impl TryFrom<JobV1> for Job {
    type Error = &'static str;

    fn try_from(job: JobV1) -> Result<Self, Self::Error> {
        let state = JobState::ALL
            .into_iter()
            .find(|state| job_state_code(*state) == job.state)
            .ok_or("its state has an unknown number")?;
        Ok(Self {
            id: JobId(job.id),
            incarnation: job.incarnation,
            database: DatabaseId(job.database),
            collection: CollectionId(job.collection),
            collection_name: job.collection_name,
            snapshot: job.snapshot,
            source: job.source,
            target: job.target,
            state,
            reason: job.reason,
            options: job.options,
            segments: job.segments,
            bytes: job.bytes,
            rows: job.rows,
            created: Timestamp::from_millis(job.created_ms),
            started: job.started_ms.map(Timestamp::from_millis),
            updated: Timestamp::from_millis(job.updated_ms),
            completed: job.completed_ms.map(Timestamp::from_millis),
            deadline: job.deadline_ms.map(Timestamp::from_millis),
            revision: Revision(job.revision),
        })
    }
}

#[derive(Decode)]
pub(super) struct TaskV1 {
    id: i64,
    job: i64,
    incarnation: u64,
    collection: i64,
    node: Option<i64>,
    attempt: u32,
    slots: u32,
    state: u8,
    reason: String,
    segments: SegmentsV1,
    created_ms: u64,
    started_ms: Option<u64>,
    updated_ms: u64,
    completed_ms: Option<u64>,
    revision: u64,
}

impl TryFrom<TaskV1> for Task {
    type Error = &'static str;

    fn try_from(task: TaskV1) -> Result<Self, Self::Error> {
        let state = task_state(task.state)?;
        Ok(Self {
            id: TaskId(task.id),
            job: JobId(task.job),
            incarnation: task.incarnation,
            collection: CollectionId(task.collection),
            node: task.node.map(NodeId),
            attempt: task.attempt,
            slots: task.slots,
            state,
            reason: task.reason,
            segments: task.segments.0,
            created: Timestamp::from_millis(task.created_ms),
            started: task.started_ms.map(Timestamp::from_millis),
            updated: Timestamp::from_millis(task.updated_ms),
            completed: task.completed_ms.map(Timestamp::from_millis),
            revision: Revision(task.revision),
        })
    }
}

/// A vector of [`SegmentPairV1`] that is never made into one: a store has millions of pairs to read. Each takes six bytes or
/// more, so that a record has room for 10,900 of them, however many it claims to hold.
struct SegmentsV1(Segments);

impl<Context> Decode<Context> for SegmentsV1 {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let length = u64::decode(decoder)?;
        let pairs = (0..length).map(|_| SegmentPairV1::decode(decoder).map(SegmentPair::from));
        pairs.collect::<Result<_, _>>().map(Self)
    }
}

bincode::impl_borrow_decode!(SegmentsV1);

#[derive(Decode)]
#[cfg_attr(test, derive(Encode))]
struct SegmentPairV1 {
    source: i64,
    target: i64,
    partition: Option<i64>,
    files: u32,
    bytes: u64,
    fingerprint: u64,
}

impl From<SegmentPairV1> for SegmentPair {
    fn from(pair: SegmentPairV1) -> Self {
        Self {
            source: SegmentId(pair.source),
            target: SegmentId(pair.target),
            partition: pair.partition.map(PartitionId),
            files: pair.files,
            bytes: pair.bytes,
            fingerprint: pair.fingerprint,
        }
    }
}

#[derive(Encode, Decode)]
pub(super) struct StoreFormatV1 {
    format: u32,
    min_reader: u32,
    created_by: String,
}

impl From<&StoreFormat> for StoreFormatV1 {
    fn from(format: &StoreFormat) -> Self {
        Self { format: format.format, min_reader: format.min_reader, created_by: format.created_by.clone() }
    }
}

impl From<StoreFormatV1> for StoreFormat {
    fn from(format: StoreFormatV1) -> Self {
        Self { format: format.format, min_reader: format.min_reader, created_by: format.created_by }
    }
}

#[derive(Encode, Decode)]
pub(super) struct CounterV1 {
    pub(super) next_id: i64,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::BINCODE;
    use super::*;

    fn as_it_was_written(pair: SegmentPair) -> SegmentPairV1 {
        let SegmentPair { source, target, partition, files, bytes, fingerprint } = pair;
        let partition = partition.map(|partition| partition.0);
        SegmentPairV1 { source: source.0, target: target.0, partition, files, bytes, fingerprint }
    }

    /// The length takes one byte up to 250, then three.
    #[rstest]
    fn segments_are_read_as_a_vector_of_their_pairs(#[values(0, 1, 250, 251, 3_000)] length: i64) {
        let pair = |n| SegmentPair { files: 2, ..SegmentPair::new(SegmentId(n), SegmentId(-n)) };
        let segments: Segments = (0..length).map(pair).collect();
        let pairs: Vec<_> = segments.iter().map(as_it_was_written).collect();
        let written = bincode::encode_to_vec(&pairs, BINCODE).unwrap();
        let (read, consumed) = bincode::decode_from_slice::<SegmentsV1, _>(&written, BINCODE).unwrap();
        assert_eq!((read.0, consumed), (segments, written.len()));
    }
}
