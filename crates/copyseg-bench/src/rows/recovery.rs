//! P10: a million tasks after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use copyseg_core::{
    Catalog, DecodedRecord, ManagerOptions, MetaManager, RecordKind, Task, TaskFilter, TaskId, TaskState,
    decode_record,
};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::TryStreamExt;
use hashbrown::HashMap;

use super::Context;
use crate::Result;
use crate::child::figures;
use crate::measure::{Unit, alternate};
use crate::reference::{NoStore, Reference, encode, job_record, task_record};
use crate::table::Row;
use crate::workload::{Workload, job_id, task_id};

pub(super) fn from_redb(context: &Context) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let path = folder.path().join("million.redb");
    context.runtime.block_on(context.million()?.write_redb(&path))?;
    let theirs_path = folder.path().join("reference.redb");
    write_reference(&theirs_path)?;
    let [copyseg, limit, theirs] = alternate([
        &mut || in_child(Recovery::Copyseg, &path),
        &mut || in_child(Recovery::Decoding, &path),
        &mut || in_child(Recovery::Reference, &theirs_path),
    ])?;
    let bare = copyseg.over(&limit);
    Ok(vec![Row {
        id: "P10",
        workload: "recovery of 1 M tasks from a redb file, queries ready, each in a process of its own"
            .into(),
        copyseg: copyseg.show(Unit::Nanos),
        reference: theirs.show(Unit::Nanos),
        limit: format!("{} (decode every record, one hash map)", limit.show(Unit::Nanos)),
        ratios: format!("{}, {}", copyseg.over(&theirs).show(Unit::Ratio), bare.show(Unit::Ratio)),
        target: "< 1.4 s, and ≤ 1.5 × the limit".into(),
        met: Some(copyseg.median() < 1.4e9 && bare.median() <= 1.5),
    }])
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// A manager of copyseg opens its store.
    Copyseg,
    /// The least: every record read and decoded, by one thread beside the one that reads, and found by its id.
    Decoding,
    /// The reference opens its own.
    Reference,
}

impl Recovery {
    const ALL: [Self; 3] = [Self::Copyseg, Self::Decoding, Self::Reference];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Copyseg => "copyseg",
            Self::Decoding => "decoding",
            Self::Reference => "reference",
        }
    }

    /// As the process that measures calls it to the one that it starts.
    ///
    /// # Errors
    /// For any other name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|recovery| recovery.as_str() == name);
        found.ok_or_else(|| format!("nothing to recover is called `{name}`").into())
    }

    /// How many nanoseconds it takes in this process; letting go of what was made is not part of it.
    ///
    /// # Errors
    /// Those of opening the store.
    pub fn time(self, path: &Path) -> Result<u128> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let start = Instant::now();
        match self {
            Self::Copyseg => timed(start, runtime.block_on(recover(path))?),
            Self::Decoding => timed(start, runtime.block_on(decode_all(path))?),
            Self::Reference => timed(start, recover_reference(path)?),
        }
    }
}

fn timed<T>(start: Instant, made: T) -> Result<u128> {
    let nanos = start.elapsed().as_nanos();
    drop(made);
    Ok(nanos)
}

/// A restart is the first thing that a process does, and has its memory yet to get from the kernel.
fn in_child(recovery: Recovery, path: &Path) -> Result<f64> {
    let arguments = ["recover", recovery.as_str(), &path.to_string_lossy()];
    match figures(&std::env::current_exe()?, &arguments)?.as_slice() {
        [nanos] => Ok(*nanos as f64),
        figures => Err(format!("a recovery took {figures:?}").into()),
    }
}

/// How many tasks of the million are pending.
const PENDING: usize = 40_143;

/// Opens the store and asks it something.
async fn recover(path: &Path) -> Result<MetaManager> {
    let catalog = RedbCatalog::open(path, RedbOptions::default()).await?;
    let manager = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await?;
    match manager.count_tasks(&TaskFilter::new().states([TaskState::Pending]))? {
        PENDING => Ok(manager),
        pending => Err(format!("{pending} tasks are pending, not {PENDING}").into()),
    }
}

async fn decode_all(path: &Path) -> Result<(RedbCatalog, HashMap<TaskId, Task>)> {
    let catalog = RedbCatalog::open(path, RedbOptions::default()).await?;
    let mut loaded = catalog.load().await?;
    let mut tasks = HashMap::with_capacity(loaded.head.counts.0[RecordKind::Task as usize] as usize);
    while let Some(page) = loaded.pages.try_next().await? {
        for record in page {
            if let DecodedRecord::Task(task) = decode_record(&record)? {
                tasks.insert(task.id, task);
            }
        }
    }
    Ok((catalog, tasks))
}

const JOBS: redb::TableDefinition<'_, i64, &[u8]> = redb::TableDefinition::new("jobs");
const TASKS: redb::TableDefinition<'_, i64, &[u8]> = redb::TableDefinition::new("tasks");

fn write_reference(path: &Path) -> Result<()> {
    let Workload { tasks, jobs } = Workload::MILLION;
    let database = redb::Database::create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(JOBS)?;
        for job in 0..jobs {
            table.insert(job_id(job).0, encode(&job_record(job))?.as_slice())?;
        }
        let mut table = transaction.open_table(TASKS)?;
        for task in 0..tasks {
            table.insert(task_id(task).0, encode(&task_record(task, jobs))?.as_slice())?;
        }
    }
    Ok(transaction.commit()?)
}

/// With the cache that copyseg gives redb.
fn recover_reference(path: &Path) -> Result<(redb::Database, Reference)> {
    use redb::ReadableDatabase;
    let cache = RedbOptions::default().cache_size_bytes;
    let database = redb::Builder::new().set_cache_size(cache).open(path)?;
    let transaction = database.begin_read()?;
    let (jobs, tasks) = (records(&transaction, JOBS)?, records(&transaction, TASKS)?);
    drop(transaction);
    Ok((database, Reference::open(jobs, tasks, Box::new(NoStore))))
}

fn records<R: bincode::Decode<()>>(
    transaction: &redb::ReadTransaction,
    table: redb::TableDefinition<'_, i64, &[u8]>,
) -> Result<Vec<R>> {
    use redb::ReadableTable;
    let mut records = Vec::new();
    for entry in transaction.open_table(table)?.iter()? {
        records.push(bincode::decode_from_slice(entry?.1.value(), bincode::config::standard())?.0);
    }
    Ok(records)
}
