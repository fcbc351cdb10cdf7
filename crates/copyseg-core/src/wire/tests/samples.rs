//! Records with a value in every field, and bare ones.

use super::*;

/// A job in which every field differs from its neighbours and from its default. Part of the golden files.
pub(super) fn sample_job(state: JobState) -> Job {
    Job {
        id: JobId(501),
        incarnation: 0xFEDC_BA98_7654_3210,
        database: DatabaseId(2),
        collection: CollectionId(460_000_000_000_000_003),
        collection_name: "digits".into(),
        snapshot: "nächtlich".into(),
        source: "s3://backup/nightly".into(),
        target: "file:///srv/restored".into(),
        state,
        reason: format!("as {state}"),
        options: [("retention_s", "86400"), ("verify", "size")].map(|(k, v)| (k.into(), v.into())).into(),
        segments: 250,
        bytes: 70_000,
        rows: Some(1_797),
        created: Timestamp::from_millis(1_760_000_000_001),
        started: Some(Timestamp::from_millis(1_760_000_000_002)),
        updated: Timestamp::from_millis(1_760_000_000_003),
        completed: Some(Timestamp::from_millis(1_760_000_000_004)),
        deadline: Some(Timestamp::from_millis(1_760_000_000_005)),
        revision: Revision(77),
    }
}

/// A job of which nothing optional is known, under the lowest id. Part of the golden files.
pub(super) fn bare_job() -> Job {
    Job {
        id: JobId(i64::MIN),
        incarnation: 0,
        collection_name: String::new(),
        snapshot: String::new(),
        source: String::new(),
        target: String::new(),
        reason: String::new(),
        options: Default::default(),
        rows: None,
        started: None,
        completed: None,
        deadline: None,
        ..sample_job(JobState::Pending)
    }
}

/// A task in which every field differs from its neighbours and from its default. Part of the golden files.
pub(super) fn sample_task(state: TaskState) -> Task {
    let known = SegmentPair {
        source: SegmentId(11),
        target: SegmentId(460_000_000_000_000_012),
        partition: Some(PartitionId(-13)),
        files: 14,
        bytes: 1 << 33,
        fingerprint: 0x0123_4567_89AB_CDEF,
    };
    Task {
        id: TaskId(901),
        job: JobId(501),
        incarnation: 0xFEDC_BA98_7654_3210,
        collection: CollectionId(3),
        node: Some(NodeId(-1)),
        attempt: 4,
        slots: 300,
        state,
        reason: format!("as {state}"),
        segments: [known, SegmentPair::new(SegmentId(21), SegmentId(22))].into_iter().collect(),
        created: Timestamp::from_millis(1_760_000_000_001),
        started: Some(Timestamp::from_millis(1_760_000_000_002)),
        updated: Timestamp::from_millis(1_760_000_000_003),
        completed: Some(Timestamp::from_millis(1_760_000_000_004)),
        revision: Revision(78),
    }
}

/// A task of which nothing optional is known, under the highest id. Part of the golden files.
pub(super) fn bare_task() -> Task {
    Task {
        id: TaskId(i64::MAX),
        node: None,
        reason: String::new(),
        segments: [].into_iter().collect(),
        started: None,
        completed: None,
        ..sample_task(TaskState::Pending)
    }
}

pub(super) fn sample_format() -> StoreFormat {
    StoreFormat { format: 1, min_reader: 1, created_by: "0.1.0".into() }
}

pub(super) fn samples() -> Vec<Record> {
    let jobs = JobState::ALL.map(sample_job);
    let tasks = TaskState::ALL.map(sample_task);
    let store = [
        record(StoreFormat::KEY, &encode_format(&sample_format()).unwrap()),
        record(COUNTER, &encode_counter(COUNTER.id, 1_000).unwrap()),
    ];
    let mut records: Vec<_> = jobs.iter().chain([&bare_job()]).map(job_record).collect();
    records.extend(tasks.iter().chain([&bare_task()]).map(task_record));
    records.extend(store);
    records
}
