//! Says what a store takes in memory. A program of its own, because counting slows every allocation down.

use std::alloc::System;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use copyseg_bench::Result;
use copyseg_bench::memory::resident;
use copyseg_bench::prepared::{IdleCatalog, Prepared};
use copyseg_bench::reference::{NoStore, Reference};
use copyseg_bench::rows::{Context, change_together};
use copyseg_bench::workload::{Random, Workload, new_job, new_task, task_id};
use copyseg_core::{ManagerOptions, MetaManager, Revision, TaskId};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["held"] {
        return held();
    }
    let [holder, records, tasks, jobs] = arguments.as_slice() else {
        return Err("usage: copyseg-bench-memory copyseg|reference RECORDS TASKS JOBS, or held".into());
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

/// Says what the store takes; for a growing number of updates, how many passed and what a snapshot from before them keeps;
/// and what is left of that when it is let go.
fn held() -> Result<()> {
    const JOBS: usize = 10_000;
    const TASKS_PER_JOB: usize = 100;
    const TOGETHER: usize = 100;
    let context = Context::new(Path::new(""), None)?;
    let before = allocated();
    // Its catalog keeps nothing, so what is counted is the manager's.
    let manager = context.manager(&Prepared::of(Vec::new(), Revision(0)), Duration::ZERO)?;
    context.runtime.block_on(async {
        for job in 0..JOBS {
            let tasks = (TASKS_PER_JOB * job..TASKS_PER_JOB * (job + 1)).map(new_task).collect();
            manager.transact(|txn| txn.add_job(new_job(job), tasks)).await?;
        }
        Result::Ok(())
    })?;
    let mut tasks: Vec<usize> = (0..JOBS * TASKS_PER_JOB).collect();
    Random(7).shuffle(&mut tasks);
    let tasks: Vec<TaskId> = tasks.into_iter().map(task_id).collect();
    let settled = || -> Result<u64> {
        // A commit of its own lets go of what the last one had to keep.
        change_together(&context, &manager, &tasks[..1], 1)?;
        Ok(allocated())
    };
    let (store, mut passed) = (settled()? - before, 0);
    let snapshot = manager.snapshot()?;
    let start = allocated();
    writeln!(std::io::stdout(), "{store}")?;
    for updates in [1_000, 10_000, 100_000, tasks.len()] {
        change_together(&context, &manager, &tasks[passed..updates], TOGETHER)?;
        passed = updates;
        writeln!(std::io::stdout(), "{passed} {}", allocated().saturating_sub(start))?;
    }
    drop(snapshot);
    writeln!(std::io::stdout(), "{}", settled()?.saturating_sub(start))?;
    context.close(&manager)
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
