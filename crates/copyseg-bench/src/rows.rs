//! The rows of the table, one function for each.

mod writers;
mod reads;
mod queries;
mod latency;
mod updates;
mod recovery;
mod memory;
mod written;
mod restores;
mod large_job;
mod etcd_load;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use copyseg_core::MetaManager;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Result;
use crate::prepared::Prepared;
use crate::table::Row;
use crate::workload::Workload;

pub use recovery::Recovery;
pub use updates::{BareLoop, Setting, bare_database, commit_loop};
pub use writers::{change_together, random_tasks, run_reference, run_writers, toggle};
pub use written::Written;

/// A row: its name, and what measures it.
pub type Measured = (&'static str, fn(&Context) -> Result<Vec<Row>>);

/// Every row, in the order of the table.
pub const ROWS: [Measured; 19] = [
    ("P1", reads::idle),
    ("P2", reads::scaling),
    ("P3", latency::beside_a_writer),
    ("P4", latency::beside_a_scan),
    ("P5", updates::slow_catalog),
    ("P6", queries::pending),
    ("P7", queries::pending_of_job),
    ("P8", queries::progress),
    ("P9", queries::jobs_by_state),
    ("P10", recovery::from_redb),
    ("P11", memory::of_store),
    ("S1", memory::of_held_snapshot),
    ("P12", updates::on_redb),
    ("W1", written::per_change),
    ("P13", updates::on_etcd),
    ("P14", restores::large),
    ("P15", restores::small),
    ("P16", large_job::added),
    ("E1", etcd_load::million),
];

/// What the rows share.
pub struct Context {
    /// Where managers and clients run.
    pub runtime: Runtime,
    /// Members of etcd, `host:port,…`, if there are any.
    pub etcd: Option<String>,
    /// A folder on the disk that is measured.
    pub scratch: PathBuf,
    million: OnceLock<Prepared>,
    flat: Mutex<Vec<(Workload, TempDir)>>,
}

impl Context {
    /// A context that writes into `scratch`.
    ///
    /// # Errors
    /// If no runtime starts.
    pub fn new(scratch: &Path, etcd: Option<String>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self {
            runtime,
            etcd,
            scratch: scratch.to_owned(),
            million: OnceLock::new(),
            flat: Mutex::default(),
        })
    }

    /// A store with a million tasks in 10,000 jobs.
    ///
    /// # Errors
    /// Those of making it.
    pub fn million(&self) -> Result<&Prepared> {
        if let Some(prepared) = self.million.get() {
            return Ok(prepared);
        }
        let prepared = self.runtime.block_on(Prepared::new(Workload::MILLION))?;
        Ok(self.million.get_or_init(|| prepared))
    }

    /// The records of `workload` in a flat file, made once and there until the end.
    ///
    /// # Errors
    /// Those of making them, and of the file.
    pub fn flat(&self, workload: Workload) -> Result<PathBuf> {
        const NAME: &str = "records";
        let mut flat = self.flat.lock();
        if let Some((_, folder)) = flat.iter().find(|(made, _)| *made == workload) {
            return Ok(folder.path().join(NAME));
        }
        let folder = tempfile::tempdir_in(&self.scratch)?;
        let path = folder.path().join(NAME);
        self.runtime.block_on(Prepared::new(workload))?.write_flat(&path)?;
        flat.push((workload, folder));
        Ok(path)
    }

    /// A manager of `prepared` on a catalog that keeps nothing and takes `delay` for each commit.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn manager(&self, prepared: &Prepared, delay: Duration) -> Result<MetaManager> {
        self.runtime.block_on(prepared.manager(delay))
    }

    /// Closes a manager.
    ///
    /// # Errors
    /// Those of closing it.
    pub fn close(&self, manager: &MetaManager) -> Result<()> {
        Ok(self.runtime.block_on(manager.close())?)
    }
}
