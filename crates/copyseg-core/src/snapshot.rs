//! Jobs and tasks at one revision, as an immutable value, and every query on them.

mod job_store;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::catalog::{RecordKey, RecordKind, Revision};
use crate::filter::{JobFilter, TaskFilter};
use crate::id::{CollectionId, JobId, TaskId};
use crate::job::Job;
use crate::task::{SegmentPair, Task};
use crate::task_store::{Progress, TaskStore};

use job_store::JobStore;

/// Jobs and tasks at one revision. Cheap to clone, and nothing that happens later changes it.
///
/// Every list comes in id order.
#[derive(Clone, Default)]
pub struct Snapshot(Arc<State>);

#[derive(Clone)]
struct State {
    revision: Revision,
    jobs: JobStore,
    tasks: TaskStore,
    set_aside: Arc<BTreeMap<RecordKey, SetAside>>,
    next_id: i64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: Revision::default(),
            jobs: JobStore::default(),
            tasks: TaskStore::default(),
            set_aside: Arc::default(),
            next_id: 1,
        }
    }
}

/// A record that could not be decoded. It stays in storage as it is, and its id stays taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Its key.
    pub key: RecordKey,
    /// What is wrong with it.
    pub reason: String,
}

/// What was there before a change, for the jobs and tasks that it changed.
#[derive(Default)]
pub(crate) struct Before {
    revision: Revision,
    /// `None` where there is no such job.
    pub(crate) jobs: BTreeMap<JobId, Option<Arc<Job>>>,
    /// `None` where there is no such task.
    pub(crate) tasks: BTreeMap<TaskId, Option<Arc<Task>>>,
    set_aside: Arc<BTreeMap<RecordKey, SetAside>>,
    next_id: i64,
}

impl Snapshot {
    /// The revision of the last transaction that is part of it.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The job with this id.
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.0.jobs.get(id)
    }

    /// The jobs that `filter` leaves.
    pub fn jobs<'s>(&'s self, filter: &JobFilter) -> impl Iterator<Item = &'s Arc<Job>> {
        self.0.jobs.matching(filter)
    }

    /// How many jobs `filter` leaves. A filter by states alone, or by collection alone, is answered without
    /// visiting a job.
    pub fn count_jobs(&self, filter: &JobFilter) -> usize {
        self.0.jobs.count(filter)
    }

    /// The task with this id.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.0.tasks.get(id)
    }

    /// The tasks that `filter` leaves, found through the narrowest index that it names.
    pub fn tasks<'s>(&'s self, filter: &TaskFilter) -> impl Iterator<Item = &'s Arc<Task>> {
        self.0.tasks.matching(filter)
    }

    /// How many tasks `filter` leaves. A filter by nothing but a job and states, or a collection, or a node, is
    /// answered without visiting a task.
    pub fn count_tasks(&self, filter: &TaskFilter) -> usize {
        self.0.tasks.count(filter)
    }

    /// The tasks of one job; none if there is no such job.
    pub fn tasks_of_job(&self, id: JobId) -> impl Iterator<Item = &Arc<Task>> {
        self.0.tasks.of_job(id)
    }

    /// The tasks of one collection; none if there is no such collection.
    pub fn tasks_of_collection(&self, id: CollectionId) -> impl Iterator<Item = &Arc<Task>> {
        self.0.tasks.of_collection(id)
    }

    /// The segments that one job copies: those of its tasks, in the order of the tasks, read one after the
    /// other as the iterator moves.
    pub fn segments_of_job(&self, id: JobId) -> impl Iterator<Item = SegmentPair> {
        self.tasks_of_job(id).flat_map(|task| task.segments.iter())
    }

    /// How far a job is; `None` if there is no such job. Costs the same whatever the number of its tasks.
    pub fn progress(&self, id: JobId) -> Option<Progress> {
        self.job(id).map(|_| self.0.tasks.progress(id))
    }

    /// The records that could not be decoded, by kind and id.
    pub fn set_aside(&self) -> impl Iterator<Item = &SetAside> {
        self.0.set_aside.values()
    }

    /// Whether the job lacks segments that a task record which was set aside may hold. Such a job cannot be
    /// published.
    pub fn is_damaged(&self, id: JobId) -> bool {
        let first_task = RecordKey { kind: RecordKind::Task, id: i64::MIN };
        self.0.set_aside.range(first_task..).next().is_some()
            && self.job(id).zip(self.progress(id)).is_some_and(|(job, it)| it.segments.total() < job.segments)
    }
}

/// How transactions and recovery change a snapshot that they own. A clone taken earlier does not move.
impl Snapshot {
    pub(crate) fn set_revision(&mut self, revision: Revision) {
        self.state().revision = revision;
    }

    /// The id that the durable counter gives out next.
    pub(crate) fn next_id(&self) -> i64 {
        self.0.next_id
    }

    pub(crate) fn set_next_id(&mut self, next_id: i64) {
        self.state().next_id = next_id;
    }

    pub(crate) fn insert_job(&mut self, job: Arc<Job>) -> Option<Arc<Job>> {
        self.state().jobs.insert(job)
    }

    /// Removes the job alone; its tasks are the caller's business.
    pub(crate) fn remove_job(&mut self, id: JobId) -> Option<Arc<Job>> {
        self.state().jobs.remove(id)
    }

    pub(crate) fn insert_task(&mut self, task: Arc<Task>) -> Option<Arc<Task>> {
        self.state().tasks.insert(task)
    }

    /// Replaces all tasks at once, which is about twice as fast as inserting them.
    pub(crate) fn set_tasks(&mut self, tasks: impl IntoIterator<Item = Arc<Task>>) {
        self.state().tasks = tasks.into_iter().collect();
    }

    pub(crate) fn remove_task(&mut self, id: TaskId) -> Option<Arc<Task>> {
        self.state().tasks.remove(id)
    }

    pub(crate) fn set_aside_record(&mut self, record: SetAside) {
        Arc::make_mut(&mut self.state().set_aside).insert(record.key, record);
    }

    /// Forgets a record that was set aside; says whether it was.
    pub(crate) fn remove_set_aside(&mut self, key: RecordKey) -> bool {
        self.is_set_aside(key) && Arc::make_mut(&mut self.state().set_aside).remove(&key).is_some()
    }

    pub(crate) fn is_set_aside(&self, key: RecordKey) -> bool {
        self.0.set_aside.contains_key(&key)
    }

    /// What undoes changes that are yet to be made.
    pub(crate) fn before(&self) -> Before {
        Before {
            revision: self.0.revision,
            set_aside: Arc::clone(&self.0.set_aside),
            next_id: self.0.next_id,
            ..Before::default()
        }
    }

    /// Puts back what was there before.
    pub(crate) fn undo(&mut self, before: &Before) {
        let state = self.state();
        state.revision = before.revision;
        state.set_aside = Arc::clone(&before.set_aside);
        state.next_id = before.next_id;
        for (id, job) in &before.jobs {
            match job {
                Some(job) => state.jobs.insert(Arc::clone(job)),
                None => state.jobs.remove(*id),
            };
        }
        for (id, task) in &before.tasks {
            match task {
                Some(task) => state.tasks.insert(Arc::clone(task)),
                None => state.tasks.remove(*id),
            };
        }
    }

    fn state(&mut self) -> &mut State {
        Arc::make_mut(&mut self.0)
    }
}

impl Before {
    /// Whether it names no job and no task.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.tasks.is_empty()
    }

    /// Where the durable counter stood.
    pub(crate) fn next_id(&self) -> i64 {
        self.next_id
    }
}

/// The revision and the counts; a snapshot of a million tasks is no text for a log.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.0.revision)
            .field("jobs", &self.0.jobs.len())
            .field("tasks", &self.0.tasks.len())
            .field("set_aside", &self.0.set_aside.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
