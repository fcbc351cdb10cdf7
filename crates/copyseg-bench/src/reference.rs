//! The design that copyseg replaces, in Rust: Milvus' copy-segment manager with its locking and its algorithms.
//!
//! One read-write lock over everything, held across the catalog's call; a hash map with indexes by job and collection,
//! every other question a scan; each change rewrites the whole record, one at a time. Where Rust offers something
//! faster than the original had, the reference has it: a faster lock, a faster hash, records without a second
//! pointer.

use std::sync::Arc;

use bincode::{Decode, Encode};
use copyseg_core::TaskState;
use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;

use crate::Result;
use crate::workload::{self, Workload};

/// Where changes are kept: whole records by key, one call for each.
pub trait Store: Send + Sync {
    /// Writes one record.
    ///
    /// # Errors
    /// Those of the storage.
    fn save(&self, key: i64, record: &[u8]) -> Result<()>;
}

/// A store that keeps nothing and takes no time.
#[derive(Debug)]
pub struct NoStore;

impl Store for NoStore {
    fn save(&self, _key: i64, record: &[u8]) -> Result<()> {
        std::hint::black_box(record);
        Ok(())
    }
}

/// A store that keeps nothing and sleeps for every record.
#[derive(Debug)]
pub struct SleepingStore(pub std::time::Duration);

impl Store for SleepingStore {
    fn save(&self, _key: i64, _record: &[u8]) -> Result<()> {
        std::thread::sleep(self.0);
        Ok(())
    }
}

/// A task as the original has it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TaskRecord {
    /// Its id.
    pub id: i64,
    /// Its job.
    pub job: i64,
    /// Its collection.
    pub collection: i64,
    /// Its version.
    pub version: i64,
    /// Its slots.
    pub slots: i64,
    /// Its worker, or 0.
    pub node: i64,
    /// Its state, by the number of copyseg's.
    pub state: u8,
    /// Why it failed.
    pub reason: String,
    /// When it was added.
    pub created: u64,
    /// When it ended.
    pub completed: u64,
    /// Source, target and partition of each segment.
    pub segments: Vec<(i64, i64, i64)>,
}

/// A job as the original has it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JobRecord {
    /// Its id.
    pub id: i64,
    /// Its database.
    pub database: i64,
    /// Its collection.
    pub collection: i64,
    /// The collection's name.
    pub collection_name: String,
    /// Its state, by a number.
    pub state: u8,
    /// Why it failed.
    pub reason: String,
    /// Source and target of each of its segments, with their partition.
    pub segments: Vec<(i64, i64, i64)>,
    /// When it is given up.
    pub timeout: u64,
    /// When it started.
    pub started: u64,
    /// When it ended.
    pub completed: u64,
    /// Options by name.
    pub options: Vec<(String, String)>,
    /// How many segments it has, and how many of them are copied.
    pub segment_counts: (i64, i64),
    /// How many rows.
    pub rows: i64,
    /// The snapshot's name.
    pub snapshot: String,
}

/// The manager.
pub struct Reference {
    state: RwLock<State>,
    store: Box<dyn Store>,
}

#[derive(Default)]
struct State {
    jobs: HashMap<i64, Arc<JobRecord>>,
    tasks: HashMap<i64, Arc<TaskRecord>>,
    by_job: HashMap<i64, HashSet<i64>>,
    by_collection: HashMap<i64, HashSet<i64>>,
}

impl Reference {
    /// A manager of these jobs and tasks, with its indexes built.
    pub fn open(
        jobs: impl IntoIterator<Item = JobRecord>,
        tasks: impl IntoIterator<Item = TaskRecord>,
        store: Box<dyn Store>,
    ) -> Self {
        let mut state = State::default();
        for task in tasks {
            state.by_job.entry(task.job).or_default().insert(task.id);
            state.by_collection.entry(task.collection).or_default().insert(task.id);
            state.tasks.insert(task.id, Arc::new(task));
        }
        state.jobs.extend(jobs.into_iter().map(|job| (job.id, Arc::new(job))));
        Self { state: RwLock::new(state), store }
    }

    /// A manager of a workload.
    pub fn of(workload: Workload, store: Box<dyn Store>) -> Self {
        let jobs = (0..workload.jobs).map(job_record);
        Self::open(jobs, (0..workload.tasks).map(|task| task_record(task, workload.jobs)), store)
    }

    /// `GetTask`.
    pub fn get_task(&self, id: i64) -> Option<Arc<TaskRecord>> {
        self.state.read().tasks.get(&id).cloned()
    }

    /// `GetTaskBy`: a list of all, then a filter. The original copies pointers, which costs no count of references.
    pub fn tasks_by(&self, filters: &[&dyn Fn(&TaskRecord) -> bool]) -> Vec<Arc<TaskRecord>> {
        let state = self.state.read();
        let all: Vec<&Arc<TaskRecord>> = state.tasks.values().collect();
        all.into_iter().filter(|task| filters.iter().all(|filter| filter(task))).cloned().collect()
    }

    /// `GetTasksByJobID`.
    pub fn tasks_of_job(&self, id: i64) -> Vec<Arc<TaskRecord>> {
        let state = self.state.read();
        let ids = state.by_job.get(&id).into_iter().flatten();
        ids.filter_map(|id| state.tasks.get(id).cloned()).collect()
    }

    /// How far a job is, as the original's callers count it: its tasks, by state.
    pub fn progress(&self, id: i64) -> [usize; TaskState::ALL.len()] {
        let mut counts = [0; TaskState::ALL.len()];
        for task in self.tasks_of_job(id) {
            counts[task.state as usize] += 1;
        }
        counts
    }

    /// `CountJobBy`: a scan that lists them first.
    pub fn count_jobs(&self, filter: &dyn Fn(&JobRecord) -> bool) -> usize {
        let state = self.state.read();
        let found: Vec<_> = state.jobs.values().filter(|job| filter(job)).cloned().collect();
        found.len()
    }

    /// `UpdateTask`: the lock is held while the store writes.
    ///
    /// # Errors
    /// Those of the store.
    pub fn update_task(&self, id: i64, action: impl FnOnce(&mut TaskRecord)) -> Result<()> {
        let mut state = self.state.write();
        let Some(task) = state.tasks.get(&id) else { return Ok(()) };
        let mut updated = TaskRecord::clone(task);
        action(&mut updated);
        self.store.save(id, &encode(&updated)?)?;
        state.tasks.insert(id, Arc::new(updated));
        Ok(())
    }

    /// Claims a pending task or gives one that runs back, as the writers of the benchmarks do.
    ///
    /// # Errors
    /// Those of the store.
    pub fn toggle_task(&self, id: i64) -> Result<()> {
        self.update_task(id, |task| {
            let is_pending = task.state == TaskState::Pending as u8;
            let state = if is_pending { TaskState::InProgress } else { TaskState::Pending };
            (task.state, task.node) = (state as u8, i64::from(is_pending));
        })
    }
}

/// The bytes of a record.
///
/// # Errors
/// Those of the encoder.
pub fn encode(record: &impl Encode) -> Result<Vec<u8>> {
    Ok(bincode::encode_to_vec(record, bincode::config::standard())?)
}

const CREATED: u64 = 1_760_000_000_000_000_000;

/// Task number `task` of a workload of so many jobs.
pub fn task_record(task: usize, jobs: usize) -> TaskRecord {
    let state = workload::state_of(task);
    let created = CREATED + task as u64;
    TaskRecord {
        id: workload::task_id(task).0,
        job: workload::job_id(task % jobs).0,
        collection: workload::collection_of(task % jobs).0,
        version: 0,
        slots: 1,
        node: if state == TaskState::Pending { 0 } else { workload::node_of(task).0 },
        state: state as u8,
        reason: if state == TaskState::Failed { workload::FAILURE.to_owned() } else { String::new() },
        created,
        completed: if state.is_terminal() { created + 5_000_000_000 } else { 0 },
        segments: segments(task),
    }
}

/// Job number `job`, with the states of the original benchmark: 0 completed, 1 executing, 2 pending, 3 failed.
pub fn job_record(job: usize) -> JobRecord {
    let state = match workload::state_of(job) {
        TaskState::Completed => 0,
        TaskState::InProgress => 1,
        TaskState::Pending => 2,
        _ => 3,
    };
    JobRecord {
        id: workload::job_id(job).0,
        database: 1,
        collection: workload::collection_of(job).0,
        collection_name: format!("collection_{}", job as i64 % workload::COLLECTIONS),
        state,
        reason: String::new(),
        segments: segments(job),
        timeout: CREATED + 3_600_000_000_000,
        started: CREATED + job as u64,
        completed: 0,
        options: vec![("copy_index".to_owned(), "true".to_owned())],
        segment_counts: (8, 4),
        rows: 1_000_000,
        snapshot: format!("snapshot_{job}"),
    }
}

fn segments(task: usize) -> Vec<(i64, i64, i64)> {
    let partition = |id: Option<copyseg_core::PartitionId>| id.map_or(0, |id| id.0);
    workload::pairs_of(task).map(|pair| (pair.source.0, pair.target.0, partition(pair.partition))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_as_the_workload_says() {
        let workload = Workload { tasks: 10_000, jobs: 100 };
        let reference = Reference::of(workload, Box::new(NoStore));
        let pending = reference.tasks_by(&[&|task| task.state == TaskState::Pending as u8]);
        assert_eq!(pending.len(), 409);
        assert_eq!(reference.tasks_of_job(workload::job_id(3).0).len(), 100);
        reference.toggle_task(pending[0].id).unwrap();
        let task = reference.get_task(pending[0].id).unwrap();
        assert_eq!(task.state, TaskState::InProgress as u8);
    }
}
