//! Says what a store takes in memory. A program of its own, because counting slows every allocation down.

use std::alloc::System;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use copyseg_bench::Result;
use copyseg_bench::memory::resident;
use copyseg_bench::prepared::IdleCatalog;
use copyseg_bench::reference::{NoStore, Reference};
use copyseg_bench::workload::Workload;
use copyseg_core::{ManagerOptions, MetaManager};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [holder, records, tasks, jobs] = arguments.as_slice() else {
        return Err("usage: copyseg-bench-memory copyseg|reference RECORDS TASKS JOBS".into());
    };
    let workload = Workload { tasks: tasks.parse()?, jobs: jobs.parse()? };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (allocated_before, resident_before) = (allocated(), resident()?);
    match holder.as_str() {
        "copyseg" => {
            let catalog = Arc::new(IdleCatalog::of_flat(Path::new(records))?);
            let manager = runtime.block_on(MetaManager::open(catalog, ManagerOptions::default()))?;
            say(allocated_before, resident_before)?;
            runtime.block_on(manager.close())?;
        }
        _ => {
            let reference = Reference::of(workload, Box::new(NoStore));
            say(allocated_before, resident_before)?;
            drop(reference);
        }
    }
    Ok(())
}

fn say(allocated_before: u64, resident_before: u64) -> Result<()> {
    let (allocated, resident) =
        (allocated().saturating_sub(allocated_before), resident()?.saturating_sub(resident_before));
    Ok(writeln!(std::io::stdout(), "{allocated} {resident}")?)
}

/// Bytes that were asked for and not given back.
fn allocated() -> u64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated) as u64
}
