//! P12: durable changes on redb.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use copyseg_core::Operation;
use copyseg_redb::{RedbCatalog, RedbOptions};
use redb::{Database, Durability, TableDefinition};

use super::{LENGTH, Setting};
use crate::Result;
use crate::prepared::Prepared;
use crate::reference::{Reference, Store, encode, task_record};
use crate::rows::Context;
use crate::table::Row;
use crate::workload::{Workload, task_id};

pub(in crate::rows) fn on_redb(context: &Context) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let prepared = context.million()?;
    let path = folder.path().join("million.redb");
    context.runtime.block_on(prepared.write_redb(&path))?;
    let bare = bare_database(&folder.path().join("bare.redb"), prepared)?;
    let store = RedbStore(reference_database(&folder.path().join("reference.redb"))?);
    let reference = Reference::of(Workload::MILLION, Box::new(store));
    let catalog = context.runtime.block_on(RedbCatalog::open(&path, RedbOptions::default()))?;
    let setting = Setting::new(context, Arc::new(catalog), prepared, Workload::MILLION)?;
    let mut rows = Vec::new();
    for writers in [1, 8, 64, 256] {
        let measured =
            setting.measure(writers, &reference, &|records, size| commit_loop(&bare, records, size))?;
        rows.push(Row {
            target: "≥ 0.8 of the loop".into(),
            met: Some(measured.by_loop() >= 0.8),
            ..measured.row("P12", format!("durable changes on redb, 1 M tasks, {writers} writers"))
        });
    }
    setting.close()?;
    Ok(rows)
}

const TASKS: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("tasks");
const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
/// As large as copyseg's head.
const HEAD_BYTES: [u8; 60] = [7; 60];

/// The same records in a file of redb that nothing else looks after.
///
/// # Errors
/// Those of redb.
pub fn bare_database(path: &Path, prepared: &Prepared) -> Result<Database> {
    let database = create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TASKS)?;
        for record in prepared.records.iter() {
            table.insert(record.key.id, record.bytes.as_ref())?;
        }
    }
    transaction.commit()?;
    Ok(database)
}

fn reference_database(path: &Path) -> Result<Database> {
    let database = create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TASKS)?;
        for task in 0..Workload::MILLION.tasks {
            let record = encode(&task_record(task, Workload::MILLION.jobs))?;
            table.insert(task_id(task).0, record.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(database)
}

/// With the cache that copyseg gives it.
fn create(path: &Path) -> Result<Database> {
    Ok(redb::Builder::new().set_cache_size(RedbOptions::default().cache_size_bytes).create(path)?)
}

/// Commits of so many records each, one after the other, for a second: records a second.
///
/// # Errors
/// Those of redb.
pub fn commit_loop(database: &Database, records: &[Operation], size: usize) -> Result<f64> {
    let (start, mut written) = (Instant::now(), 0);
    let mut chunks = records.chunks_exact(size).cycle();
    while start.elapsed() < LENGTH {
        commit(database, chunks.next().unwrap_or_default())?;
        written += size;
    }
    Ok(written as f64 / start.elapsed().as_secs_f64())
}

/// One durable commit of a head and these records.
pub(in crate::rows) fn commit(database: &Database, records: &[Operation]) -> Result<()> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.open_table(HEAD)?.insert("head", HEAD_BYTES.as_slice())?;
    {
        let mut table = transaction.open_table(TASKS)?;
        for record in records {
            if let Operation::Put(key, bytes) = record {
                table.insert(key.id, &**bytes)?;
            }
        }
    }
    Ok(transaction.commit()?)
}

/// One durable commit for each record, as the reference has it.
struct RedbStore(Database);

impl Store for RedbStore {
    fn save(&self, key: i64, record: &[u8]) -> Result<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(TASKS)?.insert(key, record)?;
        Ok(transaction.commit()?)
    }
}
