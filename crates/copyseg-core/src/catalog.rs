//! The storage contract: what a backend has to do, and nothing about what the records mean.

pub(crate) mod memory;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The number of a committed transaction. Revisions of one store only grow, across restarts and takeovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record is, to be told apart in storage. The numbers are part of every stored format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum RecordKind {
    /// The format of the store and the id counter.
    Store = 0,
    /// A job.
    Job = 1,
    /// A task.
    Task = 2,
}

impl RecordKind {
    /// Every kind, in the order in which a catalog loads them.
    pub const ALL: [Self; 3] = [Self::Store, Self::Job, Self::Task];

    /// The kind with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Store),
            1 => Some(Self::Job),
            2 => Some(Self::Task),
            _ => None,
        }
    }

    /// The name shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Job => "job",
            Self::Task => "task",
        }
    }
}

/// The key of a record: its kind and its id. Written `job:5` or `task:7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RecordKey {
    /// What the record is.
    pub kind: RecordKind,
    /// Its id within the kind; any `i64`.
    pub id: i64,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.id)
    }
}

/// A stored record: opaque bytes under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: RecordKey,
    /// Its bytes, as they were put.
    pub bytes: Vec<u8>,
}

/// How many records of each kind a store holds, indexed by the number of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCounts(pub [u64; RecordKind::ALL.len()]);

/// The head of a store: who owns it, and what was committed last. It decides every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Raised by every [`Catalog::acquire`].
    pub epoch: u64,
    /// A random number drawn by every [`Catalog::acquire`]. Whoever finds its own number here is the owner.
    pub writer: u64,
    /// A random number drawn for every batch, so that whoever waits for an answer can tell whose batch moved
    /// the head.
    pub batch: u64,
    /// The revision of the last transaction committed.
    pub revision: Revision,
    /// How many records the store holds, so that a backend that silently lost rows is found out.
    pub counts: RecordCounts,
}

impl Head {
    const LENGTH: usize = 8 * (4 + RecordKind::ALL.len());

    /// The head that `acquire` writes over this one: the next epoch under a fresh random writer and batch.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the operating system supplies no random numbers.
    pub fn acquired(&self) -> Result<Self> {
        Ok(Self { epoch: self.epoch + 1, writer: random()?, batch: random()?, ..*self })
    }

    /// The fixed form in which backends store a head: big-endian words and a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = [self.epoch, self.writer, self.batch, self.revision.0].into_iter().chain(self.counts.0);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the bytes are not a head: the store is damaged at its root.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Corrupt, "the head record of the store is damaged");
        let (body, checksum) = bytes.split_at_checked(Self::LENGTH).ok_or_else(damaged)?;
        if checksum != crc32fast::hash(body).to_be_bytes() {
            return Err(damaged());
        }
        let mut words =
            body.chunks_exact(8).map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let mut next = || words.next().unwrap_or_default();
        Ok(Self {
            epoch: next(),
            writer: next(),
            batch: next(),
            revision: Revision(next()),
            counts: RecordCounts([next(), next(), next()]),
        })
    }
}

/// A random number for writers, batches and incarnations: unlike any other, so that equality proves identity.
pub(crate) fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| {
        Error::with_source(
            ErrorKind::Unavailable,
            "the operating system supplied no random number",
            error.to_string(),
        )
    })
}

/// One change to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes the record, over whatever is there.
    Put(RecordKey, Arc<[u8]>),
    /// Removes the record, if it is there.
    Delete(RecordKey),
}

impl Operation {
    /// The record it changes.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Put(key, _) | Self::Delete(key) => *key,
        }
    }

    /// What it counts against [`Limits::bytes_max`]: its value, and 32 bytes for its key.
    pub fn size(&self) -> usize {
        let value = match self {
            Self::Put(_, bytes) => bytes.len(),
            Self::Delete(_) => 0,
        };
        32 + value
    }
}

/// The operations of one atomic commit; no key occurs twice. Cheap to clone, so that it can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch(Arc<[Operation]>);

impl Batch {
    /// What it changes.
    pub fn operations(&self) -> &[Operation] {
        &self.0
    }

    /// What it counts against [`Limits::bytes_max`].
    pub fn size(&self) -> usize {
        self.0.iter().map(Operation::size).sum()
    }
}

impl FromIterator<Operation> for Batch {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        Self(operations.into_iter().collect())
    }
}

/// The largest batch that a backend takes atomically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Operations in one batch, not counting the write of the head; at least 1.
    pub operations_max: usize,
    /// The sum of [`Operation::size`] in one batch; at least 128 KiB, so that any single record fits.
    pub bytes_max: usize,
}

impl Limits {
    /// Refuses a batch beyond these limits, before a byte of it is written.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`]: split the change, or use an operation that is made for any size.
    pub fn check(&self, batch: &Batch) -> Result<()> {
        let (operations, bytes) = (batch.operations().len(), batch.size());
        if operations > self.operations_max || bytes > self.bytes_max {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "a batch of {operations} operations and {bytes} bytes is more than this store takes at once \
                     ({} operations, {} bytes)",
                    self.operations_max, self.bytes_max
                ),
            ));
        }
        Ok(())
    }
}

/// The records of a store at one point in time.
pub struct Loaded {
    /// The head that the records belong to.
    pub head: Head,
    /// The records, at most [`PAGE_RECORDS_MAX`](Self::PAGE_RECORDS_MAX) at a time: those of kind
    /// [`Store`](RecordKind::Store) first, then in any order. After an error nothing more comes.
    pub pages: BoxStream<'static, Result<Vec<Record>>>,
}

impl Loaded {
    /// The most records in one page, so that loading needs little memory besides what the caller keeps.
    pub const PAGE_RECORDS_MAX: usize = 1024;
}

/// A store of opaque records with one writer.
///
/// Every rule below is a case of the same name in `copyseg-conformance`, which a backend passes with one line.
///
/// # Errors of every call
/// A backend says what it knows. [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) from `commit` or `acquire` means
/// that the change may or may not have been made, and may still be made. Every other kind means that it was
/// certainly not made: [`Unavailable`](ErrorKind::Unavailable) (may work later),
/// [`Fenced`](ErrorKind::Fenced) (the head is not the expected one), [`TooLarge`](ErrorKind::TooLarge),
/// [`Corrupt`](ErrorKind::Corrupt), [`Closed`](ErrorKind::Closed).
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync {
    /// Becomes the writer: replaces the head by [`Head::acquired`], durably, and returns it.
    async fn acquire(&self) -> Result<Head>;

    /// Reads every record and the head they belong to, at one point in time, in pages of bounded size.
    async fn load(&self) -> Result<Loaded>;

    /// Applies `batch` and replaces the head by `next`, together and durably, if the head is `expected`.
    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()>;

    /// Reads the head; a store that nobody has acquired has [`Head::default`].
    async fn head(&self) -> Result<Head>;

    /// The largest batch that [`commit`](Self::commit) takes.
    fn limits(&self) -> Limits;

    /// Waits for calls under way and lets go of the storage, so that it can be opened again at once.
    async fn close(&self) -> Result<()>;
}
