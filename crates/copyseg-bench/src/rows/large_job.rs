//! P16: adding a job of a million segments, beside readers.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{
    Catalog, Limits, ManagerOptions, MemoryCatalog, MetaManager, NewJob, NewTask, Revision, SegmentId,
    SegmentPair, TaskId,
};
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::TryStreamExt;

use super::Context;
use crate::Result;
use crate::measure::{Samples, Unit, alternate, burn, paced_until, percentile, processor_time};
use crate::prepared::Prepared;
use crate::table::Row;
use crate::workload::{Workload, task_id};

const TASKS: i64 = 10_000;
const SEGMENTS: i64 = 100;
/// The time between two reads, on average.
const PERIOD: Duration = Duration::from_millis(1);
/// What is there before, for the readers to read.
const BEFORE: Workload = Workload { tasks: 10_000, jobs: 100 };

pub(super) fn added(context: &Context) -> Result<Vec<Row>> {
    let prepared = context.runtime.block_on(Prepared::new(BEFORE))?;
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let redb = context.runtime.block_on(async {
        let open = |name| RedbCatalog::open(folder.path().join(name), RedbOptions::default());
        let (used, bare) = (open("jobs.redb").await?, open("bare.redb").await?);
        prepared.fill(&used).await?;
        Result::Ok([Arc::new(used) as Arc<dyn Catalog>, Arc::new(bare)])
    })?;
    let mut rows = vec![measure(context, redb, "redb", 2.0)?];
    if let Some(endpoints) = &context.etcd {
        let open = |prefix| EtcdCatalog::open(EtcdOptions::new(endpoints.split(',')).prefix(prefix));
        let etcd = context.runtime.block_on(async {
            let (used, bare) = (open("bench/jobs").await?, open("bench/bare-jobs").await?);
            prepared.fill(&used).await?;
            Result::Ok([Arc::new(used) as Arc<dyn Catalog>, Arc::new(bare)])
        })?;
        rows.push(measure(context, etcd, "etcd", 10.0)?);
    }
    Ok(rows)
}

/// The first catalog is added to; the second, empty, shows what writing the same records takes without a manager.
fn measure(context: &Context, catalogs: [Arc<dyn Catalog>; 2], name: &str, seconds_max: f64) -> Result<Row> {
    let [used, bare] = catalogs;
    let manager = context.runtime.block_on(MetaManager::open(used, ManagerOptions::default()))?;
    let idle = context.runtime.block_on(Prepared::new(BEFORE))?;
    let idle = context.manager(&idle, Duration::ZERO)?;
    let ids: Vec<TaskId> = BEFORE.picks(44, 1 << 12).into_iter().map(task_id).collect();
    let mut times = Samples::default();
    let used = Cell::new((0.0, Duration::ZERO));
    let [beside, control] = alternate([
        &mut || {
            let added = add(context, &manager, &ids)?;
            times.0.push(added.took.as_nanos() as f64);
            used.set((added.cores, added.took));
            Ok(percentile(&added.reads, 0.99))
        },
        &mut || {
            let (cores, length) = used.get();
            Ok(percentile(&control(&idle, &ids, cores, length)?, 0.99))
        },
    ])?;
    times.0.remove(0);
    let ratio = beside.over(&control);
    let limit = context.runtime.block_on(write_alone(&*bare))?;
    context.close(&manager)?;
    context.close(&idle)?;
    context.runtime.block_on(bare.close())?;
    Ok(Row {
        id: "P16",
        workload: format!("add a job of 1 M segments in 10,000 tasks, {name}; p99 of a read meanwhile"),
        copyseg: format!("{}; {}", times.show(Unit::Nanos), beside.show(Unit::Nanos)),
        reference: "cannot: one value would hold all segments".into(),
        limit: format!(
            "{} (writing alone); {} (control)",
            Unit::Nanos.show(limit),
            control.show(Unit::Nanos)
        ),
        ratios: format!(
            "{} of writing, {} of the control",
            Unit::Ratio.show(times.median() / limit),
            ratio.show(Unit::Ratio)
        ),
        target: format!("< {seconds_max} s, and ≤ 2 × the control"),
        met: Some(times.median() < seconds_max * 1e9 && ratio.median() <= 2.0),
    })
}

struct Added {
    reads: Vec<u64>,
    took: Duration,
    /// How many cores it kept busy.
    cores: f64,
}

/// Adds the job beside a reader, and removes it again so that every turn begins with the same store.
fn add(context: &Context, manager: &MetaManager, ids: &[TaskId]) -> Result<Added> {
    let tasks = tasks();
    let stop = AtomicBool::new(false);
    let added = thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(manager, ids, &stop));
        let (before, start) = (processor_time(), Instant::now());
        let job = context.runtime.block_on(manager.add_job(NewJob::default(), tasks));
        let took = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        let cores = processor_time().saturating_sub(before).as_secs_f64() / took.as_secs_f64();
        let reads = reader.join().map_err(|_| "the reader panicked")?;
        context.runtime.block_on(manager.remove_job(job?))?;
        Result::Ok(Added { reads, took, cores })
    })?;
    // The removed records are swept in the background.
    thread::sleep(Duration::from_secs(1));
    Ok(added)
}

fn control(idle: &MetaManager, ids: &[TaskId], cores: f64, length: Duration) -> Result<Vec<u64>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut left = cores;
        while left > 0.0 {
            let share = left.min(1.0);
            let stop = &stop;
            scope.spawn(move || burn(share, stop));
            left -= 1.0;
        }
        let reader = scope.spawn(|| read_until(idle, ids, &stop));
        thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| "the reader panicked".into())
    })
}

fn read_until(manager: &MetaManager, ids: &[TaskId], stop: &AtomicBool) -> Vec<u64> {
    let mut ids = ids.iter().cycle();
    let read = || {
        let task = ids.next().and_then(|id| manager.get_task(*id).ok().flatten());
        black_box(task.map(|task| task.state));
    };
    paced_until(|| stop.load(Ordering::Relaxed), PERIOD, 5, read)
}

/// Writes the records of the same job without a manager: nanoseconds.
async fn write_alone(catalog: &dyn Catalog) -> Result<f64> {
    let memory = MemoryCatalog::with_limits(Limits {
        operations_max: usize::MAX,
        bytes_max: usize::MAX,
        commits_max: 1,
    });
    let manager = MetaManager::open(Arc::new(memory.clone()), ManagerOptions::default()).await?;
    manager.add_job(NewJob::default(), tasks()).await?;
    let pages: Vec<_> = memory.load().await?.pages.try_collect().await?;
    let prepared = Prepared::of(pages.into_iter().flatten().collect(), Revision(1));
    let start = Instant::now();
    prepared.fill(catalog).await?;
    Ok(start.elapsed().as_nanos() as f64)
}

fn tasks() -> Vec<NewTask> {
    let pair = |number| SegmentPair::new(SegmentId(1 << 50 | number), SegmentId(1 << 51 | number));
    (0..TASKS).map(|task| NewTask::new((task * SEGMENTS..(task + 1) * SEGMENTS).map(pair))).collect()
}
