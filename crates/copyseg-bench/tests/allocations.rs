//! What the hot read and the hot update allocate: a guard that does not depend on how busy the machine is.
//!
//! An update is as expensive as the paths that it copies, and every copy is an allocation. `cargo xtask instructions` counts
//! what else it does.

use std::alloc::System;
use std::time::Duration;

use copyseg_bench::Result;
use copyseg_bench::prepared::Prepared;
use copyseg_bench::rows::{random_tasks, toggle};
use copyseg_bench::workload::Workload;
use copyseg_core::{MetaManager, TaskId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 1_000;
/// About twice what was measured when this was written: 43 allocations of 8.6 KB in all.
const UPDATE_ALLOCATIONS_MAX: usize = 80;
const UPDATE_BYTES_MAX: usize = 18 << 10;

// One test, because the counters are those of the process.
#[tokio::test]
async fn a_read_allocates_nothing_and_an_update_a_bounded_number_of_bytes() {
    let workload = Workload { tasks: 20_000, jobs: 200 };
    let manager = Prepared::new(workload).await.unwrap().manager(Duration::ZERO).await.unwrap();
    let tasks = random_tasks(workload);
    toggle(&manager, tasks[0]).await.unwrap();

    let region = Region::new(ALLOCATOR);
    for id in &tasks[..CALLS] {
        assert!(manager.get_task(*id).unwrap().is_some());
    }
    assert_eq!(region.change().allocations, 0);

    let region = Region::new(ALLOCATOR);
    for id in &tasks[..CALLS] {
        toggle(&manager, *id).await.unwrap();
    }
    let change = region.change();
    let (allocations, bytes) = (change.allocations / CALLS, change.bytes_allocated / CALLS);
    assert!(allocations <= UPDATE_ALLOCATIONS_MAX, "{allocations} allocations for an update");
    assert!(bytes <= UPDATE_BYTES_MAX, "{bytes} bytes allocated for an update");
    eprintln!("an update: {allocations} allocations, {bytes} bytes");
    a_held_snapshot_keeps_only_the_paths_that_changed(&manager, &tasks[..100]).await.unwrap();
    manager.close().await.unwrap();
}

/// However many updates pass: each replaces what the one before it had copied.
async fn a_held_snapshot_keeps_only_the_paths_that_changed(
    manager: &MetaManager,
    tasks: &[TaskId],
) -> Result<()> {
    let held = manager.snapshot()?;
    let region = Region::new(ALLOCATOR);
    for _ in 0..100 {
        for id in tasks {
            toggle(manager, *id).await?;
        }
    }
    let change = region.change();
    let kept = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    assert!(
        kept <= tasks.len() * UPDATE_BYTES_MAX,
        "{kept} bytes are kept for {} changed tasks",
        tasks.len()
    );
    eprintln!("held: {kept} bytes after {} updates of {} tasks", 100 * tasks.len(), tasks.len());
    drop(held);
    Ok(())
}
