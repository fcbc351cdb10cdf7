//! More writers, larger transactions, larger jobs, and what they write to the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use copyseg_core::{
    Catalog, ManagerOptions, MetaManager, NewJob, NewTask, NodeId, SegmentId, SegmentPair, TaskId, Txn,
};
use copyseg_redb::{RedbCatalog, RedbOptions};

use super::Curve;
use crate::Result;
use crate::measure::{Unit, alternate_times};
use crate::prepared::{Counted, Prepared};
use crate::rows::{Context, random_tasks, run_writers};
use crate::workload::Workload;

const WORKLOAD: Workload = Workload { tasks: 100_000, jobs: 1_000 };
const LENGTH: Duration = Duration::from_secs(1);

/// A manager on a new file of redb, and the catalog that counts what goes there.
fn on_redb(context: &Context, folder: &tempfile::TempDir) -> Result<(MetaManager, Arc<Counted>)> {
    context.runtime.block_on(async {
        let catalog = RedbCatalog::open(folder.path().join("catalog.redb"), RedbOptions::default()).await?;
        Prepared::new(WORKLOAD).await?.fill(&catalog).await?;
        let catalog = Arc::new(Counted::new(Arc::new(catalog)));
        let opened = MetaManager::open(Arc::clone(&catalog) as Arc<dyn Catalog>, ManagerOptions::default());
        Ok((opened.await?, catalog))
    })
}

pub(super) fn writers(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let (manager, _) = on_redb(context, &folder)?;
    let tasks = random_tasks(WORKLOAD);
    let mut line = Vec::new();
    for writers in [1, 2, 8, 64, 256, 1_024] {
        let [rate] =
            alternate_times(5, true, [&mut || run_writers(context, &manager, &tasks, writers, LENGTH)])?;
        line.push((writers as f64, rate.median()));
    }
    context.close(&manager)?;
    let why = "100 k tasks. All who wait share a commit, so the rate grows with the writers until preparing and writing their \
               records takes as long as the sync does.";
    let lines = vec![("copyseg", line)];
    Ok(Curve {
        name: "writers",
        what: "durable changes on redb",
        by: "writers",
        unit: Unit::Rate,
        lines,
        why,
    })
}

pub(super) fn transactions(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let durable = on_redb(context, &folder)?.0;
    let prepared = context.runtime.block_on(Prepared::new(WORKLOAD))?;
    let idle = context.manager(&prepared, Duration::ZERO)?;
    let tasks = random_tasks(WORKLOAD);
    let mut lines = vec![("on redb", Vec::new()), ("catalog that takes no time", Vec::new())];
    for size in [1, 10, 100] {
        let [on_redb, on_none] = alternate_times(
            5,
            true,
            [&mut || changed(context, &durable, &tasks, size, 2_000.max(20 * size)), &mut || {
                changed(context, &idle, &tasks, size, 20_000)
            }],
        )?;
        lines[0].1.push((size as f64, on_redb.median()));
        lines[1].1.push((size as f64, on_none.median()));
    }
    context.close(&durable)?;
    context.close(&idle)?;
    let why = "One writer; time for each task. What one transaction costs, whatever is in it, is shared by its tasks.";
    Ok(Curve {
        name: "transactions",
        what: "one change",
        by: "tasks in a transaction",
        unit: Unit::Nanos,
        lines,
        why,
    })
}

/// Nanoseconds for each of `count` changes, `size` of them in a transaction.
fn changed(
    context: &Context,
    manager: &MetaManager,
    tasks: &[TaskId],
    size: usize,
    count: usize,
) -> Result<f64> {
    let start = Instant::now();
    context.runtime.block_on(async {
        for chunk in tasks[..count.min(tasks.len())].chunks(size) {
            manager.transact(|txn| chunk.iter().try_for_each(|id| toggle(txn, *id))).await?;
        }
        Result::Ok(())
    })?;
    Ok(start.elapsed().as_nanos() as f64 / count.min(tasks.len()) as f64)
}

fn toggle(txn: &mut Txn<'_>, id: TaskId) -> copyseg_core::Result<()> {
    match txn.task(id).and_then(|task| task.claim()) {
        Some(claim) => txn.release_task(claim, ""),
        None => txn.claim_task(id, NodeId(1)).map(drop),
    }
}

pub(super) fn segments(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let (manager, _) = on_redb(context, &folder)?;
    let mut line = Vec::new();
    for segments in [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000i64] {
        let [nanos] = alternate_times(
            5,
            true,
            [&mut || {
                let pair = |id| SegmentPair::new(SegmentId(1 << 50 | id), SegmentId(1 << 51 | id));
                let task = |first| NewTask::new((first..segments.min(first + 100)).map(pair));
                let tasks: Vec<NewTask> = (0..segments).step_by(100).map(task).collect();
                let start = Instant::now();
                let job = context.runtime.block_on(manager.add_job(NewJob::default(), tasks))?;
                let nanos = start.elapsed().as_nanos() as f64;
                context.runtime.block_on(manager.remove_job(job))?;
                Ok(nanos)
            }],
        )?;
        line.push((segments as f64, nanos.median()));
    }
    context.close(&manager)?;
    let why = "On redb, 100 segments to a task. Flat while one sync is most of it, then in proportion.";
    let lines = vec![("copyseg", line)];
    Ok(Curve {
        name: "segments",
        what: "adding a job",
        by: "segments in the job",
        unit: Unit::Nanos,
        lines,
        why,
    })
}

pub(super) fn written(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let (manager, catalog) = on_redb(context, &folder)?;
    let random = random_tasks(WORKLOAD);
    let mut recent = random.clone();
    recent.sort_by_key(|id| std::cmp::Reverse(id.0));
    let mut lines =
        vec![("random tasks", vec![]), ("the newest tasks", vec![]), ("the records alone", vec![])];
    for size in [1, 10, 100, 1_000] {
        let count = 200.max(size);
        for (line, tasks) in [&random, &recent].into_iter().enumerate() {
            let before = (storage_bytes()?, catalog.counts());
            changed(context, &manager, tasks, size, count)?;
            let after = (storage_bytes()?, catalog.counts());
            lines[line].1.push((size as f64, (after.0 - before.0) as f64 / count as f64));
            if line == 0 {
                let records = after.1.bytes - before.1.bytes;
                lines[2].1.push((size as f64, records as f64 / count as f64));
            }
        }
    }
    context.close(&manager)?;
    let why = "Measured once, as the kernel counts it (`write_bytes` in `/proc/self/io`). redb copies the page of each record and \
               those above it up to the root, 4 KiB each; neighbours share them.";
    Ok(Curve {
        name: "written",
        what: "bytes written to the disk per change, redb",
        by: "tasks in a commit",
        unit: Unit::Bytes,
        lines,
        why,
    })
}

/// What this process has caused to be written to storage so far.
fn storage_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("/proc/self/io does not say")?.parse()?)
}
