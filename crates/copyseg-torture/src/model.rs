//! The documented behaviour of the meta manager as plain maps, slow and obvious: what a run is compared with.
//!
//! It is written from DESIGN and the public documentation, not from the code that it judges.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

mod change;
mod rules;
mod queries;
mod driver;
mod program;
mod play;
mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use copyseg_core::{
    CollectionId, Job, JobId, JobState, NodeId, RecordKey, RecordKind, SegmentPair, Task, TaskId, TaskState,
    Timestamp,
};

pub use follow::follow;
pub(crate) use follow::follow_bytes;
pub use program::{Program, program, program_of_jumps};

/// Jobs and tasks, and what else a caller can notice.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    jobs: BTreeMap<JobId, JobRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    set_aside: BTreeSet<RecordKey>,
    /// Tasks that are stored though nothing shows them, because they may belong to a job whose record was set aside.
    /// Their ids stay taken until a restart finds no such record. With them the job, where that is known.
    invisible: BTreeMap<TaskId, Option<JobId>>,
    /// The greatest id that the durable counter gave out.
    last_id: i64,
    /// How many jobs were ever added: tells two of one id apart.
    jobs_added: u64,
    /// When each worker was last heard of.
    heard: BTreeMap<TaskId, Duration>,
    /// When the manager was opened, on the monotonic clock.
    opened: Duration,
    /// The records that the transaction under way has to write.
    written: BTreeSet<RecordKey>,
    /// Whether it has to write the counter: surely, perhaps, or not.
    counter: Option<bool>,
}

/// What a job shows, but for its incarnation and revision, which are opaque.
#[derive(Debug, Clone, PartialEq)]
struct JobRecord {
    /// Which of the jobs that ever had this id; 0 where unknown.
    generation: u64,
    collection: CollectionId,
    snapshot: String,
    state: JobState,
    reason: String,
    options: BTreeMap<String, String>,
    segments: u64,
    bytes: u64,
    rows: Option<u64>,
    created: Timestamp,
    started: Option<Timestamp>,
    updated: Timestamp,
    completed: Option<Timestamp>,
    deadline: Option<Timestamp>,
}

/// What a task shows, but for its incarnation and revision.
#[derive(Debug, Clone, PartialEq)]
struct TaskRecord {
    job: JobId,
    collection: CollectionId,
    node: Option<NodeId>,
    attempt: u32,
    slots: u32,
    state: TaskState,
    reason: String,
    pairs: Vec<SegmentPair>,
    created: Timestamp,
    started: Option<Timestamp>,
    updated: Timestamp,
    completed: Option<Timestamp>,
}

impl JobRecord {
    fn of(job: &Job) -> Self {
        Self {
            generation: 0,
            collection: job.collection,
            snapshot: job.snapshot.clone(),
            state: job.state,
            reason: job.reason.clone(),
            options: job.options.clone(),
            segments: job.segments,
            bytes: job.bytes,
            rows: job.rows,
            created: job.created,
            started: job.started,
            updated: job.updated,
            completed: job.completed,
            deadline: job.deadline,
        }
    }

    fn is_active(&self) -> bool {
        matches!(self.state, JobState::Pending | JobState::Executing)
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Completed | JobState::Failed | JobState::Cancelled)
    }
}

impl TaskRecord {
    fn of(task: &Task) -> Self {
        Self {
            job: task.job,
            collection: task.collection,
            node: task.node,
            attempt: task.attempt,
            slots: task.slots,
            state: task.state,
            reason: task.reason.clone(),
            pairs: task.segments.iter().collect(),
            created: task.created,
            started: task.started,
            updated: task.updated,
            completed: task.completed,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, TaskState::Completed | TaskState::Failed | TaskState::Cancelled)
    }
}

impl Model {
    fn tasks_of(&self, job: JobId) -> impl Iterator<Item = (&TaskId, &TaskRecord)> {
        self.tasks.iter().filter(move |(_, task)| task.job == job)
    }

    fn segments_held(&self, job: JobId) -> u64 {
        self.tasks_of(job).map(|(_, task)| task.pairs.len() as u64).sum()
    }

    /// What a restart forgets: heartbeats, and ids kept for a job whose record is gone. While one `lacks_a_job`, whatever
    /// no job claims is kept, because it might belong to that one, and what was not swept before is kept with it.
    fn reopen(&mut self, now: Duration, kept: BTreeSet<TaskId>, lacks_a_job: bool) {
        self.heard.clear();
        self.opened = now;
        let set_aside = |job: &Option<JobId>| job.is_some_and(|id| self.set_aside.contains(&job_key(id)));
        let mut owned = self.invisible.iter().filter(|(_, job)| set_aside(job)).map(|(id, _)| id);
        assert!(
            !lacks_a_job || owned.all(|id| kept.contains(id)),
            "no task of a job that was set aside is swept"
        );
        let job = |id: &TaskId| self.invisible.get(id).copied().flatten();
        self.invisible = kept.into_iter().map(|id| (id, job(&id))).collect();
    }

    /// What becomes of it when this record is damaged while nobody has the store open.
    fn damage(&mut self, key: RecordKey) {
        self.set_aside.insert(key);
        if key.kind == RecordKind::Task {
            self.tasks.remove(&TaskId(key.id));
            return;
        }
        let job = JobId(key.id);
        let tasks: Vec<TaskId> = self.tasks_of(job).map(|(id, _)| *id).collect();
        self.jobs.remove(&job);
        for id in tasks {
            self.tasks.remove(&id);
            self.invisible.insert(id, Some(job));
        }
    }

    /// Every record that could be damaged.
    fn keys(&self) -> Vec<RecordKey> {
        let tasks = self.tasks.keys().map(|id| task_key(*id));
        self.jobs.keys().map(|id| job_key(*id)).chain(tasks).collect()
    }

    /// The beats after a transaction that led here from `before`: a claim that came into being counts as one.
    fn hear_claims(&mut self, before: &Self, now: Duration) {
        let claim = |model: &Self, id: &TaskId| {
            let task = model.tasks.get(id).filter(|task| task.state == TaskState::InProgress)?;
            Some((model.jobs.get(&task.job).map(|job| job.generation), task.attempt))
        };
        self.heard.retain(|id, _| claim(before, id).is_some());
        for id in self.tasks.keys() {
            if claim(self, id).is_some() && claim(self, id) != claim(before, id) {
                self.heard.insert(*id, now);
            }
        }
    }
}

fn job_key(id: JobId) -> RecordKey {
    RecordKey { kind: RecordKind::Job, id: id.0 }
}

fn task_key(id: TaskId) -> RecordKey {
    RecordKey { kind: RecordKind::Task, id: id.0 }
}
