//! The tasks and jobs of every benchmark: the workload of `docs/performance.md`, the same for every contender.

use std::sync::Arc;

use copyseg_core::{
    Catalog, CollectionId, DatabaseId, ManagerOptions, ManualClock, MemoryCatalog, MetaManager, NewJob,
    NewTask, NodeId, PartitionId, Record, RecordKind, Revision, SegmentId, SegmentPair, TaskId, TaskState,
    Timestamp, Txn,
};
use copyseg_core::{JobId, Limits};
use futures::TryStreamExt;

use crate::Result;

const BASE: i64 = 450_000_000_000_000_000;
const CREATED_MS: u64 = 1_760_000_000_000;

/// What a failed task says.
pub const FAILURE: &str = "copy segment failed: object storage returned 404";
/// How many segments a task copies.
pub const SEGMENTS_PER_TASK: i64 = 8;
/// How many collections the jobs restore into.
pub const COLLECTIONS: i64 = 10;

/// So many tasks over so many jobs: task `i` belongs to job `i % jobs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// How many tasks.
    pub tasks: usize,
    /// How many jobs.
    pub jobs: usize,
}

impl Workload {
    /// A million tasks in 10,000 jobs.
    pub const MILLION: Self = Self { tasks: 1_000_000, jobs: 10_000 };
    /// A million tasks in 100 jobs of 10,000.
    pub const LARGE_JOBS: Self = Self { tasks: 1_000_000, jobs: 100 };

    /// `count` numbers below the number of tasks, the same for the same seed.
    pub fn picks(&self, seed: u64, count: usize) -> Vec<usize> {
        let mut random = Random(seed);
        (0..count).map(|_| random.below(self.tasks)).collect()
    }

    /// The numbers of the tasks that wait or run, in an order that is random and the same each time.
    pub fn open_tasks(&self) -> Vec<usize> {
        let mut open: Vec<usize> = (0..self.tasks).filter(|task| !state_of(*task).is_terminal()).collect();
        Random(7).shuffle(&mut open);
        open
    }

    /// How many tasks are in `state`.
    pub fn count(&self, state: TaskState) -> usize {
        (0..self.tasks).filter(|task| state_of(*task) == state).count()
    }

    /// The records of a store with this workload, as copyseg itself writes them, and the last revision in them.
    ///
    /// A job of copyseg cannot be completed while tasks of it are open, so all jobs are executing; tasks have the states
    /// of the workload.
    ///
    /// # Errors
    /// Those of the manager that makes them.
    pub async fn records(&self) -> Result<(Vec<Record>, Revision)> {
        // A manager per stretch of jobs: small trees, and every core works.
        let stretch = self.jobs.div_ceil(64).max(1);
        let mut making = Vec::new();
        for first in (0..self.jobs).step_by(stretch) {
            let (workload, jobs) = (*self, first..self.jobs.min(first + stretch));
            making.push(tokio::spawn(async move { workload.stretch(jobs).await }));
        }
        let (mut records, mut revision) = (Vec::with_capacity(self.tasks + self.jobs + 2), Revision(0));
        for (position, made) in making.into_iter().enumerate() {
            let (stretch, last) = made.await??;
            let is_new = |record: &Record| position == 0 || record.key.kind != RecordKind::Store;
            records.extend(stretch.into_iter().filter(is_new));
            revision = revision.max(last);
        }
        records.sort_by_key(|record| record.key);
        Ok((records, revision))
    }

    async fn stretch(self, jobs: std::ops::Range<usize>) -> Result<(Vec<Record>, Revision)> {
        let limits = Limits { operations_max: usize::MAX, bytes_max: usize::MAX, commits_max: 1 };
        let catalog = MemoryCatalog::with_limits(limits);
        let clock = ManualClock::at(Timestamp::from_millis(CREATED_MS));
        let options = ManagerOptions { clock: Arc::new(clock), ..ManagerOptions::default() };
        let manager = MetaManager::open(Arc::new(catalog.clone()), options).await?;
        for job in jobs {
            manager.transact(|txn| self.add_job(txn, job)).await?;
        }
        let revision = manager.snapshot()?.revision();
        let pages: Vec<_> = catalog.load().await?.pages.try_collect().await?;
        Ok((pages.into_iter().flatten().collect(), revision))
    }

    fn add_job(self, txn: &mut Txn<'_>, job: usize) -> copyseg_core::Result<()> {
        let tasks = (job..self.tasks).step_by(self.jobs);
        txn.add_job(new_job(job), tasks.clone().map(new_task).collect())?;
        for task in tasks {
            let (id, state) = (task_id(task), state_of(task));
            if state == TaskState::Pending {
                continue;
            }
            let claim = txn.claim_task(id, node_of(task))?;
            match state {
                TaskState::Completed => txn.complete_task(claim)?,
                TaskState::Failed => txn.fail_task(claim, FAILURE)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The id of task number `task`.
pub fn task_id(task: usize) -> TaskId {
    TaskId(BASE + 2_000_000_000 + task as i64)
}

/// The id of job number `job`.
pub fn job_id(job: usize) -> JobId {
    JobId(BASE + 1_000_000_000 + job as i64)
}

/// The collection of job number `job`.
pub fn collection_of(job: usize) -> CollectionId {
    CollectionId(BASE + 3_000_000_000 + job as i64 % COLLECTIONS)
}

/// The worker of task number `task`, unless it is pending.
pub fn node_of(task: usize) -> NodeId {
    NodeId(1 + task as i64 % 16)
}

/// The state of task number `task`.
pub fn state_of(task: usize) -> TaskState {
    match mix(task as u64) % 100 {
        ..90 => TaskState::Completed,
        90..95 => TaskState::InProgress,
        95..99 => TaskState::Pending,
        _ => TaskState::Failed,
    }
}

/// Job number `job`, to be added.
pub fn new_job(job: usize) -> NewJob {
    NewJob {
        id: Some(job_id(job)),
        database: DatabaseId(1),
        collection: collection_of(job),
        collection_name: format!("collection_{}", job as i64 % COLLECTIONS),
        snapshot: format!("snapshot_{job}"),
        options: [("copy_index".to_owned(), "true".to_owned())].into(),
        rows: Some(1_000_000),
        deadline: Some(Timestamp::from_millis(CREATED_MS + 3_600_000)),
        ..NewJob::default()
    }
}

/// Task number `task`, to be added.
pub fn new_task(task: usize) -> NewTask {
    NewTask { id: Some(task_id(task)), ..NewTask::new(pairs_of(task)) }
}

/// What task number `task` copies.
pub fn pairs_of(task: usize) -> impl Iterator<Item = SegmentPair> {
    (0..SEGMENTS_PER_TASK).map(move |pair| {
        let number = SEGMENTS_PER_TASK * task as i64 + pair;
        let (source, target) = (BASE + 10_000_000_000 + number, BASE + 20_000_000_000 + number);
        SegmentPair {
            partition: Some(PartitionId(BASE + 4_000_000_000 + pair % 4)),
            ..SegmentPair::new(SegmentId(source), SegmentId(target))
        }
    })
}

/// The generator of the Go baseline (SplitMix64), so that both have the same states and the same order.
#[derive(Debug, Clone, Copy)]
pub struct Random(pub u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        number
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit as u64) as usize
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksums of the Go baseline.
    #[test]
    fn the_states_are_those_of_the_original_benchmark() {
        let counts = |tasks| {
            let workload = Workload { tasks, jobs: 100 };
            let states = [TaskState::Pending, TaskState::InProgress, TaskState::Completed, TaskState::Failed];
            states.map(|state| workload.count(state))
        };
        assert_eq!(counts(10_000), [409, 554, 8_945, 92]);
        assert_eq!(counts(1_000_000), [40_143, 50_250, 899_612, 9_995]);
    }

    #[tokio::test]
    async fn the_records_hold_the_workload() {
        let workload = Workload { tasks: 1_000, jobs: 10 };
        let (records, _) = workload.records().await.unwrap();
        assert_eq!(records.len(), 1_000 + 10 + 2);
    }
}
