//! P11, S1: what tasks, jobs and a snapshot that is held take in memory.

use super::Context;
use crate::Result;
use crate::measure::Unit;
use crate::memory::{Footprint, Holder, measure_held, measure_in_child};
use crate::table::Row;
use crate::workload::Workload;

/// Jobs without tasks: what a job itself takes.
const JOBS: Workload = Workload { tasks: 0, jobs: 100_000 };

pub(super) fn of_store(context: &Context) -> Result<Vec<Row>> {
    let (tasks, jobs) = (both(context, Workload::MILLION)?, both(context, JOBS)?);
    let row = |workload: &str, [copyseg, theirs]: [Footprint; 2], count: usize| {
        let per_one = |bytes: u64| bytes as f64 / count as f64;
        let show =
            |it: Footprint| format!("{:.0} B, resident {:.0} B", per_one(it.allocated), per_one(it.resident));
        let row = Row {
            id: "P11",
            workload: workload.into(),
            copyseg: show(copyseg),
            reference: show(theirs),
            ratios: Unit::Ratio.show(copyseg.allocated as f64 / theirs.allocated as f64),
            ..Row::default()
        };
        // What is resident besides depends on the allocator.
        (row, per_one(copyseg.allocated))
    };
    let (of_tasks, per_task) =
        row("memory per task of 8 segments, jobs included", tasks, Workload::MILLION.tasks);
    let of_tasks = Row { target: "≤ 450 B".into(), met: Some(per_task <= 450.0), ..of_tasks };
    Ok(vec![of_tasks, row("memory per job, of 100,000 without tasks", jobs, JOBS.jobs).0])
}

fn both(context: &Context, workload: Workload) -> Result<[Footprint; 2]> {
    let records = context.flat(workload)?;
    let measure = |holder| measure_in_child(holder, &records, workload);
    Ok([measure(Holder::Copyseg)?, measure(Holder::Reference)?])
}

pub(super) fn of_held_snapshot(_: &Context) -> Result<Vec<Row>> {
    let held = measure_held()?;
    let Some((passed, kept)) = held.kept.last() else {
        return Err("no update was measured".into());
    };
    Ok(vec![Row {
        id: "S1",
        workload: format!(
            "kept by a snapshot that is held while {passed} updates pass, each of another task"
        ),
        copyseg: format!(
            "{}, {} of it also when it is let go",
            Unit::Bytes.show(*kept as f64),
            Unit::Bytes.show(held.left as f64)
        ),
        limit: format!("{} (the store of 1 M tasks)", Unit::Bytes.show(held.store as f64)),
        ratios: Unit::Ratio.show(*kept as f64 / held.store as f64),
        target: "≤ 1".into(),
        met: Some(*kept <= held.store),
        ..Row::default()
    }])
}
