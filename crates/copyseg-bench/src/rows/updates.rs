//! P5, P12, P13: changes a second by many writers: on a slow catalog, on redb and on etcd.

mod redb;
mod etcd;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use copyseg_core::{Catalog, ManagerOptions, MetaManager, Operation, RecordKind, TaskId};

use super::latency::COMMIT;
use super::{Context, random_tasks, run_reference, run_writers};
use crate::Result;
use crate::measure::{Samples, Unit, alternate};
use crate::prepared::{Counted, Prepared};
use crate::reference::{Reference, SleepingStore};
use crate::table::Row;
use crate::workload::Workload;

pub(super) use self::etcd::{client, on_etcd};
pub(super) use self::redb::on_redb;
pub use self::redb::{bare_database, commit_loop};

const LENGTH: Duration = Duration::from_secs(1);

pub(super) fn slow_catalog(context: &Context) -> Result<Vec<Row>> {
    const WRITERS: usize = 64;
    let manager = context.manager(context.million()?, COMMIT)?;
    let reference = Reference::of(Workload::MILLION, Box::new(SleepingStore(COMMIT)));
    let tasks = random_tasks(Workload::MILLION);
    let [copyseg, theirs, limit] = alternate([
        &mut || run_writers(context, &manager, &tasks, WRITERS, LENGTH),
        &mut || run_reference(&reference, &tasks, WRITERS, LENGTH),
        &mut || Ok(WRITERS as f64 * sleeps_per_second()),
    ])?;
    let (ratio, bare) = (copyseg.over(&theirs), copyseg.over(&limit));
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P5",
        workload: "changes by 64 writers, catalog of 1 ms a commit".into(),
        copyseg: copyseg.show(Unit::Rate),
        reference: theirs.show(Unit::Rate),
        limit: format!("{} (64 in every commit)", limit.show(Unit::Rate)),
        ratios: format!("{}, {}", ratio.show(Unit::Ratio), Unit::Ratio.show(bare.median())),
        target: "≥ 30".into(),
        met: Some(ratio.median() >= 30.0),
    }])
}

fn sleeps_per_second() -> f64 {
    let (start, mut sleeps) = (Instant::now(), 0);
    while start.elapsed() < LENGTH / 4 {
        std::thread::sleep(COMMIT);
        sleeps += 1;
    }
    f64::from(sleeps) / start.elapsed().as_secs_f64()
}

/// A manager on a durable store, and what is measured on it.
pub struct Setting<'a> {
    context: &'a Context,
    catalog: Arc<Counted>,
    manager: MetaManager,
    tasks: Vec<TaskId>,
    /// Records of tasks that writers change, in the same random order: what a bare loop writes.
    records: Vec<Operation>,
}

/// What one row came to.
struct Measured {
    copyseg: Samples,
    theirs: Samples,
    bare: Samples,
    /// Changes in one commit, on average.
    size: f64,
}

/// A bare loop of commits of so many of these records: records a second.
pub type BareLoop<'a> = &'a dyn Fn(&[Operation], usize) -> Result<f64>;

impl<'a> Setting<'a> {
    fn new(
        context: &'a Context,
        catalog: Arc<dyn Catalog>,
        prepared: &Prepared,
        workload: Workload,
    ) -> Result<Self> {
        let catalog = Arc::new(Counted::new(catalog));
        let opened = MetaManager::open(Arc::clone(&catalog) as Arc<dyn Catalog>, ManagerOptions::default());
        let manager = context.runtime.block_on(opened)?;
        Ok(Self::of(context, manager, catalog, prepared, workload))
    }

    /// That of a manager on `catalog`, which holds `prepared`.
    pub fn of(
        context: &'a Context,
        manager: MetaManager,
        catalog: Arc<Counted>,
        prepared: &Prepared,
        workload: Workload,
    ) -> Self {
        let tasks = random_tasks(workload);
        let record = |id: &TaskId| {
            let is_it = |record: &&copyseg_core::Record| record.key.id == id.0;
            let first = prepared.records.partition_point(|record| record.key.kind < RecordKind::Task);
            let found = prepared.records[first..].binary_search_by_key(&id.0, |record| record.key.id);
            let record = prepared.records.get(first + found.ok()?).filter(is_it)?;
            Some(Operation::Put(record.key, record.bytes.as_ref().into()))
        };
        let records = tasks.iter().filter_map(record).collect();
        Self { context, catalog, manager, tasks, records }
    }

    /// So many writers for a second: changes a second. `size` becomes how many there were in a commit, on average.
    ///
    /// # Errors
    /// Those of the manager.
    pub fn copyseg(&self, writers: usize, size: &Cell<f64>) -> Result<f64> {
        let before = self.catalog.counts();
        let rate = run_writers(self.context, &self.manager, &self.tasks, writers, LENGTH)?;
        let after = self.catalog.counts();
        let commits = (after.commits - before.commits).max(1);
        size.set((after.operations - before.operations) as f64 / commits as f64);
        Ok(rate)
    }

    /// A bare loop of commits of `size`, for a second.
    ///
    /// # Errors
    /// Those of the loop.
    pub fn bare(&self, size: &Cell<f64>, bare: BareLoop<'_>) -> Result<f64> {
        let size = (size.get().round() as usize).max(1);
        // In the order of their keys, as copyseg's batches are: neighbours share pages.
        let mut records = self.records.clone();
        records.chunks_mut(size).for_each(|batch| batch.sort_by_key(Operation::key));
        bare(&records, size)
    }

    /// Lets so many writers of copyseg, of the reference, and a bare loop of the same batches take turns.
    fn measure(&self, writers: usize, reference: &Reference, bare: BareLoop<'_>) -> Result<Measured> {
        let size = Cell::new(1.0);
        let [copyseg, theirs, bare] = alternate([
            &mut || self.copyseg(writers, &size),
            &mut || run_reference(reference, &self.tasks, writers, LENGTH),
            &mut || self.bare(&size, bare),
        ])?;
        Ok(Measured { copyseg, theirs, bare, size: size.get() })
    }

    /// Lets go of the store.
    ///
    /// # Errors
    /// Those of closing it.
    pub fn close(self) -> Result<()> {
        self.context.close(&self.manager)
    }
}

impl Measured {
    fn row(&self, id: &'static str, workload: String) -> Row {
        let (ratio, bare) = (self.copyseg.over(&self.theirs), self.copyseg.over(&self.bare));
        Row {
            id,
            workload,
            copyseg: format!("{}, {:.0} a commit", self.copyseg.show(Unit::Rate), self.size),
            reference: self.theirs.show(Unit::Rate),
            limit: format!("{} (a bare loop of such commits)", self.bare.show(Unit::Rate)),
            ratios: format!("{}, {}", ratio.show(Unit::Ratio), bare.show(Unit::Ratio)),
            ..Row::default()
        }
    }

    fn by_reference(&self) -> f64 {
        self.copyseg.over(&self.theirs).median()
    }

    fn by_loop(&self) -> f64 {
        self.copyseg.over(&self.bare).median()
    }
}
