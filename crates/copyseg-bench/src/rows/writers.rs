//! Writers that change one task after the other for a while, in copyseg and in the reference.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{MetaManager, NodeId, TaskId, Txn};

use super::Context;
use crate::Result;
use crate::reference::Reference;
use crate::workload::{Workload, task_id};

/// The tasks that writers change, in random order: those that wait or run.
pub fn random_tasks(workload: Workload) -> Vec<TaskId> {
    workload.open_tasks().into_iter().map(task_id).collect()
}

/// Claims a pending task, or gives one that runs back: a change of state and of worker.
///
/// # Errors
/// Those of the manager.
pub async fn toggle(manager: &MetaManager, id: TaskId) -> Result<()> {
    match manager.get_task(id)?.and_then(|task| task.claim()) {
        Some(claim) => manager.release_task(claim, "").await?,
        None => drop(manager.claim_task(id, NodeId(1)).await?),
    }
    Ok(())
}

/// The same to all of `ids`, one writer, `size` of them in each transaction and so in each commit.
///
/// # Errors
/// Those of the manager.
pub fn change_together(context: &Context, manager: &MetaManager, ids: &[TaskId], size: usize) -> Result<()> {
    context.runtime.block_on(async {
        for chunk in ids.chunks(size) {
            manager.transact(|txn| chunk.iter().try_for_each(|id| toggle_in(txn, *id))).await?;
        }
        Ok(())
    })
}

fn toggle_in(txn: &mut Txn<'_>, id: TaskId) -> copyseg_core::Result<()> {
    match txn.task(id).and_then(|task| task.claim()) {
        Some(claim) => txn.release_task(claim, ""),
        None => txn.claim_task(id, NodeId(1)).map(drop),
    }
}

/// So many writers, each on tasks of its own, for `length`: changes a second.
///
/// # Errors
/// The first error of a writer.
pub fn run_writers(
    context: &Context,
    manager: &MetaManager,
    tasks: &[TaskId],
    writers: usize,
    length: Duration,
) -> Result<f64> {
    context.runtime.block_on(async {
        let start = Instant::now();
        let mut running = Vec::new();
        for tasks in tasks.chunks(tasks.len() / writers).take(writers) {
            let (manager, tasks) = (manager.clone(), tasks.to_vec());
            running.push(tokio::spawn(async move {
                let mut changes = 0;
                for id in tasks.iter().cycle().take_while(|_| start.elapsed() < length) {
                    toggle(&manager, *id).await?;
                    changes += 1;
                }
                Result::Ok(changes)
            }));
        }
        let mut changes = 0;
        for writer in running {
            changes += writer.await??;
        }
        Ok(f64::from(changes) / start.elapsed().as_secs_f64())
    })
}

/// So many threads, each on tasks of its own, for `length`: changes a second.
///
/// # Errors
/// If a writer failed.
pub fn run_reference(
    reference: &Reference,
    tasks: &[TaskId],
    writers: usize,
    length: Duration,
) -> Result<f64> {
    let (changes, failed, start) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        for tasks in tasks.chunks(tasks.len() / writers).take(writers) {
            let (changes, failed) = (&changes, &failed);
            scope.spawn(move || {
                for id in tasks.iter().cycle().take_while(|_| start.elapsed() < length) {
                    if reference.toggle_task(id.0).is_err() {
                        failed.store(true, Ordering::Relaxed);
                        break;
                    }
                    changes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    if failed.into_inner() {
        return Err("a writer of the reference failed".into());
    }
    Ok(changes.into_inner() as f64 / start.elapsed().as_secs_f64())
}
