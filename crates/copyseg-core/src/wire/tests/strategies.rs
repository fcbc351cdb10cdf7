//! Any job and any task, drawn at random.

use super::*;

fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

prop_compose! {
    pub(super) fn any_job()(
        ids in any::<(i64, u64, i64, i64)>(),
        texts in any::<(String, String, String, String, String)>(),
        state in proptest::sample::select(JobState::ALL.to_vec()),
        options in any::<std::collections::BTreeMap<String, String>>(),
        counts in any::<(u64, u64, Option<u64>, u64)>(),
        times in (any_time(), any_time(), proptest::option::of(any_time())),
        ends in (proptest::option::of(any_time()), proptest::option::of(any_time())),
    ) -> Job {
        Job {
            id: JobId(ids.0),
            incarnation: ids.1,
            database: DatabaseId(ids.2),
            collection: CollectionId(ids.3),
            collection_name: texts.0,
            snapshot: texts.1,
            source: texts.2,
            target: texts.3,
            state,
            reason: texts.4,
            options,
            segments: counts.0,
            bytes: counts.1,
            rows: counts.2,
            created: times.0,
            started: times.2,
            updated: times.1,
            completed: ends.0,
            deadline: ends.1,
            revision: Revision(counts.3),
        }
    }
}

prop_compose! {
    fn any_pair()(
        ids in any::<(i64, i64, Option<i64>)>(), files in any::<u32>(), bytes in any::<u64>(), fingerprint in any::<u64>(),
    ) -> SegmentPair {
        SegmentPair {
            source: SegmentId(ids.0), target: SegmentId(ids.1), partition: ids.2.map(PartitionId),
            files, bytes, fingerprint,
        }
    }
}

prop_compose! {
    pub(super) fn any_task()(
        ids in any::<(i64, i64, u64, i64, Option<i64>)>(),
        numbers in any::<(u32, u32, u64)>(),
        state in proptest::sample::select(TaskState::ALL.to_vec()),
        reason in any::<String>(),
        segments in proptest::collection::vec(any_pair(), 0..40),
        times in (any_time(), any_time(), proptest::option::of(any_time()), proptest::option::of(any_time())),
    ) -> Task {
        Task {
            id: TaskId(ids.0),
            job: JobId(ids.1),
            incarnation: ids.2,
            collection: CollectionId(ids.3),
            node: ids.4.map(NodeId),
            attempt: numbers.0,
            slots: numbers.1,
            state,
            reason,
            segments: segments.into_iter().collect(),
            created: times.0,
            started: times.2,
            updated: times.1,
            completed: times.3,
            revision: Revision(numbers.2),
        }
    }
}
