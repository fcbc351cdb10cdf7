//! P1, P2: reading one task, alone and on two threads.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{MetaManager, TaskState};
use hashbrown::HashMap;

use super::Context;
use crate::Result;
use crate::measure::{Samples, Unit, alternate, nanos_per_of_passes};
use crate::reference::{NoStore, Reference, TaskRecord, task_record};
use crate::table::Row;
use crate::workload::{Workload, task_id};

const READS: usize = 1 << 20;
/// How many reads one and two threads make before they take turns again.
const SLICE: usize = 1 << 18;

/// Nobody shares it and nothing guards it: the least that a read by id can cost.
type PlainMap = HashMap<i64, Box<TaskRecord>>;

pub(super) fn idle(context: &Context) -> Result<Vec<Row>> {
    let manager = context.manager(context.million()?, Duration::ZERO)?;
    let reference = Reference::of(Workload::MILLION, Box::new(NoStore));
    let plain = plain_map();
    let ids = ids(42);
    let [copyseg, theirs, limit] = alternate([
        &mut || Ok(nanos_per_of_passes(READS, || read_copyseg(&manager, &ids))),
        &mut || Ok(nanos_per_of_passes(READS, || read_reference(&reference, &ids))),
        &mut || Ok(nanos_per_of_passes(READS, || read_plain(&plain, &ids))),
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
    // Each thread its own, so that none finds in the caches what the other has just read.
    let ids = [ids(42), ids(45)].map(|ids| ids[..SLICE].to_vec());
    let own = |number: usize| read_copyseg(&manager, &ids[number]);
    let theirs = |number: usize| read_reference(&reference, &ids[number]);
    let private = |number: usize| read_plain(&plain[number], &ids[number]);
    let [mut own_rate, mut their_rate] = [(); 2].map(|()| Samples::default());
    let [own, theirs, limit] = alternate([
        &mut || Ok(scaled(&own, &mut own_rate)),
        &mut || Ok(scaled(&theirs, &mut their_rate)),
        &mut || Ok(scaled(&private, &mut Samples::default())),
    ])?;
    let ratio = own.over(&limit);
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P2",
        workload: "the same, rate of two threads by that of one".into(),
        copyseg: format!("{}, {}", own.show(Unit::Ratio), Unit::Rate.show(own_rate.median())),
        reference: format!("{}, {}", theirs.show(Unit::Ratio), Unit::Rate.show(their_rate.median())),
        limit: format!("{} (a private map each)", limit.show(Unit::Ratio)),
        ratios: format!("{} of the limit", ratio.show(Unit::Ratio)),
        target: "≥ 0.9 of the limit".into(),
        met: Some(ratio.median() >= 0.9),
    }])
}

/// The rate of two threads by that of one, and the rate of two, kept in `rates`. One and two take turns within the turn, many
/// times, because a virtual machine has its second processor now more and now less.
fn scaled(read: &(dyn Fn(usize) -> usize + Sync), rates: &mut Samples) -> f64 {
    const SLICES: usize = 8;
    let time = |threads: usize| {
        let start = Instant::now();
        thread::scope(|scope| (0..threads).for_each(|number| drop(scope.spawn(move || read(number)))));
        start.elapsed().as_secs_f64()
    };
    let (mut alone, mut together) = (0.0, 0.0);
    for _ in 0..SLICES {
        alone += time(1);
        together += time(2);
    }
    rates.0.push((2 * SLICES * SLICE) as f64 / together);
    2.0 * alone / together
}

fn ids(seed: u64) -> Vec<i64> {
    Workload::MILLION.picks(seed, READS).into_iter().map(|task| task_id(task).0).collect()
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
