//! P16: adding a job of a million segments, beside readers.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{
    Batch, Catalog, Head, ManagerOptions, MetaManager, NewJob, NewTask, Operation, SegmentId, SegmentPair,
    TaskId,
};
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_redb::{RedbCatalog, RedbOptions};

use super::Context;
use crate::Result;
use crate::measure::{
    Samples, Unit, alternate, burn, paced_until, percentile, processor_time, unrelated_memory,
};
use crate::prepared::{Counted, Prepared, repeat};
use crate::table::Row;
use crate::workload::{Workload, task_id};

const TASKS: i64 = 10_000;
const SEGMENTS: i64 = 100;
/// The time between two reads, on average.
const PERIOD: Duration = Duration::from_millis(1);
/// What is there before on etcd, as for its other rows.
const ON_ETCD: Workload = Workload { tasks: 100_000, jobs: 1_000 };

pub(super) fn added(context: &Context) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir_in(&context.scratch)?;
    let prepared = context.million()?;
    let redb = context.runtime.block_on(async {
        let open = |name| RedbCatalog::open(folder.path().join(name), RedbOptions::default());
        let (used, bare) = (open("jobs.redb").await?, open("bare.redb").await?);
        prepared.fill(&used).await?;
        prepared.fill(&bare).await?;
        Result::Ok((Counted::keeping(Arc::new(used)), Arc::new(bare) as Arc<dyn Catalog>))
    })?;
    let on_redb = measure(context, prepared, Workload::MILLION, redb)?;
    let mut rows = vec![row(&on_redb, "to 1 M tasks on redb", 2.0)];
    if let Some(endpoints) = &context.etcd {
        let prepared = context.runtime.block_on(Prepared::new(ON_ETCD))?;
        let open = |prefix| EtcdCatalog::open(EtcdOptions::new(endpoints.split(',')).prefix(prefix));
        let etcd = context.runtime.block_on(async {
            let (used, bare) = (open("bench/jobs").await?, open("bench/bare-jobs").await?);
            prepared.fill(&used).await?;
            prepared.fill(&bare).await?;
            Result::Ok((Counted::keeping(Arc::new(used)), Arc::new(bare) as Arc<dyn Catalog>))
        })?;
        let on_etcd = measure(context, &prepared, ON_ETCD, etcd)?;
        rows.push(row(&on_etcd, "to 100 k tasks on etcd", 10.0));
    }
    Ok(rows)
}

/// What one row came to.
struct Measured {
    times: Samples,
    /// How long the same commits took without a manager.
    writing: Samples,
    /// The 99th percentiles of reads.
    beside: Samples,
    control: Samples,
}

/// The first catalog is added to; to the second, which holds the same, the same batches are written without a manager.
fn measure(
    context: &Context,
    prepared: &Prepared,
    workload: Workload,
    catalogs: (Counted, Arc<dyn Catalog>),
) -> Result<Measured> {
    let (used, bare) = (Arc::new(catalogs.0), catalogs.1);
    let opened = MetaManager::open(Arc::clone(&used) as Arc<dyn Catalog>, ManagerOptions::default());
    let manager = context.runtime.block_on(opened)?;
    let idle = context.manager(prepared, Duration::ZERO)?;
    let ids: Vec<TaskId> = workload.picks(44, 1 << 16).into_iter().map(task_id).collect();
    let mut unrelated = [unrelated_memory(), unrelated_memory()];
    let mut times = Samples::default();
    let burnt = Cell::new((0.0, Duration::ZERO));
    let commits = RefCell::new(Vec::new());
    let [beside, control, mut writing] = alternate([
        &mut || {
            let added = add(context, &manager, &used, &ids)?;
            times.0.push(added.took.as_nanos() as f64);
            burnt.set((added.cores, added.took));
            commits.replace(added.commits);
            Ok(percentile(&added.reads, 0.99))
        },
        &mut || {
            let (cores, length) = burnt.get();
            Ok(percentile(&control(&idle, &ids, cores, length, &mut unrelated)?, 0.99))
        },
        &mut || context.runtime.block_on(write_alone(&*bare, &commits.borrow())),
    ])?;
    times.0.remove(0);
    writing.0.truncate(times.0.len());
    context.close(&manager)?;
    context.close(&idle)?;
    context.runtime.block_on(bare.close())?;
    Ok(Measured { times, writing, beside, control })
}

fn row(measured: &Measured, name: &str, seconds_max: f64) -> Row {
    let Measured { times, writing, beside, control } = measured;
    let ratio = beside.over(control);
    Row {
        id: "P16",
        workload: format!("add a job of 1 M segments in 10,000 tasks {name}; p99 of a read meanwhile"),
        copyseg: format!("{}; {}", times.show(Unit::Nanos), beside.show(Unit::Nanos)),
        reference: "cannot: one value would hold all segments".into(),
        limit: format!(
            "{} (the same commits alone); {} (control)",
            writing.show(Unit::Nanos),
            control.show(Unit::Nanos)
        ),
        ratios: format!(
            "{} of the commits, {} of the control",
            times.over(writing).show(Unit::Ratio),
            ratio.show(Unit::Ratio)
        ),
        target: format!("< {seconds_max} s, and ≤ 2 × the control"),
        met: Some(times.median() < seconds_max * 1e9 && ratio.median() <= 2.0),
    }
}

struct Added {
    reads: Vec<u64>,
    took: Duration,
    /// How many cores it kept busy.
    cores: f64,
    commits: Vec<(Head, Batch)>,
}

/// Adds the job beside a reader, and removes it again so that every turn begins with the same store.
fn add(context: &Context, manager: &MetaManager, catalog: &Counted, ids: &[TaskId]) -> Result<Added> {
    let tasks = tasks();
    drop(catalog.take());
    let before = context.runtime.block_on(catalog.head())?.counts;
    let stop = AtomicBool::new(false);
    let added = thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(manager, ids, &stop));
        let (used_before, start) = (processor_time(), Instant::now());
        let job = context.runtime.block_on(manager.add_job(NewJob::default(), tasks));
        let took = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        let cores = processor_time().saturating_sub(used_before).as_secs_f64() / took.as_secs_f64();
        let reads = reader.join().map_err(|_| "the reader panicked")?;
        let commits = catalog.take();
        context.runtime.block_on(manager.remove_job(job?))?;
        Result::Ok(Added { reads, took, cores, commits })
    })?;
    // The removed records are swept in the background.
    while context.runtime.block_on(catalog.head())?.counts != before {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(added)
}

fn control(
    idle: &MetaManager,
    ids: &[TaskId],
    cores: f64,
    length: Duration,
    unrelated: &mut [Vec<u64>],
) -> Result<Vec<u64>> {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let mut left = cores;
        for memory in unrelated {
            let share = left.clamp(0.0, 1.0);
            scope.spawn(move || burn(share, memory, stop));
            left -= share;
        }
        let reader = scope.spawn(|| read_until(idle, ids, stop));
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

/// Makes these commits without a manager, nanoseconds; and deletes what they wrote.
async fn write_alone(catalog: &dyn Catalog, commits: &[(Head, Batch)]) -> Result<f64> {
    let before = catalog.acquire().await?;
    let start = Instant::now();
    let mut head = repeat(catalog, before, commits).await?;
    let nanos = start.elapsed().as_nanos() as f64;
    for (_, batch) in commits {
        let deletes = batch.operations().iter().map(|operation| Operation::Delete(operation.key()));
        let next = Head { batch: head.batch.wrapping_add(1), ..head };
        catalog.commit(&head, &next, &deletes.collect()).await?;
        head = next;
    }
    Ok(nanos)
}

fn tasks() -> Vec<NewTask> {
    let pair = |number| SegmentPair::new(SegmentId(1 << 50 | number), SegmentId(1 << 51 | number));
    (0..TASKS).map(|task| NewTask::new((task * SEGMENTS..(task + 1) * SEGMENTS).map(pair))).collect()
}
