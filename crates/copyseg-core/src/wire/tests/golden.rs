//! The golden files hold the bytes of each schema for ever. A test that fails here says that stores already
//! written can no longer be read, or are no longer written as they were: never edit the files, add a schema.

use std::path::Path;

use super::*;

fn golden(schema: &str, name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(schema);
    let path = folder.join(name).with_extension("bin");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn is_read(schema: &str, name: &str, key: RecordKey, expected: &DecodedRecord) -> Vec<u8> {
    let stored = golden(schema, name);
    let decoded = decode_record(&record(key, &stored)).unwrap();
    assert_eq!(&decoded, expected, "{name} of {schema} decodes to something else");
    stored
}

#[track_caller]
fn is_read_and_written(schema: &str, name: &str, key: RecordKey, encoded: &[u8], expected: &DecodedRecord) {
    let stored = is_read(schema, name, key, expected);
    assert_eq!(encoded, stored, "{name} of {schema} is encoded differently");
}

#[test]
fn jobs_of_schema_1_stay_readable_and_are_written_the_same() {
    let named = JobState::ALL.map(|state| (format!("job_{state}"), sample_job(state)));
    for (name, job) in named.into_iter().chain([("job_bare".into(), bare_job())]) {
        let key = RecordKey { kind: RecordKind::Job, id: job.id.0 };
        is_read_and_written("v1", &name, key, &encode_job(&job).unwrap(), &DecodedRecord::Job(job));
    }
}

#[test]
fn tasks_of_schema_1_stay_readable_and_those_of_schema_2_are_written_the_same() {
    let named = TaskState::ALL.map(|state| (format!("task_{state}"), sample_task(state)));
    for (name, task) in named.into_iter().chain([("task_bare".into(), bare_task())]) {
        let key = RecordKey { kind: RecordKind::Task, id: task.id.0 };
        let (encoded, expected) = (encode_task(&task).unwrap(), DecodedRecord::Task(task));
        is_read("v1", &name, key, &expected);
        is_read_and_written("v2", &name, key, &encoded, &expected);
    }
}

/// What is no longer written, but has to be read as carefully.
pub(super) fn tasks_of_schema_1() -> impl Iterator<Item = Record> {
    let key = RecordKey { kind: RecordKind::Task, id: 901 };
    TaskState::ALL.into_iter().map(move |state| record(key, &golden("v1", &format!("task_{state}"))))
}

#[test]
fn store_records_of_schema_1_stay_readable_and_are_written_the_same() {
    let format = sample_format();
    let encoded = encode_format(&format).unwrap();
    is_read_and_written("v1", "store_format", StoreFormat::KEY, &encoded, &DecodedRecord::Format(format));
    let encoded = encode_counter(COUNTER.id, 1_000).unwrap();
    let counter = DecodedRecord::Counter { next_id: 1_000 };
    is_read_and_written("v1", "store_counter", COUNTER, &encoded, &counter);
}
