//! P10: a million tasks after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use copyseg_core::{
    Catalog, DecodedRecord, ManagerOptions, MetaManager, Task, TaskFilter, TaskId, TaskState, decode_record,
};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::TryStreamExt;
use hashbrown::HashMap;

use super::Context;
use crate::Result;
use crate::measure::{Unit, alternate};
use crate::reference::{NoStore, Reference, job_record, task_record};
use crate::table::Row;
use crate::workload::{Workload, task_id};

pub(super) fn from_redb(context: &Context) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let path = folder.path().join("million.redb");
    context.runtime.block_on(context.million()?.write_redb(&path))?;
    let theirs_path = folder.path().join("reference.redb");
    write_reference(&theirs_path)?;
    let [copyseg, limit, theirs] = alternate([
        &mut || {
            let (nanos, manager) = timed(|| context.runtime.block_on(recover(&path)))?;
            context.close(&manager)?;
            Ok(nanos)
        },
        &mut || Ok(timed(|| context.runtime.block_on(decode_all(&path)))?.0),
        &mut || Ok(timed(|| recover_reference(&theirs_path))?.0),
    ])?;
    let bare = copyseg.over(&limit);
    Ok(vec![Row {
        id: "P10",
        workload: "recovery of 1 M tasks from a redb file, queries ready".into(),
        copyseg: copyseg.show(Unit::Nanos),
        reference: theirs.show(Unit::Nanos),
        limit: format!("{} (decode every record, one hash map)", limit.show(Unit::Nanos)),
        ratios: format!("{}, {}", Unit::Ratio.show(copyseg.over(&theirs).median()), bare.show(Unit::Ratio)),
        target: "< 1.4 s, and ≤ 1.5 × the limit".into(),
        met: Some(copyseg.median() < 1.4e9 && bare.median() <= 1.5),
    }])
}

/// How many tasks of the million are pending.
const PENDING: usize = 40_143;

/// Opens the store and asks it something; letting go of it afterwards is not part of a recovery.
async fn recover(path: &Path) -> Result<MetaManager> {
    let catalog = RedbCatalog::open(path, RedbOptions::default()).await?;
    let manager = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await?;
    match manager.count_tasks(&TaskFilter::new().states([TaskState::Pending]))? {
        PENDING => Ok(manager),
        pending => Err(format!("{pending} tasks are pending, not {PENDING}").into()),
    }
}

/// The least: every record read, decoded, and found by its id.
async fn decode_all(path: &Path) -> Result<HashMap<TaskId, Task>> {
    let catalog = RedbCatalog::open(path, RedbOptions::default()).await?;
    let mut pages = catalog.load().await?.pages;
    let mut tasks = HashMap::new();
    while let Some(page) = pages.try_next().await? {
        for record in page {
            if let DecodedRecord::Task(task) = decode_record(&record)? {
                tasks.insert(task.id, task);
            }
        }
    }
    drop(pages);
    catalog.close().await?;
    Ok(tasks)
}

const REFERENCE: redb::TableDefinition<'_, i64, &[u8]> = redb::TableDefinition::new("reference");

fn write_reference(path: &Path) -> Result<()> {
    let database = redb::Database::create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(REFERENCE)?;
        for task in 0..Workload::MILLION.tasks {
            let record = crate::reference::encode(&task_record(task, Workload::MILLION.jobs))?;
            table.insert(task_id(task).0, record.as_slice())?;
        }
    }
    Ok(transaction.commit()?)
}

fn recover_reference(path: &Path) -> Result<Reference> {
    use redb::{ReadableDatabase, ReadableTable};
    let database = redb::Database::open(path)?;
    let table = database.begin_read()?.open_table(REFERENCE)?;
    let mut tasks = Vec::new();
    for entry in table.iter()? {
        let (_, bytes) = entry?;
        tasks.push(bincode::decode_from_slice(bytes.value(), bincode::config::standard())?.0);
    }
    Ok(Reference::open((0..Workload::MILLION.jobs).map(job_record), tasks, Box::new(NoStore)))
}

/// How long `work` takes, and what it made: dropping that is not part of it.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let made = work()?;
    Ok((start.elapsed().as_nanos() as f64, made))
}
