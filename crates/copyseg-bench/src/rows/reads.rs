//! P1, P2: reading one task, alone and on two threads.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use copyseg_core::{MetaManager, TaskState};
use hashbrown::HashMap;

use super::Context;
use crate::Result;
use crate::measure::{Unit, alternate, nanos_per};
use crate::reference::{NoStore, Reference, TaskRecord, task_record};
use crate::table::Row;
use crate::workload::{Workload, task_id};

const READS: usize = 1 << 20;

/// Nobody shares it and nothing guards it: the least that a read by id can cost.
type PlainMap = HashMap<i64, Box<TaskRecord>>;

pub(super) fn idle(context: &Context) -> Result<Vec<Row>> {
    let manager = context.manager(context.million()?, Duration::ZERO)?;
    let reference = Reference::of(Workload::MILLION, Box::new(NoStore));
    let plain = plain_map();
    let ids = ids();
    let [copyseg, theirs, limit] = alternate([
        &mut || Ok(nanos_per(READS, || read_copyseg(&manager, &ids))),
        &mut || Ok(nanos_per(READS, || read_reference(&reference, &ids))),
        &mut || Ok(nanos_per(READS, || read_plain(&plain, &ids))),
    ])?;
    let (ratio, bare) = (copyseg.over(&theirs), copyseg.over(&limit));
    let met = ratio.median() <= 3.0 && copyseg.median() < 300.0;
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P1",
        workload: "get + state of a random task, one thread".into(),
        copyseg: copyseg.show(Unit::Nanos),
        reference: theirs.show(Unit::Nanos),
        limit: format!("{} (a bare hash map)", limit.show(Unit::Nanos)),
        ratios: format!("{}, {}", ratio.show(Unit::Ratio), Unit::Ratio.show(bare.median())),
        target: "≤ 3, and < 300 ns".into(),
        met: Some(met),
    }])
}

pub(super) fn scaling(context: &Context) -> Result<Vec<Row>> {
    let manager = context.manager(context.million()?, Duration::ZERO)?;
    let reference = Reference::of(Workload::MILLION, Box::new(NoStore));
    let plain = [plain_map(), plain_map()];
    let ids = ids();
    let on = |threads: usize, read: &(dyn Fn(usize) -> usize + Sync)| -> Result<f64> {
        let nanos = nanos_per(READS * threads, || {
            thread::scope(|scope| (0..threads).for_each(|number| drop(scope.spawn(move || read(number)))));
        });
        Ok(1e9 / nanos)
    };
    let own = |_: usize| read_copyseg(&manager, &ids);
    let theirs = |_: usize| read_reference(&reference, &ids);
    let private = |number: usize| read_plain(&plain[number], &ids);
    let [own_1, own_2, theirs_1, theirs_2, private_1, private_2] = alternate([
        &mut || on(1, &own),
        &mut || on(2, &own),
        &mut || on(1, &theirs),
        &mut || on(2, &theirs),
        &mut || on(1, &private),
        &mut || on(2, &private),
    ])?;
    let (own, theirs, limit) = (own_2.over(&own_1), theirs_2.over(&theirs_1), private_2.over(&private_1));
    let ratio = own.over(&limit);
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P2",
        workload: "the same, rate of two threads by that of one".into(),
        copyseg: format!("{}, {}", own.show(Unit::Ratio), Unit::Rate.show(own_2.median())),
        reference: format!("{}, {}", theirs.show(Unit::Ratio), Unit::Rate.show(theirs_2.median())),
        limit: format!("{} (a private map each)", limit.show(Unit::Ratio)),
        ratios: format!("{} of the limit", ratio.show(Unit::Ratio)),
        target: "≥ 0.9 of the limit".into(),
        met: Some(ratio.median() >= 0.9),
    }])
}

fn ids() -> Vec<i64> {
    Workload::MILLION.picks(42, READS).into_iter().map(|task| task_id(task).0).collect()
}

fn plain_map() -> PlainMap {
    let Workload { tasks, jobs } = Workload::MILLION;
    (0..tasks).map(|task| (task_id(task).0, Box::new(task_record(task, jobs)))).collect()
}

fn read_copyseg(manager: &MetaManager, ids: &[i64]) -> usize {
    let state = |id: &i64| manager.get_task(copyseg_core::TaskId(*id)).ok().flatten().map(|task| task.state);
    ids.iter().filter(|id| black_box(state(id)) == Some(TaskState::Pending)).count()
}

fn read_reference(reference: &Reference, ids: &[i64]) -> usize {
    let state = |id: &i64| reference.get_task(*id).map(|task| task.state);
    ids.iter().filter(|id| black_box(state(id)) == Some(TaskState::Pending as u8)).count()
}

fn read_plain(tasks: &PlainMap, ids: &[i64]) -> usize {
    let state = |id: &i64| tasks.get(id).map(|task| task.state);
    ids.iter().filter(|id| black_box(state(id)) == Some(TaskState::Pending as u8)).count()
}
