//! The golden files hold the bytes of version 1 for ever. A test that fails here says that stores already
//! written can no longer be read, or are no longer written as they were: never edit the files, add a schema.

use std::path::Path;

use super::*;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1").join(name).with_extension("bin");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn matches_golden(name: &str, key: RecordKey, encoded: &[u8], expected: DecodedRecord) {
    let stored = golden(name);
    assert_eq!(decode_record(&record(key, &stored)).unwrap(), expected, "{name} decodes to something else");
    assert_eq!(encoded, stored, "{name} is encoded differently");
}

#[test]
fn jobs_of_version_1_stay_readable_and_are_written_the_same() {
    let named = JobState::ALL.map(|state| (format!("job_{state}"), sample_job(state)));
    for (name, job) in named.into_iter().chain([("job_bare".into(), bare_job())]) {
        let key = RecordKey { kind: RecordKind::Job, id: job.id.0 };
        matches_golden(&name, key, &encode_job(&job).unwrap(), DecodedRecord::Job(job));
    }
}

#[test]
fn tasks_of_version_1_stay_readable_and_are_written_the_same() {
    let named = TaskState::ALL.map(|state| (format!("task_{state}"), sample_task(state)));
    for (name, task) in named.into_iter().chain([("task_bare".into(), bare_task())]) {
        let key = RecordKey { kind: RecordKind::Task, id: task.id.0 };
        matches_golden(&name, key, &encode_task(&task).unwrap(), DecodedRecord::Task(task));
    }
}

#[test]
fn store_records_of_version_1_stay_readable_and_are_written_the_same() {
    let format = sample_format();
    let encoded = encode_format(&format).unwrap();
    matches_golden("store_format", StoreFormat::KEY, &encoded, DecodedRecord::Format(format));
    let encoded = encode_counter(COUNTER.id, 1_000).unwrap();
    matches_golden("store_counter", COUNTER, &encoded, DecodedRecord::Counter { next_id: 1_000 });
}
