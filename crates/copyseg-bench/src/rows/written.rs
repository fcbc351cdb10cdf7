//! W1: how many bytes a change writes to a redb file, counted where redb hands them to the file.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use copyseg_core::{Catalog, ManagerOptions, MetaManager, NewJob, NewTask, SegmentId, SegmentPair, TaskId};
use copyseg_redb::{RedbCatalog, RedbOptions};
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::{Context, change_together, random_tasks};
use crate::Result;
use crate::measure::Unit;
use crate::prepared::Counted;
use crate::table::Row;
use crate::workload::Workload;

/// How many tasks of one job, with neighbouring ids, are changed over and over as a restore that runs would.
const NEIGHBOURS: i64 = 2_000;

pub(super) fn per_change(context: &Context) -> Result<Vec<Row>> {
    let written = Written::new(context)?;
    let mut rows = Vec::new();
    for size in [1, 64] {
        let [random, neighbours] = [&written.random, &written.neighbours].map(|ids| written.count(ids, size));
        let (random, neighbours) = (random?, neighbours?);
        rows.push(Row {
            id: "W1",
            workload: format!(
                "bytes written per change, redb, 1 M tasks, {size} a commit: random; neighbours"
            ),
            copyseg: format!(
                "{}; {}",
                Unit::Bytes.show(random.to_file),
                Unit::Bytes.show(neighbours.to_file)
            ),
            limit: format!("{} (the record alone)", Unit::Bytes.show(random.records)),
            ratios: format!(
                "{}; {} of the record",
                Unit::Ratio.show(random.to_file / random.records),
                Unit::Ratio.show(neighbours.to_file / neighbours.records)
            ),
            ..Row::default()
        });
    }
    written.close()?;
    Ok(rows)
}

/// What one change wrote, on average, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct PerChange {
    /// What redb wrote to its file.
    pub to_file: f64,
    /// What copyseg gave to redb.
    pub records: f64,
}

/// A manager of a million tasks on a file of redb whose writes are counted.
pub struct Written<'a> {
    context: &'a Context,
    manager: MetaManager,
    catalog: Arc<Counted>,
    bytes: Arc<AtomicU64>,
    /// Tasks from all over the store.
    pub random: Vec<TaskId>,
    /// Tasks of one job, one after the other.
    pub neighbours: Vec<TaskId>,
    _folder: tempfile::TempDir,
}

impl<'a> Written<'a> {
    /// Makes the store.
    ///
    /// # Errors
    /// Those of making it.
    pub fn new(context: &'a Context) -> Result<Self> {
        let folder = tempfile::tempdir_in(&context.scratch)?;
        let path = folder.path().join("million.redb");
        let bytes = Arc::new(AtomicU64::new(0));
        let prepared = context.million()?;
        let (manager, catalog, neighbours) = context.runtime.block_on(async {
            prepared.write_redb(&path).await?;
            let counter = Arc::clone(&bytes);
            let backend = move || CountedFile::open(&path, &counter);
            let catalog = RedbCatalog::with_backend(backend, RedbOptions::default()).await?;
            let catalog = Arc::new(Counted::new(Arc::new(catalog)));
            let counted = Arc::clone(&catalog) as Arc<dyn Catalog>;
            let manager = MetaManager::open(counted, ManagerOptions::default()).await?;
            let pair = |id| SegmentPair::new(SegmentId(1 << 50 | id), SegmentId(1 << 51 | id));
            let task = |task| NewTask::new((8 * task..8 * task + 8).map(pair));
            let job = manager.add_job(NewJob::default(), (0..NEIGHBOURS).map(task).collect()).await?;
            let tasks = manager.snapshot()?.tasks_of_job(job).map(|task| task.id).collect();
            Result::Ok((manager, catalog, tasks))
        })?;
        let random = random_tasks(Workload::MILLION);
        Ok(Self { context, manager, catalog, bytes, random, neighbours, _folder: folder })
    }

    /// Changes `ids`, `size` in each commit.
    ///
    /// # Errors
    /// Those of the manager.
    pub fn count(&self, ids: &[TaskId], size: usize) -> Result<PerChange> {
        let commits = (6_400 / size).clamp(20, 400);
        let ids: Vec<TaskId> = ids.iter().copied().cycle().take(size * commits).collect();
        let before = (self.bytes.load(Ordering::Relaxed), self.catalog.counts().bytes);
        change_together(self.context, &self.manager, &ids, size)?;
        let after = (self.bytes.load(Ordering::Relaxed), self.catalog.counts().bytes);
        let per_change = |bytes: u64| bytes as f64 / ids.len() as f64;
        Ok(PerChange { to_file: per_change(after.0 - before.0), records: per_change(after.1 - before.1) })
    }

    /// Lets go of the store.
    ///
    /// # Errors
    /// Those of closing it.
    pub fn close(self) -> Result<()> {
        self.context.close(&self.manager)
    }
}

/// A file of redb that counts what is written to it.
#[derive(Debug)]
struct CountedFile {
    file: FileBackend,
    bytes: Arc<AtomicU64>,
}

impl CountedFile {
    fn open(path: &Path, bytes: &Arc<AtomicU64>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file: FileBackend::new(file).map_err(io::Error::other)?, bytes: Arc::clone(bytes) })
    }
}

impl StorageBackend for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
