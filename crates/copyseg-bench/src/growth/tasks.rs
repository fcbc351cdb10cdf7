//! Reading, changing, recovering and holding more and more tasks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use copyseg_core::{ManagerOptions, MetaManager};

use super::{Curve, Line};
use crate::Result;
use crate::measure::{Samples, Unit, alternate, alternate_times, nanos_per, turns};
use crate::memory::{Holder, measure_held, measure_in_child};
use crate::prepared::{IdleCatalog, Prepared};
use crate::reference::{NoStore, Reference};
use crate::rows::{Context, random_tasks, toggle};
use crate::workload::{Workload, task_id};

const CALLS: usize = 50_000;

/// A workload of so many tasks, a hundred to a job.
const fn of(tasks: usize) -> Workload {
    Workload { tasks, jobs: tasks / 100 }
}

/// Measures copyseg and the reference at each size.
fn beside_reference(
    context: &Context,
    copyseg: impl Fn(&MetaManager, Workload) -> Result<f64>,
    reference: impl Fn(&Reference, Workload) -> Result<f64>,
) -> Result<Vec<Line>> {
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for tasks in [10_000, 100_000, 1_000_000] {
        let workload = of(tasks);
        let manager = context.manager(&context.runtime.block_on(Prepared::new(workload))?, Duration::ZERO)?;
        let original = Reference::of(workload, Box::new(NoStore));
        let [a, b] =
            alternate([&mut || copyseg(&manager, workload), &mut || reference(&original, workload)])?;
        own.push((tasks as f64, a.median()));
        theirs.push((tasks as f64, b.median()));
        context.close(&manager)?;
    }
    Ok(vec![("copyseg", own), ("reference design", theirs)])
}

pub(super) fn read(context: &Context) -> Result<Curve> {
    let ids = |workload: Workload| workload.picks(42, 1 << 18).into_iter().map(task_id).collect::<Vec<_>>();
    let lines = beside_reference(
        context,
        |manager, workload| {
            let ids = ids(workload);
            let state = |id| manager.get_task(id).ok().flatten().map(|task| task.state);
            Ok(nanos_per(ids.len(), || ids.iter().filter(|id| state(**id).is_some()).count()))
        },
        |reference, workload| {
            let ids = ids(workload);
            let state = |id: i64| reference.get_task(id).map(|task| task.state);
            Ok(nanos_per(ids.len(), || ids.iter().filter(|id| state(id.0).is_some()).count()))
        },
    )?;
    let why = "A level of the tree for every eightfold, and beyond a few megabytes a miss of the caches for each; a hash \
               map has two misses in all.";
    Ok(Curve {
        what: "get + state of a random task",
        by: "tasks",
        unit: Unit::Nanos,
        lines,
        turns: turns(),
        why,
    })
}

pub(super) fn update(context: &Context) -> Result<Curve> {
    let lines = beside_reference(
        context,
        |manager, workload| {
            let tasks = random_tasks(workload);
            let start = Instant::now();
            context.runtime.block_on(async {
                for id in tasks.iter().cycle().take(CALLS) {
                    toggle(manager, *id).await?;
                }
                Result::Ok(())
            })?;
            Ok(start.elapsed().as_nanos() as f64 / CALLS as f64)
        },
        |reference, workload| {
            let tasks = random_tasks(workload);
            let start = Instant::now();
            tasks.iter().cycle().take(CALLS).try_for_each(|id| reference.toggle_task(id.0))?;
            Ok(start.elapsed().as_nanos() as f64 / CALLS as f64)
        },
    )?;
    let why = "One writer, who waits for each change, on a catalog that takes no time. Two switches between tasks of the runtime \
               are in every figure of copyseg; what grows is the copying of a path in each index that the change touches. \
               The reference changes its maps in place, and so makes its readers wait.";
    Ok(Curve {
        what: "one change of a random task",
        by: "tasks",
        unit: Unit::Nanos,
        lines,
        turns: turns(),
        why,
    })
}

pub(super) fn recovery(context: &Context) -> Result<Curve> {
    let mut line = Vec::new();
    for tasks in [10_000, 100_000, 1_000_000, 10_000_000] {
        let path = context.flat(of(tasks))?;
        let repeats = if tasks > 1_000_000 { 1 } else { turns() };
        let [nanos]: [Samples; 1] = alternate_times(
            repeats,
            tasks <= 1_000_000,
            [&mut || {
                let start = Instant::now();
                let catalog = Arc::new(IdleCatalog::of_flat(&path)?);
                let manager =
                    context.runtime.block_on(MetaManager::open(catalog, ManagerOptions::default()))?;
                let nanos = start.elapsed().as_nanos() as f64;
                context.close(&manager)?;
                Ok(nanos)
            }],
        )?;
        line.push((tasks as f64, nanos.median()));
    }
    let why = "From a flat file, so that no engine is measured. In proportion to the tasks, but for the misses of the caches; 10 \
               million once, in memory that the kernel has yet to clear, which takes half of the first recovery of a process.";
    let lines = vec![("copyseg", line)];
    Ok(Curve { what: "recovery", by: "tasks", unit: Unit::Nanos, lines, turns: turns(), why })
}

pub(super) fn memory(context: &Context) -> Result<Curve> {
    let (mut allocated, mut resident, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for tasks in [10_000, 100_000, 1_000_000, 10_000_000] {
        let (path, size) = (context.flat(of(tasks))?, tasks as f64);
        let footprint = measure_in_child(Holder::Copyseg, &path, of(tasks))?;
        allocated.push((size, footprint.allocated as f64 / size));
        resident.push((size, footprint.resident as f64 / size));
        theirs.push((size, measure_in_child(Holder::Reference, &path, of(tasks))?.allocated as f64 / size));
    }
    let lines = vec![("copyseg", allocated), ("copyseg, resident", resident), ("reference design", theirs)];
    let why = "In a process of its own. With few tasks, the resident figure shows what any process takes: buffers \
               of the file and stacks of threads.";
    Ok(Curve {
        what: "bytes per task, jobs of 100 tasks included",
        by: "tasks",
        unit: Unit::Bytes,
        lines,
        turns: 1,
        why,
    })
}

pub(super) fn held(_: &Context) -> Result<Curve> {
    let held = measure_held()?;
    let kept = held.kept.iter().map(|(updates, bytes)| (*updates as f64, *bytes as f64)).collect();
    let store = held.kept.iter().map(|(updates, _)| (*updates as f64, held.store as f64)).collect();
    if held.kept.iter().any(|(_, kept)| *kept > held.store) {
        return Err(format!("a snapshot keeps more than the store: {held:?}").into());
    }
    let why = "1 M tasks on a catalog that keeps nothing, counted by the allocator of a process of its own; each update is of another \
               task, all over the store, so that in the end nothing is shared any more. Few updates keep a path each in \
               every tree that they change; more of them share what they keep, up to one more copy of what there is. \
               It is checked that it is never more than that.";
    let lines = vec![("kept for the snapshot", kept), ("the store", store)];
    Ok(Curve {
        what: "memory kept by a snapshot that is held",
        by: "updates",
        unit: Unit::Bytes,
        lines,
        turns: 1,
        why,
    })
}
