//! Stores that hold a workload from the start: one that keeps nothing, and a file of redb.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{
    Batch, Catalog, Error, ErrorKind, Head, Limits, Loaded, ManagerOptions, MetaManager, Operation, Record,
    RecordCounts, RecordKey, RecordKind, Result, Revision,
};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::workload::Workload;

/// What a store holds before a benchmark begins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Its records, in load order.
    pub records: Arc<[Record]>,
    head: Head,
}

impl Prepared {
    /// The records of `workload`.
    ///
    /// # Errors
    /// Those of the manager that makes them.
    pub async fn new(workload: Workload) -> crate::Result<Self> {
        let (records, revision) = workload.records().await?;
        Ok(Self::of(records, revision))
    }

    /// A store of these records.
    pub fn of(records: Vec<Record>, revision: Revision) -> Self {
        let mut counts = RecordCounts::default();
        for record in &records {
            if let Some(count) = counts.0.get_mut(record.key.kind as usize) {
                *count += 1;
            }
        }
        Self { records: records.into(), head: Head { revision, counts, ..Head::default() } }
    }

    /// A manager of this store on a catalog that keeps no commit, and takes `delay` for each.
    ///
    /// # Errors
    /// Those of [`MetaManager::open`].
    pub async fn manager(&self, delay: Duration) -> crate::Result<MetaManager> {
        Ok(MetaManager::open(Arc::new(self.catalog(delay)), ManagerOptions::default()).await?)
    }

    /// A catalog with these records that keeps no commit, and takes `delay` for each.
    pub fn catalog(&self, delay: Duration) -> IdleCatalog {
        let source = Source::Memory(Arc::clone(&self.records));
        IdleCatalog {
            source,
            head: Mutex::new(self.head),
            disk: (!delay.is_zero()).then(|| Disk::new(delay)),
        }
    }

    /// Writes the records into a file that [`IdleCatalog::of_flat`] reads.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write_flat(&self, path: &Path) -> crate::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&self.head.to_bytes())?;
        for record in self.records.iter() {
            file.write_all(&[record.key.kind as u8])?;
            file.write_all(&record.key.id.to_le_bytes())?;
            file.write_all(&u32::try_from(record.bytes.len())?.to_le_bytes())?;
            file.write_all(&record.bytes)?;
        }
        Ok(file.flush()?)
    }

    /// Writes the records into the empty store behind `catalog`.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn fill(&self, catalog: &dyn Catalog) -> crate::Result<()> {
        let limits = catalog.limits();
        let mut head = catalog.acquire().await?;
        let largest = self.records.iter().map(|record| record.bytes.len() + 32).max().unwrap_or(1);
        let step = limits.operations_max.min(limits.bytes_max / largest);
        for chunk in self.records.chunks(step) {
            let put = |record: &Record| Operation::Put(record.key, record.bytes.as_ref().into());
            let mut next = Head { batch: head.batch.wrapping_add(1), revision: self.head.revision, ..head };
            for record in chunk {
                next.counts.0[record.key.kind as usize] += 1;
            }
            catalog.commit(&head, &next, &chunk.iter().map(put).collect()).await?;
            head = next;
        }
        Ok(())
    }

    /// Writes the records into a new file of redb at `path`.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn write_redb(&self, path: &Path) -> crate::Result<()> {
        let catalog = RedbCatalog::open(path, RedbOptions::default()).await?;
        self.fill(&catalog).await?;
        Ok(catalog.close().await?)
    }
}

/// A catalog that begins with records and keeps only the head of what is committed.
#[derive(Debug)]
pub struct IdleCatalog {
    source: Source,
    head: Mutex<Head>,
    disk: Option<Disk>,
}

/// A thread that sleeps as long as a commit takes, as the reference has it: a timer of the runtime would round up by a
/// millisecond. It runs the committer too, like the thread of a catalog on the local disk.
#[derive(Debug)]
struct Disk {
    thread: runtime::Handle,
    delay: Duration,
    _ends_with_this: oneshot::Sender<()>,
}

impl Disk {
    fn new(delay: Duration) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a thread that waits for timers alone needs nothing of the system");
        let thread = runtime.handle().clone();
        let (_ends_with_this, end) = oneshot::channel();
        std::thread::spawn(move || drop(runtime.block_on(end)));
        Self { thread, delay, _ends_with_this }
    }

    async fn sleep(&self) -> Result<()> {
        let delay = self.delay;
        let slept = self.thread.spawn(async move { std::thread::sleep(delay) }).await;
        slept.map_err(|error| Error::with_source(ErrorKind::OutcomeUnknown, "commit", error))
    }
}

/// Where records come from.
#[derive(Debug)]
enum Source {
    Memory(Arc<[Record]>),
    /// A file, so that a process whose memory is measured holds nothing else.
    Flat(PathBuf),
}

impl IdleCatalog {
    /// A catalog of the records in a file that [`Prepared::write_flat`] wrote.
    ///
    /// # Errors
    /// Those of the file.
    pub fn of_flat(path: &Path) -> crate::Result<Self> {
        let head = Mutex::new(read_head(&mut BufReader::new(File::open(path)?))?);
        Ok(Self { source: Source::Flat(path.to_owned()), head, disk: None })
    }
}

fn read_head(file: &mut impl Read) -> crate::Result<Head> {
    let mut head = Head::default().to_bytes();
    file.read_exact(&mut head)?;
    Ok(Head::from_bytes(&head)?)
}

/// The next record, or `None` at the end of the file.
fn read_record(file: &mut impl Read) -> io::Result<Option<Record>> {
    let mut fixed = [0; 13];
    if file.read(&mut fixed[..1])? == 0 {
        return Ok(None);
    }
    file.read_exact(&mut fixed[1..])?;
    let [kind, id @ .., l0, l1, l2, l3] = fixed;
    let kind = RecordKind::from_number(kind).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; u32::from_le_bytes([l0, l1, l2, l3]) as usize];
    file.read_exact(&mut bytes)?;
    Ok(Some(Record { key: RecordKey { kind, id: i64::from_le_bytes(id) }, bytes: bytes.into() }))
}

#[async_trait]
impl Catalog for IdleCatalog {
    async fn acquire(&self) -> Result<Head> {
        let mut head = self.head.lock();
        *head = head.acquired()?;
        Ok(*head)
    }

    async fn load(&self) -> Result<Loaded> {
        const PAGE: usize = Loaded::PAGE_RECORDS_MAX;
        let pages = match &self.source {
            Source::Memory(records) => {
                let records = Arc::clone(records);
                stream::iter((0..records.len()).step_by(PAGE))
                    .map(move |start| Ok(records[start..records.len().min(start + PAGE)].to_vec()))
                    .boxed()
            }
            Source::Flat(path) => {
                let failed = |error| Error::with_source(ErrorKind::Unavailable, "read the records", error);
                let mut file = BufReader::new(File::open(path).map_err(failed)?);
                read_head(&mut file).map_err(|error| Error::new(ErrorKind::Corrupt, error.to_string()))?;
                let records = std::iter::from_fn(move || read_record(&mut file).transpose());
                stream::iter(records.map(move |record| record.map_err(failed)))
                    .try_chunks(PAGE)
                    .map_err(|error| error.1)
                    .boxed()
            }
        };
        Ok(Loaded { head: *self.head.lock(), pages })
    }

    async fn commit(&self, expected: &Head, next: &Head, _batch: &Batch) -> Result<()> {
        if let Some(disk) = &self.disk {
            disk.sleep().await?;
        }
        let mut head = self.head.lock();
        if *head != *expected {
            return Err(Error::new(ErrorKind::Fenced, "the head has moved"));
        }
        *head = *next;
        Ok(())
    }

    async fn head(&self) -> Result<Head> {
        Ok(*self.head.lock())
    }

    fn limits(&self) -> Limits {
        Limits { operations_max: 16_384, bytes_max: 16 << 20, commits_max: 1 }
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        match &self.disk {
            Some(disk) => drop(disk.thread.spawn(committer)),
            None => drop(tokio::spawn(committer)),
        }
    }
}

/// Makes these commits once more behind `head`, with nothing between them, and answers the head that they lead to.
///
/// # Errors
/// Those of the catalog.
pub async fn repeat(catalog: &dyn Catalog, mut head: Head, commits: &[(Head, Batch)]) -> crate::Result<Head> {
    for (as_it_was, batch) in commits {
        let next = Head { epoch: head.epoch, writer: head.writer, ..*as_it_was };
        catalog.commit(&head, &next, batch).await?;
        head = next;
    }
    Ok(head)
}

/// Passes every call on, and counts and keeps what is committed.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Catalog>,
    kept: Option<Mutex<Vec<(Head, Batch)>>>,
    commits: AtomicU64,
    operations: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
}

/// What was committed since the catalog was opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Commits {
    /// How many batches.
    pub commits: u64,
    /// How many records they wrote or deleted.
    pub operations: u64,
    /// What the operations count against the limits of a catalog.
    pub bytes: u64,
    /// How long they took, in nanoseconds.
    pub nanos: u64,
}

impl Counted {
    /// Counts what goes into `inner`.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self {
            inner,
            kept: None,
            commits: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        }
    }

    /// Counts what goes into `inner`, and keeps it for [`take`](Self::take).
    pub fn keeping(inner: Arc<dyn Catalog>) -> Self {
        Self { kept: Some(Mutex::default()), ..Self::new(inner) }
    }

    /// The commits that were kept since the last time, with the head that each led to.
    pub fn take(&self) -> Vec<(Head, Batch)> {
        self.kept.as_ref().map(|kept| std::mem::take(&mut *kept.lock())).unwrap_or_default()
    }

    /// What was committed so far.
    pub fn counts(&self) -> Commits {
        Commits {
            commits: self.commits.load(Ordering::Relaxed),
            operations: self.operations.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl Catalog for Counted {
    async fn acquire(&self) -> Result<Head> {
        self.inner.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        self.inner.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        let start = std::time::Instant::now();
        let result = self.inner.commit(expected, next, batch).await;
        self.nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        // One that came before the one that it builds upon is made again.
        result?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.operations.fetch_add(batch.operations().len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(batch.size() as u64, Ordering::Relaxed);
        if let Some(kept) = &self.kept {
            kept.lock().push((*next, batch.clone()));
        }
        Ok(())
    }

    async fn head(&self) -> Result<Head> {
        self.inner.head().await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.inner.spawn_committer(committer);
    }
}
