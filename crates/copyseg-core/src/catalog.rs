//! The storage contract: what a backend has to do, and nothing about what the records mean.

pub(crate) mod follow;
pub(crate) mod memory;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize, Serializer};

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
    /// Its id within the kind; any `i64`. A string in JSON, like every id.
    #[serde(serialize_with = "as_text")]
    pub id: i64,
}

fn as_text<S: Serializer>(id: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
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
    /// Its bytes, as they were put. Those of a page may share memory: a record that is kept keeps that of its whole page.
    pub bytes: Bytes,
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
    /// Operations in one batch, not counting the write of the head; at least [`OPERATIONS_MIN`](Self::OPERATIONS_MIN).
    pub operations_max: usize,
    /// The sum of [`Operation::size`] in one batch; at least [`BYTES_MIN`](Self::BYTES_MIN).
    pub bytes_max: usize,
    /// How many commits a manager makes at once, at most: more than 1 where they wait for a network rather than for each other.
    /// Each is made with the head that the one before it leads to, before it is known whether that one is applied, and is
    /// [`Fenced`](ErrorKind::Fenced) while it is not. One task polls them all, and drops those behind one that is refused.
    pub commits_max: usize,
}

impl Limits {
    /// The least [`operations_max`](Self::operations_max) of any backend, so that any single step fits.
    pub const OPERATIONS_MIN: usize = 32;

    /// The least [`bytes_max`](Self::bytes_max) of any backend, so that any single record fits.
    pub const BYTES_MIN: usize = 128 << 10;

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
/// # Errors of every call
/// A backend says what it knows. [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) from `commit` or `acquire` means
/// that the change may or may not have been made, and may still be made. Every other kind means that it was
/// certainly not made: [`Unavailable`](ErrorKind::Unavailable) (may work later),
/// [`Fenced`](ErrorKind::Fenced) (the head is not the expected one), [`TooLarge`](ErrorKind::TooLarge),
/// [`Corrupt`](ErrorKind::Corrupt), [`Closed`](ErrorKind::Closed).
///
/// # Contract
/// Each rule is a case of the same name in `copyseg-conformance`, which a backend runs with one line. After every
/// change a case looks at the store in three ways: as it is open, as a killed process would leave it, and closed
/// and opened again.
///
/// Acquiring:
/// - `a_new_store_is_empty_under_the_default_head`: before the first acquire there is no record.
/// - `an_acquire_writes_the_next_epoch_and_a_fresh_writer`: durably, and keeps revision and counts.
/// - `a_second_acquire_fences_the_first`: the first owner's commits are refused from then on.
/// - `concurrent_acquires_leave_one_owner`: only the one whose head is stored can commit.
/// - `a_lost_acquire_can_be_overtaken`: one whose reply was lost does not hinder the next.
/// - `a_lost_acquire_fences_the_owner`: one whose reply was lost took effect all the same.
/// - `an_acquire_lets_other_tasks_run`: it never blocks the thread that it is called on.
///
/// Committing:
/// - `a_commit_writes_its_batch_and_the_head`: together and durably, before it returns.
/// - `an_empty_batch_moves_the_head`: a batch without operations is a commit like any other.
/// - `deleting_an_absent_record_is_fine`: and the rest of the batch is written.
/// - `a_commit_on_another_head_writes_nothing`: a difference in any field makes it `Fenced`.
/// - `concurrent_commits_on_one_head_have_one_winner`: the others are `Fenced`.
/// - `commits_under_way_together_are_applied_in_order`: one that came before the one that it builds upon is `Fenced`, and can be
///   sent again.
/// - `the_next_head_is_stored_as_given`: what is in it, counts included, is the caller's business.
/// - `any_sequence_of_batches_leaves_what_it_wrote`: no record is lost, and none comes back.
/// - `a_commit_lets_other_tasks_run`: it never blocks the thread that it is called on.
/// - `a_spawned_committer_commits`: wherever it runs, and can wait for other tasks and for time to pass.
/// - `a_spawned_committer_may_panic`: it hinders no other call.
///
/// Unknown outcomes, which are settled by writing on the same head:
/// - `a_repeated_commit_is_refused`: what was applied cannot be applied again.
/// - `a_resend_after_a_lost_request_is_applied`: what was not applied can be sent again.
/// - `a_resend_after_a_lost_reply_is_refused`: and the batch number in the head says that it was applied.
/// - `a_late_original_is_refused_after_an_empty_batch`: an empty batch ends the wait for it.
/// - `a_dropped_commit_is_all_or_nothing`: a caller may drop the future of any call.
///
/// Limits:
/// - `limits_fit_any_single_record`: and are at least as large as [`Limits`] says.
/// - `a_batch_at_the_operations_limit_is_taken`: whole.
/// - `a_batch_beyond_the_operations_limit_is_too_large`: nothing of it is written.
/// - `a_batch_at_the_bytes_limit_is_taken`: whole.
/// - `a_batch_beyond_the_bytes_limit_is_too_large`: nothing of it is written.
///
/// Records:
/// - `any_id_of_any_kind_round_trips`: from the least `i64` to the greatest.
/// - `kinds_do_not_share_ids`: the kind is part of the key.
/// - `values_up_to_64_kib_round_trip`: from no byte at all.
/// - `bytes_are_never_interpreted`: damaged records come back as they are, so that core can set them aside.
///
/// Loading:
/// - `store_records_come_first`: they say how to read the others, which come in any order.
/// - `a_load_returns_what_its_head_counts`: the head is the one that the records were written with.
/// - `a_load_while_writing_is_one_point_in_time`: what is written after it began is not in it.
/// - `loads_beside_a_writer_see_whole_commits`: and neither waits for the other.
/// - `a_large_store_loads_in_bounded_pages`: of at most [`Loaded::PAGE_RECORDS_MAX`] records.
/// - `an_abandoned_load_hinders_nothing`: a load may be dropped before its end.
/// - `a_load_across_a_close_is_complete_or_fails`: it ends in `Closed` rather than short, and holds up no close.
/// - `a_load_lets_other_tasks_run`: it never blocks the thread that it is called on.
///
/// Closing:
/// - `every_call_after_a_close_is_refused`: with `Closed`, and changes nothing.
/// - `closing_twice_is_fine`: also at the same time.
/// - `a_closed_store_opens_again_at_once`: while the closed handle is still there.
/// - `a_close_waits_for_commits_under_way`: each is applied, or refused with `Closed`, when it returns.
/// - `a_spawned_committer_goes_on_after_a_close`: to its own end.
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

    /// Starts `committer`, the task of a manager that calls [`commit`](Self::commit), as a task of tokio that can wait for
    /// time to pass. It is called on the runtime of the manager: `drop(tokio::spawn(committer))` is all that most catalogs
    /// need. The callers of one commit are then answered only after the next `commit` was polled for the first time, so that
    /// one that blocks its thread keeps them waiting until it ends.
    ///
    /// A catalog that commits on a thread of its own spawns it on a runtime of that thread, so that no other thread has to be
    /// woken between one commit and the next; callers are answered before the next `commit` is made (or, where
    /// [`Limits::commits_max`] allows several, before the next one behind it). The committer holds the
    /// catalog, and may be the last who does: it is then dropped on that thread, which must neither be waited for nor be ended
    /// by that drop. A catalog around this one passes the committer on; its own `commit` then runs on that thread, and should
    /// not block it for long.
    fn spawn_committer(&self, committer: BoxFuture<'static, ()>);
}
