//! Records for unit tests: as plain as possible, for a test to change what it is about.

use std::collections::BTreeMap;

use crate::catalog::Revision;
use crate::id::{CollectionId, DatabaseId, JobId, SegmentId, TaskId};
use crate::job::{Job, JobState};
use crate::task::{SegmentPair, Segments, Task, TaskState};
use crate::time::Timestamp;

/// A pending job without segments.
pub(crate) fn job(id: i64) -> Job {
    Job {
        id: JobId(id),
        incarnation: 0,
        database: DatabaseId(1),
        collection: CollectionId(1),
        collection_name: String::new(),
        snapshot: String::new(),
        source: String::new(),
        target: String::new(),
        state: JobState::Pending,
        reason: String::new(),
        options: BTreeMap::new(),
        segments: 0,
        bytes: 0,
        rows: None,
        created: Timestamp::default(),
        started: None,
        updated: Timestamp::default(),
        completed: None,
        deadline: None,
        revision: Revision(0),
    }
}

/// A pending task of `job` without segments.
pub(crate) fn task(id: i64, job: i64) -> Task {
    Task {
        id: TaskId(id),
        job: JobId(job),
        incarnation: 0,
        collection: CollectionId(1),
        node: None,
        attempt: 0,
        slots: 1,
        state: TaskState::Pending,
        reason: String::new(),
        segments: segments(0, 0),
        created: Timestamp::default(),
        started: None,
        updated: Timestamp::default(),
        completed: None,
        revision: Revision(0),
    }
}

/// `count` segments of `bytes` each.
pub(crate) fn segments(count: i64, bytes: u64) -> Segments {
    (0..count)
        .map(|id| SegmentPair { bytes, ..SegmentPair::new(SegmentId(id), SegmentId(1_000 + id)) })
        .collect()
}
