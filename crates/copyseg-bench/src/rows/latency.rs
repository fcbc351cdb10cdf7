//! P3, P4: how long a read takes while others write and scan.
//!
//! The control is the same reader on a manager that nobody else uses, beside threads that burn the same processor time
//! on unrelated memory: what is left is what the writer and the scan do to the reader, and not what a busy machine
//! does.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{MetaManager, TaskFilter, TaskId};

use super::queries::check;
use super::{Context, random_tasks, run_reference, toggle};
use crate::Result;
use crate::measure::{Samples, Unit, alternate, burn, paced, percentile, processor_time, unrelated_memory};
use crate::reference::{Reference, SleepingStore};
use crate::table::Row;
use crate::workload::{Workload, task_id};

/// How long a commit takes.
pub(super) const COMMIT: Duration = Duration::from_millis(1);
const LENGTH: Duration = Duration::from_secs(2);
/// The time between two reads, on average. The reference cannot keep up with so many, and its reads queue, as those of the Go
/// original do.
const PERIOD: Duration = Duration::from_millis(1);

pub(super) fn beside_a_writer(context: &Context) -> Result<Vec<Row>> {
    let row = measure(context, 0)?;
    Ok(vec![Row { id: "P3", workload: "p99 of a paced read, one writer on a catalog of 1 ms".into(), ..row }])
}

pub(super) fn beside_a_scan(context: &Context) -> Result<Vec<Row>> {
    let row = measure(context, 1)?;
    Ok(vec![Row { id: "P4", workload: "the same while all tasks are scanned over and over".into(), ..row }])
}

fn measure(context: &Context, scanners: usize) -> Result<Row> {
    let manager = context.manager(context.million()?, COMMIT)?;
    let idle = context.manager(context.million()?, COMMIT)?;
    let reference = Reference::of(Workload::MILLION, Box::new(SleepingStore(COMMIT)));
    let tasks = random_tasks(Workload::MILLION);
    let ids: Vec<TaskId> = Workload::MILLION.picks(44, 1 << 16).into_iter().map(task_id).collect();
    // What the writer uses of a core, known after the first turn.
    let used = AtomicU64::new(0);
    let mut unrelated: Vec<Vec<u64>> = (0..=scanners).map(|_| unrelated_memory()).collect();
    let [mut copyseg_p50, mut control_p50, mut their_p50] = [(); 3].map(|()| Samples::default());
    let [copyseg, control, theirs] = alternate([
        &mut || {
            let (nanos, share) = copyseg_read(context, &manager, &tasks, &ids, scanners)?;
            used.store((share * 1e6) as u64, Ordering::Relaxed);
            copyseg_p50.0.push(percentile(&nanos, 0.5));
            Ok(percentile(&nanos, 0.99))
        },
        &mut || {
            let nanos = control_read(&idle, &ids, used.load(Ordering::Relaxed) as f64 / 1e6, &mut unrelated)?;
            control_p50.0.push(percentile(&nanos, 0.5));
            Ok(percentile(&nanos, 0.99))
        },
        &mut || {
            let nanos = reference_read(&reference, &tasks, &ids, scanners)?;
            their_p50.0.push(percentile(&nanos, 0.5));
            Ok(percentile(&nanos, 0.99))
        },
    ])?;
    let ratio = copyseg.over(&control);
    context.close(&manager)?;
    context.close(&idle)?;
    let show = |p99: &Samples, p50: &Samples| {
        format!("{}, p50 {}", p99.show(Unit::Nanos), Unit::Nanos.show(p50.median()))
    };
    Ok(Row {
        copyseg: show(&copyseg, &copyseg_p50),
        reference: show(&theirs, &their_p50),
        limit: format!("{} (control)", show(&control, &control_p50)),
        ratios: format!(
            "{}, {} of the control",
            Unit::Ratio.show(copyseg.over(&theirs).median()),
            ratio.show(Unit::Ratio)
        ),
        target: "≤ 2 × the control".into(),
        met: Some(ratio.median() <= 2.0),
        ..Row::default()
    })
}

/// The sorted latencies, and what the writer used of a core.
fn copyseg_read(
    context: &Context,
    manager: &MetaManager,
    tasks: &[TaskId],
    ids: &[TaskId],
    scanners: usize,
) -> Result<(Vec<u64>, f64)> {
    let stop = AtomicBool::new(false);
    let (before, start) = (processor_time(), Instant::now());
    let nanos = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            context.runtime.block_on(async {
                let mut tasks = tasks.iter().cycle();
                while !stop.load(Ordering::Relaxed) {
                    toggle(manager, *tasks.next().ok_or("no task")?).await?;
                }
                Result::Ok(())
            })
        });
        let scan = || {
            // A filter of the caller's own looks at every task, and finds none.
            let filter = TaskFilter::new().matching(|task| task.slots == 2);
            while !stop.load(Ordering::Relaxed) {
                let found = manager.count_tasks(&filter)?;
                check(found, 0)?;
            }
            Result::Ok(())
        };
        let scans: Vec<_> = (0..scanners).map(|_| scope.spawn(scan)).collect();
        let nanos = read_paced(ids, |id| Some(manager.get_task(id).ok()??.state as u8));
        stop.store(true, Ordering::Relaxed);
        for scan in scans {
            scan.join().map_err(|_| "a scan panicked")??;
        }
        let nanos = nanos?;
        writer.join().map_err(|_| "the writer panicked")??;
        Result::Ok(nanos)
    })?;
    let used = processor_time().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    Ok((nanos, (used - scanners as f64).clamp(0.01, 1.0)))
}

fn control_read(
    idle: &MetaManager,
    ids: &[TaskId],
    share: f64,
    unrelated: &mut [Vec<u64>],
) -> Result<Vec<u64>> {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        for (number, memory) in unrelated.iter_mut().enumerate() {
            // One as the writer does, the others as scans do.
            let share = if number == 0 { share } else { 1.0 };
            scope.spawn(move || burn(share, memory, stop));
        }
        let nanos = read_paced(ids, |id| Some(idle.get_task(id).ok()??.state as u8));
        stop.store(true, Ordering::Relaxed);
        nanos
    })
}

fn reference_read(
    reference: &Reference,
    tasks: &[TaskId],
    ids: &[TaskId],
    scanners: usize,
) -> Result<Vec<u64>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| run_reference(reference, tasks, 1, LENGTH));
        for _ in 0..scanners {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    black_box(reference.tasks_by(&[&|task| task.slots == 2]).len());
                }
            });
        }
        let nanos = read_paced(ids, |id| Some(reference.get_task(id.0)?.state));
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        nanos
    })
}

/// How long each read took; every one has to find its task.
fn read_paced(ids: &[TaskId], read: impl Fn(TaskId) -> Option<u8>) -> Result<Vec<u64>> {
    let (mut ids, mut missed) = (ids.iter().cycle(), 0);
    let nanos = paced(LENGTH, PERIOD, 5, || {
        let state = ids.next().and_then(|id| read(*id));
        missed += usize::from(black_box(state).is_none());
    });
    check(missed, 0)?;
    Ok(nanos)
}
