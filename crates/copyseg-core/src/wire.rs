//! Records to bytes and back: the envelope around every record, and the schemas inside it.
//!
//! A record is `magic, schema, flags, payload, checksum`. The checksum also covers the record's key, so bytes
//! that ended up under another key are found out. Without it, 96 % of single-bit flips decode to a wrong record
//! (measured on 2,328 flips of one task). The payload is bincode with variable-length integers.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Encode};

use crate::catalog::{Record, RecordKey, RecordKind};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Job, JobState};
use crate::task::{Task, TaskState};

/// How many bytes one encoded record may have, on every backend: 64 KiB.
///
/// Of these, a new job or task leaves 4 KiB free, so that it can always be claimed, released and ended, each with a
/// reason of 1,000 bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The newest format of a store that this build writes, and the newest it can read.
const FORMAT: u32 = 2;

/// Most records take no more, so that they are written without making room again.
const LIKELY_BYTES_MAX: usize = 512;

const MAGIC: u8 = 0xC5;
const HEADER_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;

/// What decoding one record may allocate for texts and options. The densest record of [`RECORD_BYTES_MAX`] needs 850 KiB: 16,000
/// options of two-byte names, 48 bytes each in memory.
const DECODED_BYTES_MAX: usize = 1 << 20;

type Bincode = Configuration<LittleEndian, Varint, Limit<DECODED_BYTES_MAX>>;
const BINCODE: Bincode = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();

/// What the bytes of a record mean.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodedRecord {
    /// A job.
    Job(Job),
    /// A task.
    Task(Task),
    /// The format of the store.
    Format(StoreFormat),
    /// An id counter of the store.
    Counter {
        /// The first id that has not been given out.
        next_id: i64,
    },
}

/// The format of a store, read before anything else in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFormat {
    /// The newest format in which records were written.
    pub format: u32,
    /// The oldest format whose readers understand them.
    pub min_reader: u32,
    /// The version of copyseg that created the store.
    pub created_by: String,
}

impl StoreFormat {
    /// The key under which the format is stored. Store records with a higher id are counters.
    pub(crate) const KEY: RecordKey = RecordKey { kind: RecordKind::Store, id: 0 };

    /// The format of a store created by this build.
    pub(crate) fn current() -> Self {
        Self { format: FORMAT, min_reader: FORMAT, created_by: env!("CARGO_PKG_VERSION").into() }
    }

    /// The format of this store once this build writes into it, if that is another one. Older builds refuse it then,
    /// instead of meeting records that they do not know.
    pub(crate) fn raised(self) -> Option<Self> {
        let format = self.format.max(FORMAT);
        (self.min_reader < FORMAT).then_some(Self { format, min_reader: FORMAT, ..self })
    }

    /// Refuses a store that this build would misread.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]: open it with a newer version of copyseg.
    pub(crate) fn check_readable(&self) -> Result<()> {
        if self.min_reader <= FORMAT {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the store has format {} and needs a reader of format {} or newer, this build reads up to {FORMAT}: \
                 open it with a newer version of copyseg",
                self.format, self.min_reader
            ),
        ))
    }
}

/// Reads a stored record.
///
/// Memory stays bounded, whatever the bytes are.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if the bytes are not what was written under this key;
/// [`ErrorKind::Unsupported`] if they are intact, but of a newer version of copyseg.
///
/// ```
/// # use copyseg_core::{ErrorKind, Record, RecordKey, RecordKind, decode_record};
/// let record = Record { key: RecordKey { kind: RecordKind::Job, id: 5 }, bytes: vec![0; 16].into() };
/// assert_eq!(decode_record(&record).unwrap_err().kind(), ErrorKind::Corrupt);
/// ```
pub fn decode_record(record: &Record) -> Result<DecodedRecord> {
    let key = record.key;
    let (schema, payload) = open(record)?;
    match (key.kind, schema) {
        (RecordKind::Job, 1) => {
            let job = Job::try_from(decode::<v1::JobV1>(key, payload)?).map_err(|what| damaged(key, what))?;
            check_id(key, job.id.0)?;
            Ok(DecodedRecord::Job(job))
        }
        (RecordKind::Task, 1) => task(key, decode::<v1::TaskV1>(key, payload)?.try_into()),
        (RecordKind::Task, 2) => task(key, decode::<v2::TaskV2<'_>>(key, payload)?.try_into()),
        (RecordKind::Store, 1) if key == StoreFormat::KEY => {
            Ok(DecodedRecord::Format(decode::<v1::StoreFormatV1>(key, payload)?.into()))
        }
        (RecordKind::Store, 1) if key.id > 0 => {
            Ok(DecodedRecord::Counter { next_id: decode::<v1::CounterV1>(key, payload)?.next_id })
        }
        (RecordKind::Store, 1) => Err(damaged(key, "a store record has no negative id")),
        (_, 0) => Err(damaged(key, "there is no schema 0")),
        (_, schema) => Err(from_the_future(key, &format!("schema {schema}"))),
    }
}

fn task(key: RecordKey, decoded: Result<Task, &'static str>) -> Result<DecodedRecord> {
    let task = decoded.map_err(|what| damaged(key, what))?;
    check_id(key, task.id.0)?;
    Ok(DecodedRecord::Task(task))
}

/// The bytes of `job`.
pub(crate) fn encode_job(job: &Job) -> Result<Arc<[u8]>> {
    let key = RecordKey { kind: RecordKind::Job, id: job.id.0 };
    encode(key, v1::SCHEMA, v1::JobV1::from(job), room_of_job(job), "shorten its texts or options")
}

/// The bytes of `task`.
pub(crate) fn encode_task(task: &Task) -> Result<Arc<[u8]>> {
    let key = RecordKey { kind: RecordKind::Task, id: task.id.0 };
    encode(
        key,
        v2::SCHEMA,
        v2::TaskV2::from(task),
        room_of_task(task),
        "give it fewer segments or a shorter reason",
    )
}

/// The bytes of `format`, under [`StoreFormat::KEY`].
pub(crate) fn encode_format(format: &StoreFormat) -> Result<Arc<[u8]>> {
    encode(StoreFormat::KEY, v1::SCHEMA, v1::StoreFormatV1::from(format), 0, "shorten the version")
}

/// The bytes of the counter with this store record id, which is above 0.
pub(crate) fn encode_counter(id: i64, next_id: i64) -> Result<Arc<[u8]>> {
    encode(RecordKey { kind: RecordKind::Store, id }, v1::SCHEMA, v1::CounterV1 { next_id }, 0, "")
}

/// What a job's record leaves free. Every step takes some of it: a reason, a time, longer numbers.
const fn room_of_job(job: &Job) -> usize {
    match job.state {
        JobState::Pending => 4096,
        JobState::Executing => 3072,
        JobState::Publishing => 2048,
        JobState::Completed | JobState::Failed | JobState::Cancelled => 0,
    }
}

/// What a task's record leaves free. A claim clears the reason, so that attempts do not add up.
const fn room_of_task(task: &Task) -> usize {
    match task.state {
        TaskState::Pending if task.attempt == 0 => 4096,
        TaskState::InProgress => 3072,
        TaskState::Pending => 2048,
        TaskState::Completed | TaskState::Failed | TaskState::Cancelled => 0,
    }
}

/// `room` bytes stay free for what the record may grow by later.
fn encode(key: RecordKey, schema: u8, payload: impl Encode, room: usize, advice: &str) -> Result<Arc<[u8]>> {
    let mut bytes = Vec::with_capacity(LIKELY_BYTES_MAX);
    bytes.extend([MAGIC, schema, 0]);
    bincode::encode_into_std_write(payload, &mut bytes, BINCODE).map_err(|error| {
        Error::with_source(ErrorKind::InvalidArgument, format!("{} cannot be encoded", name(key)), error)
    })?;
    bytes.extend(checksum(key, &bytes).to_le_bytes());
    let most = RECORD_BYTES_MAX - room;
    if bytes.len() > most {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "{} would take {} bytes, and its record has at most {most} in this state: {advice}",
                name(key),
                bytes.len()
            ),
        ));
    }
    Ok(bytes.into())
}

/// Takes the envelope off: the schema, and the payload whose checksum was right.
fn open(record: &Record) -> Result<(u8, &[u8])> {
    let (key, bytes) = (record.key, &record.bytes);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(damaged(key, "it is longer than any record"));
    }
    let (body, stored) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .filter(|(body, _)| body.len() >= HEADER_BYTES)
        .ok_or_else(|| damaged(key, "it is shorter than any record"))?;
    if *stored != checksum(key, body).to_le_bytes() {
        return Err(damaged(key, "its checksum does not match"));
    }
    match body {
        [MAGIC, schema, 0, payload @ ..] => Ok((*schema, payload)),
        [MAGIC, _, flags, ..] => Err(from_the_future(key, &format!("flags {flags:#04x}"))),
        _ => Err(damaged(key, "it does not begin as a record does")),
    }
}

fn decode<'a, T: BorrowDecode<'a, ()>>(key: RecordKey, payload: &'a [u8]) -> Result<T> {
    let (value, consumed) = bincode::borrow_decode_from_slice(payload, BINCODE).map_err(|error| {
        Error::with_source(
            ErrorKind::Corrupt,
            format!("{} is damaged: its payload cannot be decoded", name(key)),
            error,
        )
    })?;
    if consumed != payload.len() {
        return Err(damaged(key, "bytes follow its payload"));
    }
    Ok(value)
}

fn checksum(key: RecordKey, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[key.kind as u8]);
    hasher.update(&key.id.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn check_id(key: RecordKey, id: i64) -> Result<()> {
    if id == key.id { Ok(()) } else { Err(damaged(key, &format!("it says that it is {id}"))) }
}

fn damaged(key: RecordKey, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{} is damaged: {what}", name(key)))
}

fn from_the_future(key: RecordKey, what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{} has {what}, which this build does not know: use a newer version of copyseg", name(key)),
    )
}

fn name(key: RecordKey) -> String {
    format!("{} {}", key.kind.as_str(), key.id)
}
