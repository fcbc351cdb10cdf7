//! The writer that cases use: commits to a catalog, and knows what has to be stored.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, Loaded, Operation, RecordCounts, RecordKey, RecordKind, Result, Revision,
};
use futures::future::{self, Either, Ready};
use futures::{FutureExt, TryStreamExt};

use crate::fixture::Fixture;

/// Everything in a store: its head and its records.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub(crate) head: Head,
    pub(crate) records: BTreeMap<RecordKey, Arc<[u8]>>,
}

/// A commit that is ready to be sent, more than once if need be.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) expected: Head,
    pub(crate) next: Head,
    pub(crate) batch: Batch,
}

impl Prepared {
    pub(crate) async fn send(&self, catalog: &dyn Catalog) -> Result<()> {
        catalog.commit(&self.expected, &self.next, &self.batch).await
    }
}

/// The owner of a store, with a model of what it wrote.
pub(crate) struct Writer<'a> {
    fixture: &'a dyn Fixture,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) stored: Contents,
}

impl<'a> Writer<'a> {
    pub(crate) async fn acquire(fixture: &'a dyn Fixture) -> Self {
        let catalog = fixture.open().await;
        let head = catalog.acquire().await.expect("the store can be acquired");
        Self { fixture, catalog, stored: Contents { head, records: BTreeMap::new() } }
    }

    /// The commit of `operations` on what is stored, with a batch number of its own.
    pub(crate) fn prepare(&self, operations: impl IntoIterator<Item = Operation>) -> Prepared {
        let batch = Batch::from_iter(operations);
        let expected = self.stored.head;
        let next = Head {
            batch: expected.batch.wrapping_add(1),
            revision: Revision(expected.revision.0 + 1),
            counts: self.stored.counts_after(&batch),
            ..expected
        };
        Prepared { expected, next, batch }
    }

    /// Notes that `commit` has been applied.
    pub(crate) fn note(&mut self, commit: &Prepared) {
        self.stored.apply(&commit.next, &commit.batch);
    }

    pub(crate) async fn commit(&mut self, operations: impl IntoIterator<Item = Operation>) {
        let commit = self.prepare(operations);
        commit.send(&*self.catalog).await.expect("a commit on the head is taken");
        self.note(&commit);
    }

    /// Puts any number of small records, in as few commits as the limits allow.
    pub(crate) async fn fill(&mut self, records: impl IntoIterator<Item = (RecordKey, Vec<u8>)>) {
        let limits = self.catalog.limits();
        let puts: Vec<_> = records.into_iter().map(|(key, bytes)| put(key, bytes)).collect();
        let largest = puts.iter().map(Operation::size).max().unwrap_or(1);
        for chunk in puts.chunks(limits.operations_max.min(limits.bytes_max / largest)) {
            self.commit(chunk.iter().cloned()).await;
        }
    }

    /// Asserts that the commit fails with `kind`, and changes nothing.
    pub(crate) async fn assert_refused(&self, commit: &Prepared, kind: ErrorKind) {
        let refused = commit.send(&*self.catalog).await;
        assert_eq!(refused.map_err(|error| error.kind()), Err(kind));
        self.assert_stored().await;
    }

    /// Asserts that the store holds what was written, and nothing else.
    pub(crate) async fn assert_stored(&self) {
        let head = self.catalog.head().await.expect("the head can be read");
        assert_eq!(head, self.stored.head, "the head that `head` reads");
        contents(&*self.catalog).await.assert_is(&self.stored, "in the open store");
    }

    /// Asserts that the store holds what was written, also after a kill, and after closing and opening again.
    pub(crate) async fn assert_durable(self) {
        self.assert_stored().await;
        let survivor = self.fixture.open_after_kill().await;
        contents(&*survivor).await.assert_is(&self.stored, "after a kill");
        survivor.close().await.expect("a store can be closed");
        self.catalog.close().await.expect("a store can be closed");
        let reopened = self.fixture.open().await;
        contents(&*reopened).await.assert_is(&self.stored, "after opening again");
        reopened.close().await.expect("a store can be closed");
    }
}

impl Contents {
    pub(crate) fn apply(&mut self, next: &Head, batch: &Batch) {
        for operation in batch.operations() {
            match operation {
                Operation::Put(key, bytes) => self.records.insert(*key, Arc::clone(bytes)),
                Operation::Delete(key) => self.records.remove(key),
            };
        }
        self.head = *next;
    }

    fn counts_after(&self, batch: &Batch) -> RecordCounts {
        let mut counts = self.head.counts;
        for operation in batch.operations() {
            let key = operation.key();
            let count = &mut counts.0[key.kind as usize];
            match (operation, self.records.contains_key(&key)) {
                (Operation::Put(..), false) => *count += 1,
                (Operation::Delete(_), true) => *count -= 1,
                _ => {}
            }
        }
        counts
    }

    /// How many records of each kind there are.
    pub(crate) fn counts(&self) -> RecordCounts {
        let count = |kind| self.records.keys().filter(|key| key.kind == kind).count() as u64;
        RecordCounts(RecordKind::ALL.map(count))
    }

    /// Asserts equality without printing a whole store.
    pub(crate) fn assert_is(&self, expected: &Self, place: &str) {
        assert_eq!(self.head, expected.head, "the head {place}");
        for (key, bytes) in &expected.records {
            let found = self.records.get(key).unwrap_or_else(|| panic!("{key} is missing {place}"));
            assert!(
                found == bytes,
                "{key} has other bytes {place}: {} bytes, not {}",
                found.len(),
                bytes.len()
            );
        }
        let unexpected = self.records.keys().find(|key| !expected.records.contains_key(key));
        assert_eq!(unexpected, None, "a record that nobody left there is {place}");
    }
}

/// Loads a whole store, and asserts what holds for every load.
pub(crate) async fn contents(catalog: &dyn Catalog) -> Contents {
    drain(catalog.load().await.expect("a store can be loaded")).await.expect("a load ends well")
}

/// Reads every page of a load, and asserts that pages are bounded, and that every record comes once and in order of
/// kinds.
pub(crate) async fn drain(mut loaded: Loaded) -> Result<Contents> {
    let mut contents = Contents { head: loaded.head, records: BTreeMap::new() };
    let mut only_store_records = true;
    while let Some(page) = loaded.pages.try_next().await? {
        assert!(page.len() <= Loaded::PAGE_RECORDS_MAX, "a page of {} records", page.len());
        for record in page {
            let is_store_record = record.key.kind == RecordKind::Store;
            assert!(only_store_records || !is_store_record, "{} comes after other kinds", record.key);
            only_store_records = is_store_record;
            let earlier = contents.records.insert(record.key, record.bytes.as_ref().into());
            assert!(earlier.is_none(), "{} was loaded twice", record.key);
        }
    }
    Ok(contents)
}

/// Polls `work` up to `polls` times without waiting, so that a case can interrupt it at different points, and returns
/// what is left of it.
pub(crate) fn begin<F: Future>(work: F, polls: u8) -> Either<Ready<F::Output>, Pin<Box<F>>> {
    let mut work = Box::pin(work);
    match (0..polls).find_map(|_| work.as_mut().now_or_never()) {
        Some(output) => Either::Left(future::ready(output)),
        None => Either::Right(work),
    }
}

/// Asserts that other work on the same thread gets its turn while `call` is under way.
///
/// That it got none says little: what another thread does may be done before this one looks, nearly always if there is but
/// one processor. So it is called again until turns were seen; a store that does the work on this thread never gives one.
pub(crate) async fn assert_turns_for_others(mut call: impl AsyncFnMut()) {
    const ENOUGH: u32 = 10;
    const CALLS_MAX: u32 = 2_000;
    let mut with_turns = 0;
    for _ in 0..CALLS_MAX {
        with_turns += u32::from(turns_for_others(call()).await);
        if with_turns == ENOUGH {
            return;
        }
    }
    panic!("{} of {CALLS_MAX} calls kept the thread to themselves", CALLS_MAX - with_turns);
}

/// Runs `work`, and says whether other work on the same thread got a turn before it was done.
async fn turns_for_others(work: impl Future<Output = ()>) -> bool {
    let ticked = Cell::new(false);
    let ticking = async {
        loop {
            ticked.set(true);
            tokio::task::yield_now().await;
        }
    };
    match future::select(pin!(work), pin!(ticking)).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => never,
    }
    ticked.get()
}

pub(crate) fn key(kind: RecordKind, id: i64) -> RecordKey {
    RecordKey { kind, id }
}

pub(crate) fn job(id: i64) -> RecordKey {
    key(RecordKind::Job, id)
}

pub(crate) fn task(id: i64) -> RecordKey {
    key(RecordKind::Task, id)
}

pub(crate) fn put(key: RecordKey, bytes: impl AsRef<[u8]>) -> Operation {
    Operation::Put(key, bytes.as_ref().into())
}

pub(crate) fn delete(key: RecordKey) -> Operation {
    Operation::Delete(key)
}
