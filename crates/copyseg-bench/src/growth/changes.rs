//! More writers, larger transactions, larger jobs, and what they write to the disk.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use copyseg_core::{Catalog, ManagerOptions, MetaManager, NewJob, NewTask, SegmentId, SegmentPair, TaskId};
use copyseg_redb::{RedbCatalog, RedbOptions};

use super::Curve;
use crate::Result;
use crate::measure::{Unit, alternate, turns};
use crate::prepared::{Counted, Prepared};
use crate::rows::{Context, Setting, Written, bare_database, change_together, commit_loop, random_tasks};
use crate::workload::Workload;

const WORKLOAD: Workload = Workload { tasks: 100_000, jobs: 1_000 };

/// A manager on a new file of redb.
fn on_redb(context: &Context, folder: &tempfile::TempDir) -> Result<(MetaManager, Arc<Counted>)> {
    context.runtime.block_on(async {
        let catalog = RedbCatalog::open(folder.path().join("catalog.redb"), RedbOptions::default()).await?;
        Prepared::new(WORKLOAD).await?.fill(&catalog).await?;
        let catalog = Arc::new(Counted::new(Arc::new(catalog)));
        let counted = Arc::clone(&catalog) as Arc<dyn Catalog>;
        Ok((MetaManager::open(counted, ManagerOptions::default()).await?, catalog))
    })
}

pub(super) fn writers(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let (manager, catalog) = on_redb(context, &folder)?;
    let prepared = context.runtime.block_on(Prepared::new(WORKLOAD))?;
    let bare = bare_database(&folder.path().join("bare.redb"), &prepared)?;
    let setting = Setting::of(context, manager, catalog, &prepared, WORKLOAD);
    let (mut own, mut loops) = (Vec::new(), Vec::new());
    for writers in [1, 2, 8, 64, 256, 1_024] {
        let size = Cell::new(1.0);
        let [rate, bare] = alternate([&mut || setting.copyseg(writers, &size), &mut || {
            setting.bare(&size, &|records, size| commit_loop(&bare, records, size))
        }])?;
        own.push((writers as f64, rate.median()));
        loops.push((writers as f64, bare.median()));
    }
    setting.close()?;
    let why = "100 k tasks. All who wait share a commit, so the rate grows with the writers until preparing and writing their \
               records takes as long as the sync does. The loop makes commits as large as copyseg's were, one after the other.";
    let lines = vec![("copyseg", own), ("a bare loop of such commits", loops)];
    Ok(Curve { what: "durable changes on redb", by: "writers", unit: Unit::Rate, lines, turns: turns(), why })
}

pub(super) fn transactions(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let (durable, _) = on_redb(context, &folder)?;
    let prepared = context.runtime.block_on(Prepared::new(WORKLOAD))?;
    let idle = context.manager(&prepared, Duration::ZERO)?;
    let tasks = random_tasks(WORKLOAD);
    let mut lines = vec![("on redb", Vec::new()), ("catalog that takes no time", Vec::new())];
    for size in [1, 10, 100] {
        let [on_redb, on_none] =
            alternate([&mut || changed(context, &durable, &tasks, size, 2_000.max(20 * size)), &mut || {
                changed(context, &idle, &tasks, size, 20_000)
            }])?;
        lines[0].1.push((size as f64, on_redb.median()));
        lines[1].1.push((size as f64, on_none.median()));
    }
    context.close(&durable)?;
    context.close(&idle)?;
    let why = "One writer; time for each task. What one transaction costs, whatever is in it, is shared by its tasks.";
    Ok(Curve {
        what: "one change",
        by: "tasks in a transaction",
        unit: Unit::Nanos,
        lines,
        turns: turns(),
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
    let tasks = &tasks[..count.min(tasks.len())];
    let start = Instant::now();
    change_together(context, manager, tasks, size)?;
    Ok(start.elapsed().as_nanos() as f64 / tasks.len() as f64)
}

pub(super) fn segments(context: &Context) -> Result<Curve> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let (manager, catalog) = on_redb(context, &folder)?;
    let before = context.runtime.block_on(catalog.head())?.counts;
    let mut line = Vec::new();
    for segments in [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000i64] {
        let [nanos] = alternate([&mut || {
            let pair = |id| SegmentPair::new(SegmentId(1 << 50 | id), SegmentId(1 << 51 | id));
            let task = |first| NewTask::new((first..segments.min(first + 100)).map(pair));
            let tasks: Vec<NewTask> = (0..segments).step_by(100).map(task).collect();
            let start = Instant::now();
            let job = context.runtime.block_on(manager.add_job(NewJob::default(), tasks))?;
            let nanos = start.elapsed().as_nanos() as f64;
            context.runtime.block_on(manager.remove_job(job))?;
            // The removed records are swept in the background, which the next turn is not to wait for.
            while context.runtime.block_on(catalog.head())?.counts != before {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(nanos)
        }])?;
        line.push((segments as f64, nanos.median()));
    }
    context.close(&manager)?;
    let why = "On redb, 100 segments to a task. Flat while one sync is most of it, then in proportion.";
    let lines = vec![("copyseg", line)];
    Ok(Curve {
        what: "adding a job",
        by: "segments in the job",
        unit: Unit::Nanos,
        lines,
        turns: turns(),
        why,
    })
}

pub(super) fn written(context: &Context) -> Result<Curve> {
    let written = Written::new(context)?;
    let mut lines = vec![("random tasks", vec![]), ("neighbours", vec![]), ("the records alone", vec![])];
    for size in [1, 4, 16, 64, 256, 1_024] {
        let (random, neighbours) =
            (written.count(&written.random, size)?, written.count(&written.neighbours, size)?);
        for (line, figure) in [random.to_file, neighbours.to_file, random.records].into_iter().enumerate() {
            lines[line].1.push((size as f64, figure));
        }
    }
    written.close()?;
    let why = "1 M tasks, counted where redb hands bytes to the file. A commit writes nine pages of 4 KiB at least: the leaf of the \
               record and three above it, one for the head, one for the list of tables, three in which redb keeps account \
               of pages. Random changes that share a commit share all but their leaf and the page above it; neighbours \
               share these too.";
    Ok(Curve {
        what: "bytes written to the file per change, redb",
        by: "tasks in a commit",
        unit: Unit::Bytes,
        lines,
        turns: 1,
        why,
    })
}
