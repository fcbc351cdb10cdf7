//! What the wire format promises, on any record and on the golden files of every released schema.

mod golden;
mod samples;
mod strategies;

use proptest::prelude::*;
use rstest::rstest;

use samples::{bare_job, bare_task, sample_format, sample_job, sample_task, samples};
use strategies::{any_job, any_task};

use super::*;
use crate::catalog::Revision;
use crate::id::{CollectionId, DatabaseId, JobId, NodeId, PartitionId, SegmentId, TaskId};
use crate::job::JobState;
use crate::task::{SegmentPair, TaskState};
use crate::time::Timestamp;

/// What this build can read.
const SCHEMAS: [(RecordKind, u8); 4] =
    [(RecordKind::Store, 1), (RecordKind::Job, 1), (RecordKind::Task, 1), (RecordKind::Task, 2)];

const COUNTER: RecordKey = RecordKey { kind: RecordKind::Store, id: 1 };

fn record(key: RecordKey, bytes: &[u8]) -> Record {
    Record { key, bytes: bytes.to_vec().into() }
}

fn job_record(job: &Job) -> Record {
    record(RecordKey { kind: RecordKind::Job, id: job.id.0 }, &encode_job(job).unwrap())
}

fn task_record(task: &Task) -> Record {
    record(RecordKey { kind: RecordKind::Task, id: task.id.0 }, &encode_task(task).unwrap())
}

/// A record with the right checksum around any header and payload.
fn sealed(key: RecordKey, header: [u8; HEADER_BYTES], payload: &[u8]) -> Record {
    let mut bytes = [&header, payload].concat();
    bytes.extend(checksum(key, &bytes).to_le_bytes());
    Record { key, bytes: bytes.into() }
}

/// The payload of a record of this build as it is or changed, under the record's own header and key.
fn resealed(whole: &Record, change: impl FnOnce(&mut Vec<u8>)) -> Record {
    let mut payload = payload(whole).to_vec();
    change(&mut payload);
    sealed(whole.key, header(whole), &payload)
}

fn header(whole: &Record) -> [u8; HEADER_BYTES] {
    *whole.bytes.first_chunk().unwrap()
}

fn payload(whole: &Record) -> &[u8] {
    &whole.bytes[HEADER_BYTES..whole.bytes.len() - CHECKSUM_BYTES]
}

fn flipped(whole: &Record, bit: usize) -> Record {
    let mut bytes = whole.bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    record(whole.key, &bytes)
}

#[track_caller]
fn refused(record: &Record) -> ErrorKind {
    decode_record(record).expect_err("the record must be refused").kind()
}

proptest! {
    #[test]
    fn any_job_comes_back_as_it_was(job in any_job()) {
        prop_assert_eq!(decode_record(&job_record(&job)).unwrap(), DecodedRecord::Job(job));
    }

    #[test]
    fn any_task_comes_back_as_it_was(task in any_task()) {
        prop_assert_eq!(decode_record(&task_record(&task)).unwrap(), DecodedRecord::Task(task));
    }

    #[test]
    fn any_flipped_bit_of_any_task_is_damage(task in any_task(), at in any::<prop::sample::Index>()) {
        let record = task_record(&task);
        let bit = at.index(record.bytes.len() * 8);
        prop_assert_eq!(refused(&flipped(&record, bit)), ErrorKind::Corrupt);
    }

    /// Whoever can compute the checksum still cannot make decoding panic.
    #[test]
    fn any_payload_under_a_right_checksum_is_decoded_or_refused(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        of in proptest::sample::select(SCHEMAS.to_vec()), id in -1..3_i64,
    ) {
        let (kind, schema) = of;
        if let Err(error) = decode_record(&sealed(RecordKey { kind, id }, [MAGIC, schema, 0], &payload)) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn any_bytes_are_damage(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in any::<i64>()) {
        for kind in RecordKind::ALL {
            prop_assert_eq!(refused(&record(RecordKey { kind, id }, &bytes)), ErrorKind::Corrupt);
        }
    }

    /// As above, but close to a real record, so that most of it decodes before the damage is met.
    #[test]
    fn a_damaged_payload_under_a_right_checksum_is_decoded_or_refused(
        task in any_task(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let changed = resealed(&task_record(&task), |payload| *at.get_mut(payload) = byte);
        if let Err(error) = decode_record(&changed) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn every_flipped_bit_is_damage() {
    for record in samples().into_iter().chain(golden::tasks_of_schema_1()) {
        for bit in 0..record.bytes.len() * 8 {
            let refused = refused(&flipped(&record, bit));
            assert_eq!(refused, ErrorKind::Corrupt, "{}, bit {bit}", record.key);
        }
    }
}

#[test]
fn every_truncation_is_damage() {
    for whole in samples().into_iter().chain(golden::tasks_of_schema_1()) {
        for length in 0..whole.bytes.len() {
            let cut = record(whole.key, &whole.bytes[..length]);
            assert_eq!(refused(&cut), ErrorKind::Corrupt, "{}, {length} bytes", whole.key);
        }
    }
}

#[test]
fn every_trailing_byte_is_damage() {
    for whole in samples().into_iter().chain(golden::tasks_of_schema_1()) {
        for byte in 0..=u8::MAX {
            let longer = record(whole.key, &[whole.bytes.as_ref(), &[byte]].concat());
            assert_eq!(refused(&longer), ErrorKind::Corrupt, "{}", whole.key);
        }
        let error = decode_record(&resealed(&whole, |payload| payload.push(0))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "even under a right checksum");
        assert!(error.to_string().contains("bytes follow its payload"), "{error}");
    }
}

#[test]
fn bytes_under_another_key_are_damage() {
    for whole in samples() {
        for kind in RecordKind::ALL {
            for id in [0, 1, 2, whole.key.id] {
                let key = RecordKey { kind, id };
                if key != whole.key {
                    assert_eq!(
                        refused(&record(key, &whole.bytes)),
                        ErrorKind::Corrupt,
                        "{} at {key}",
                        whole.key
                    );
                }
            }
        }
    }
}

#[test]
fn a_record_that_names_another_id_than_its_key_is_damage() {
    for whole in [job_record(&sample_job(JobState::Pending)), task_record(&sample_task(TaskState::Pending))] {
        let elsewhere = RecordKey { id: 9, ..whole.key };
        let error = decode_record(&sealed(elsewhere, header(&whole), payload(&whole))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&format!("it says that it is {}", whole.key.id)), "{error}");
    }
}

#[rstest]
#[case::the_next_schema(|schema| schema + 1, 0, ErrorKind::Unsupported)]
#[case::the_last_schema(|_| 255, 0, ErrorKind::Unsupported)]
#[case::any_flag(|schema| schema, 0x01, ErrorKind::Unsupported)]
#[case::a_flag_and_a_schema(|schema| schema + 1, 0x80, ErrorKind::Unsupported)]
#[case::no_schema(|_| 0, 0, ErrorKind::Corrupt)]
fn an_intact_record_from_the_future_is_unsupported_rather_than_damaged(
    #[case] schema: fn(u8) -> u8,
    #[case] flags: u8,
    #[case] expected: ErrorKind,
) {
    for whole in samples() {
        let header = [MAGIC, schema(header(&whole)[1]), flags];
        assert_eq!(refused(&sealed(whole.key, header, payload(&whole))), expected, "{}", whole.key);
    }
}

#[test]
fn another_magic_byte_is_damage_even_under_a_right_checksum() {
    for whole in samples() {
        let [magic, schema, flags] = header(&whole);
        let other = sealed(whole.key, [magic ^ 1, schema, flags], payload(&whole));
        assert_eq!(refused(&other), ErrorKind::Corrupt);
    }
}

#[test]
fn a_text_that_is_not_utf_8_is_damage() {
    let mut job = sample_job(JobState::Pending);
    job.reason = "ÿ-marks-the-spot".into();
    let whole = job_record(&job).bytes;
    let mut payload = whole[HEADER_BYTES..whole.len() - CHECKSUM_BYTES].to_vec();
    let at = payload.windows(2).position(|pair| pair == "ÿ".as_bytes()).unwrap();
    payload[at] = 0xFF;
    let key = RecordKey { kind: RecordKind::Job, id: job.id.0 };
    assert_eq!(refused(&sealed(key, [MAGIC, 1, 0], &payload)), ErrorKind::Corrupt);
}

/// Every code but the ones in use, in the place where the state stands.
#[rstest]
#[case::job(RecordKind::Job, 7)]
#[case::task(RecordKind::Task, 6)]
fn an_unknown_state_is_damage(#[case] kind: RecordKind, #[case] first_unknown: u8) {
    let record_of = |second: bool| match kind {
        RecordKind::Job => job_record(&Job {
            reason: String::new(),
            ..sample_job(if second { JobState::Executing } else { JobState::Pending })
        }),
        _ => task_record(&Task {
            reason: String::new(),
            ..sample_task(if second { TaskState::InProgress } else { TaskState::Pending })
        }),
    };
    let (pending, second) = (record_of(false), record_of(true));
    let at = payload(&pending).iter().zip(payload(&second)).position(|(a, b)| a != b).unwrap();
    for code in [0].into_iter().chain(first_unknown..=u8::MAX) {
        let error = decode_record(&resealed(&pending, |payload| payload[at] = code)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("unknown number"), "{error}");
    }
}

/// For a hostile length no more memory is reserved than [`DECODED_BYTES_MAX`]: that of a text, or of packed pairs, is refused
/// beyond it, and the pairs of schema 1 are read until there are no more.
#[rstest]
#[case(1 << 16, "UnexpectedEnd")]
#[case(1 << 21, "LimitExceeded")]
#[case(1 << 32, "LimitExceeded")]
#[case(u64::MAX, "LimitExceeded")]
fn a_length_beyond_memory_is_damage(#[case] length: u64, #[case] of_bytes: &str) {
    let encoded = bincode::encode_to_vec(length, BINCODE).unwrap();
    let ids = bincode::encode_to_vec((501_i64, 1_u64, 2_i64, 3_i64), BINCODE).unwrap();
    let job = RecordKey { kind: RecordKind::Job, id: 501 };
    let error = decode_record(&sealed(job, [MAGIC, 1, 0], &[ids, encoded.clone()].concat())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains(of_bytes), "{}", error.chain());

    let before_segments = bincode::encode_to_vec(
        (901_i64, 501_i64, 1_u64, 3_i64, None::<i64>, 1_u32, 1_u32, 1_u8, ""),
        BINCODE,
    )
    .unwrap();
    let task = RecordKey { kind: RecordKind::Task, id: 901 };
    for (schema, says) in [(1, "UnexpectedEnd"), (2, of_bytes)] {
        let hostile = sealed(task, [MAGIC, schema, 0], &[&before_segments[..], &encoded].concat());
        let error = decode_record(&hostile).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.chain().contains(says), "schema {schema}: {}", error.chain());
    }
}

#[test]
fn segment_pairs_that_were_never_packed_are_damage() {
    let whole = task_record(&bare_task());
    let at = payload(&whole).windows(3).position(|bytes| bytes == [2, 0, 0]).unwrap();
    // No pairs, of which the bytes are 1 in all.
    let error = decode_record(&resealed(&whole, |payload| payload[at + 2] = 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("not packed"), "{error}");
}

fn task_of(pairs: i64, ids_from: i64) -> Task {
    Task {
        segments: (0..pairs)
            .map(|n| SegmentPair::new(SegmentId(ids_from + n), SegmentId(ids_from + n)))
            .collect(),
        ..bare_task()
    }
}

#[test]
fn the_largest_and_densest_records_come_back() {
    let pairs = (1..).map(|n| n * 256).take_while(|n| encode_task(&task_of(*n, 0)).is_ok()).last().unwrap();
    let task = task_of(pairs, 0);
    assert!(pairs > 6_000, "{pairs} pairs");
    assert_eq!(decode_record(&task_record(&task)).unwrap(), DecodedRecord::Task(task));

    // As many entries as fit: all one-byte names, then two-byte ones, all without a value.
    let one = (0..128_u8).map(|a| char::from(a).to_string());
    let two =
        (0..128_u8).flat_map(|a| (0..128_u8).map(move |b| [char::from(a), char::from(b)].iter().collect()));
    let options: Vec<(String, String)> = one.chain(two).map(|name| (name, String::new())).collect();
    let mut job = Job { state: JobState::Failed, ..bare_job() };
    job.options = options.iter().take(16_300).cloned().collect();
    assert!(encode_job(&job).unwrap().len() > RECORD_BYTES_MAX - 500);
    assert_eq!(decode_record(&job_record(&job)).unwrap(), DecodedRecord::Job(job));
}

#[test]
fn a_record_of_64_kib_is_taken_and_one_byte_more_is_too_large() {
    let mut job = Job { state: JobState::Failed, ..bare_job() };
    job.reason = "x".repeat(60_000);
    job.reason.extend(std::iter::repeat_n('x', RECORD_BYTES_MAX - encode_job(&job).unwrap().len()));
    assert_eq!(encode_job(&job).unwrap().len(), RECORD_BYTES_MAX);
    assert_eq!(decode_record(&job_record(&job)).unwrap(), DecodedRecord::Job(job.clone()));

    job.reason.push('x');
    let error = encode_job(&job).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains(&format!("job {}", job.id)), "{error}");

    let open = Job { state: JobState::Pending, reason: "x".repeat(62_000), ..job };
    assert_eq!(encode_job(&open).unwrap_err().kind(), ErrorKind::TooLarge, "it may still have to grow");

    let error = encode_task(&task_of(30_000, 1_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains(&format!("task {}", i64::MAX)), "{error}");
}

#[test]
fn a_task_of_small_numbers_is_small() {
    let length = encode_task(&task_of(100, 1)).unwrap().len();
    assert!(length < 700, "100 pairs of small ids take {length} bytes");
}

#[test]
fn a_store_that_needs_a_newer_reader_is_unsupported() {
    StoreFormat::current().check_readable().unwrap();
    let newer = StoreFormat { format: 7, ..sample_format() };
    newer.check_readable().expect("a newer format that old readers understand is fine");
    let raised = StoreFormat { min_reader: FORMAT, ..newer.clone() };
    assert_eq!(newer.clone().raised(), Some(raised.clone()), "the old readers do not understand this build");
    assert_eq!(raised.raised(), None);
    let error = StoreFormat { min_reader: FORMAT + 1, ..newer }.check_readable().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("newer version of copyseg"), "{error}");
}

#[test]
fn a_store_record_with_a_negative_id_is_damage() {
    let key = RecordKey { kind: RecordKind::Store, id: -1 };
    assert_eq!(refused(&sealed(key, [MAGIC, 1, 0], &[2])), ErrorKind::Corrupt);
}
