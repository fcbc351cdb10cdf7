//! Opening: what a store holds becomes a snapshot, by the one rule of what is visible.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock};
use std::thread;

use futures::TryStreamExt;
use tracing::{info, warn};

use super::backoff;
use crate::catalog::{Catalog, Head, Loaded, Operation, Record, RecordCounts, RecordKey, RecordKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::JobId;
use crate::job::Job;
use crate::snapshot::{SetAside, Snapshot};
use crate::task::Task;
use crate::txn::{counter_record, task_key};
use crate::wire::{self, DecodedRecord, StoreFormat, decode_record};

/// What a store holds.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) head: Head,
    pub(super) snapshot: Snapshot,
    /// Tasks of no job: left over from an addition or a removal that was cut short.
    pub(super) orphans: Vec<RecordKey>,
    /// Ids that stay taken: tasks without a job, while the record of one is set aside.
    pub(super) reserved: BTreeSet<RecordKey>,
    /// Every stored record that the snapshot does not show.
    pub(super) hidden: HashSet<RecordKey>,
    has_format: bool,
    raised_format: Option<StoreFormat>,
    has_counter: bool,
}

/// How often a lost answer to `acquire` is asked for again.
const ACQUIRE_ATTEMPTS: u32 = 5;

/// Becomes the writer. An answer that was lost is asked for again, under a fresh number: that is safe, because
/// only the last number in the head counts.
pub(super) async fn acquire(catalog: &dyn Catalog) -> Result<Head> {
    let mut attempt = 0;
    loop {
        match catalog.acquire().await {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && attempt < ACQUIRE_ATTEMPTS => {
                warn!(
                    attempt,
                    "the answer to taking over the store was lost, asking again: {}",
                    error.chain()
                );
                tokio::time::sleep(backoff(attempt)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Refuses a store of a newer version before it is taken from its owner, and before a byte of it is written.
pub(super) async fn check_format(catalog: &dyn Catalog) -> Result<()> {
    let mut pages = catalog.load().await?.pages;
    while let Some(page) = pages.try_next().await? {
        for record in &page {
            match decode_record(record) {
                _ if record.key.kind != RecordKind::Store => return Ok(()),
                Ok(DecodedRecord::Format(format)) => format.check_readable()?,
                Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

impl Snapshot {
    /// Reads the jobs and tasks of a store without becoming its writer.
    ///
    /// Records that cannot be decoded are in [`set_aside`](Self::set_aside). Runs on a tokio runtime, whose blocking
    /// threads decode.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if a newer version wrote the store,
    /// [`Corrupt`](ErrorKind::Corrupt) if rows were lost, and what the catalog reports.
    pub async fn load(catalog: &dyn Catalog) -> Result<Self> {
        Ok(recover(catalog).await?.snapshot)
    }
}

/// How many processors there are to decode on. Asked once, because the answer of Linux stands in files of the control
/// groups, which take longer to read than a small store.
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Loads every record, sets aside what cannot be decoded, and sorts out what is visible.
pub(super) async fn recover(catalog: &dyn Catalog) -> Result<Recovered> {
    let Loaded { head, pages } = catalog.load().await?;
    let mut gathering = Gathering::default();
    // Decoding takes longer than reading does, so several threads share it.
    let decode = |page| on_a_blocking_thread(move || Gathering::of(page));
    let mut pages = pages.map_ok(decode).try_buffered(*PROCESSORS);
    while let Some(page) = pages.try_next().await? {
        gathering.merge(page?);
    }
    if gathering.counts != head.counts {
        return Err(lost_rows(head.counts, gathering.counts));
    }
    on_a_blocking_thread(move || gathering.finish(head)).await
}

/// A panic there goes on here: it is a bug, and nothing that opening the store again would cure.
async fn on_a_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(|| catch_unwind(AssertUnwindSafe(work))).await;
    let done = done.map_err(|error| {
        let message = "load the store: the runtime ended meanwhile, open it again";
        Error::with_source(ErrorKind::Unavailable, message, error.to_string())
    });
    Ok(done?.unwrap_or_else(|panic| resume_unwind(panic)))
}

/// What was found so far, or in one page.
#[derive(Default)]
struct Gathering {
    counts: RecordCounts,
    jobs: BTreeMap<JobId, Job>,
    tasks: Vec<Arc<Task>>,
    set_aside: BTreeMap<RecordKey, SetAside>,
    store: Vec<RecordKey>,
    next_id: Option<i64>,
    has_format: bool,
    raised_format: Option<StoreFormat>,
}

impl Gathering {
    fn of(page: Vec<Record>) -> Result<Self> {
        let mut gathering = Self::default();
        for record in &page {
            gathering.take(record.key, decode_record(record))?;
        }
        Ok(gathering)
    }

    fn merge(&mut self, page: Self) {
        let Self { counts, jobs, tasks, set_aside, store, next_id, has_format, raised_format } = page;
        for (count, more) in self.counts.0.iter_mut().zip(counts.0) {
            *count += more;
        }
        self.jobs.extend(jobs);
        self.tasks.extend(tasks);
        self.set_aside.extend(set_aside);
        self.store.extend(store);
        self.next_id = self.next_id.max(next_id);
        self.has_format |= has_format;
        self.raised_format = self.raised_format.take().or(raised_format);
    }

    fn take(&mut self, key: RecordKey, decoded: Result<DecodedRecord>) -> Result<()> {
        if let Some(count) = self.counts.0.get_mut(key.kind as usize) {
            *count += 1;
        }
        if key.kind == RecordKind::Store {
            self.store.push(key);
            self.has_format |= key.id == StoreFormat::KEY.id;
        }
        match decoded {
            Ok(DecodedRecord::Job(job)) => drop(self.jobs.insert(job.id, job)),
            Ok(DecodedRecord::Task(task)) => self.tasks.push(Arc::new(task)),
            Ok(DecodedRecord::Counter { next_id }) => self.next_id = self.next_id.max(Some(next_id)),
            Ok(DecodedRecord::Format(format)) => {
                format.check_readable()?;
                self.raised_format = format.raised();
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let reason = error.chain();
                self.set_aside.insert(key, SetAside { key, reason });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn finish(self, head: Head) -> Recovered {
        let mut recovered = Recovered {
            head,
            has_format: self.has_format,
            raised_format: self.raised_format.clone(),
            has_counter: self.next_id.is_some(),
            ..Recovered::default()
        };
        recovered.hidden.extend(self.set_aside.keys().chain(&self.store));
        let next_id = self.next_id.unwrap_or_else(|| self.rebuilt_counter());
        let lacks_a_job = self.set_aside.keys().any(|key| key.kind == RecordKind::Job);
        for job in self.jobs.into_values() {
            recovered.snapshot.insert_job(Arc::new(job));
        }
        let mut visible = Vec::with_capacity(self.tasks.len());
        for task in self.tasks {
            let key = task_key(task.id);
            match recovered.snapshot.job(task.job) {
                Some(job) if task.belongs_to(job) => {
                    visible.push(task.settled_by(job).map_or(task, Arc::new));
                    continue;
                }
                // Which job that is cannot be told: damage may have hit its id.
                None if lacks_a_job => {
                    recovered.reserved.insert(key);
                }
                _ => recovered.orphans.push(key),
            }
            recovered.hidden.insert(key);
        }
        recovered.snapshot.set_tasks(visible);
        for record in self.set_aside.into_values() {
            recovered.snapshot.set_aside_record(record);
        }
        recovered.snapshot.set_next_id(next_id);
        recovered.snapshot.set_revision(head.revision);
        recovered
    }

    /// The counter of a store whose counter record was lost to damage: far beyond every id in sight, because
    /// ids may have been given out that no record names any more.
    fn rebuilt_counter(&self) -> i64 {
        const MARGIN: i64 = 1_000_000;
        if self.jobs.is_empty() && self.tasks.is_empty() && self.set_aside.is_empty() {
            return 1;
        }
        let jobs = self.jobs.keys().map(|id| id.0);
        let tasks = self.tasks.iter().map(|task| task.id.0);
        let targets = self.tasks.iter().flat_map(|task| task.segments.iter()).map(|pair| pair.target.0);
        let set_aside = self.set_aside.keys().map(|key| key.id);
        jobs.chain(tasks)
            .chain(targets)
            .chain(set_aside)
            .max()
            .unwrap_or_default()
            .saturating_add(MARGIN)
            .max(1)
    }
}

impl Recovered {
    /// Says what was found, and refuses what `strict` does not put up with.
    pub(super) fn report(&self, strict: bool) -> Result<()> {
        for record in self.snapshot.set_aside() {
            warn!(record = %record.key, "set aside a record that cannot be decoded: {}", record.reason);
        }
        if !self.orphans.is_empty() {
            info!(tasks = self.orphans.len(), "sweeping tasks that no job claims");
        }
        match self.snapshot.set_aside().next() {
            Some(first) if strict => Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "open the store: {} of its records cannot be decoded, the first is {} ({}); see `copyseg check`",
                    self.snapshot.set_aside().count(),
                    first.key,
                    first.reason
                ),
            )),
            _ => Ok(()),
        }
    }

    /// What a new store is given first: its format and its counter. A store of an older format is given that of this build,
    /// before any record in it. A store without a counter has lost it; a rebuilt one is kept at once, because what it was
    /// rebuilt from may be removed.
    pub(super) fn records_to_write(&self) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        let first = (!self.has_format).then(StoreFormat::current);
        if let Some(format) = first.as_ref().or(self.raised_format.as_ref()) {
            operations.push(Operation::Put(StoreFormat::KEY, wire::encode_format(format)?));
        }
        if !self.has_counter {
            operations.push(counter_record(&self.snapshot)?);
        }
        Ok(operations)
    }
}

pub(crate) fn lost_rows(expected: RecordCounts, found: RecordCounts) -> Error {
    let list = |counts: RecordCounts| {
        let names = RecordKind::ALL.map(RecordKind::as_str);
        let counts: Vec<_> =
            names.iter().zip(counts.0).map(|(name, count)| format!("{count} {name}")).collect();
        counts.join(", ")
    };
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "load the store: its head counts {} records, but {} were found; keep the files and run `copyseg check`",
            list(expected),
            list(found)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_while_records_are_decoded_is_not_taken_for_the_end_of_the_runtime() {
        let loading = tokio::spawn(on_a_blocking_thread(|| resume_unwind(Box::new("record 7")) as u8));
        let panic = loading.await.expect_err("it panicked").into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"record 7"));
    }

    #[test]
    fn a_runtime_that_ends_while_records_are_decoded_is_told_apart_from_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        let loaded = futures::FutureExt::now_or_never(on_a_blocking_thread(|| 7));
        let error = loaded.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}
