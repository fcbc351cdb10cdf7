//! What a run may change, and how it is drawn at random.

use copyseg_core::{
    CollectionId, JobAction, JobId, JobState, NewJob, NewTask, NodeId, RecordKey, RecordKind, SegmentId,
    SegmentPair, TaskAction, TaskId, TaskState, Timestamp,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// One operation that may change something. Ids are drawn from so few that they often meet.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Adds a job.
    AddJob {
        /// Its id, if the caller brings one.
        id: Option<JobId>,
        /// Its collection, and whether it has an option.
        collection: i64,
        /// Its tasks.
        tasks: Vec<Planned>,
        /// How many segments it has beyond those of its tasks, or fewer; `None` counts them.
        room: Option<i64>,
    },
    /// Updates a job.
    UpdateJob(JobId, Vec<JobAction>),
    /// Cancels a job.
    CancelJob(JobId),
    /// Fails a job.
    FailJob(JobId),
    /// Removes a job.
    RemoveJob(JobId),
    /// Adds a task.
    AddTask(JobId, Planned),
    /// Updates a task.
    UpdateTask(TaskId, Vec<TaskAction>),
    /// Removes a task.
    RemoveTask(TaskId),
    /// Claims a task.
    Claim(TaskId, NodeId),
    /// Reports with one of the claims that were ever given out, or with the attempt after it.
    Report {
        /// Which claim, counted back from the last.
        back: usize,
        /// Whether it speaks for an attempt that this claim was not given.
        forged: bool,
        /// What is reported.
        report: Report,
    },
    /// Gives back all tasks of a node.
    Reassign(NodeId),
    /// Takes ids.
    Allocate(u64),
    /// Drops a record that was set aside, if it was.
    DropSetAside(RecordKey),
}

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// It is done.
    Complete,
    /// It cannot be done, for this reason.
    Fail(&'static str),
    /// It is given back, for this reason.
    Release(&'static str),
}

/// A task to be added.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// Its id, if the caller brings one.
    pub(super) id: Option<TaskId>,
    first_segment: i64,
    segments: i64,
    slots: u32,
}

impl Planned {
    pub(super) fn pairs(&self) -> Vec<SegmentPair> {
        let pair = |n: i64| SegmentPair {
            bytes: 10 + n as u64,
            files: 2,
            ..SegmentPair::new(SegmentId(n), SegmentId(1_000 + n))
        };
        (self.first_segment..self.first_segment + self.segments).map(pair).collect()
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn new_task(&self) -> NewTask {
        NewTask { id: self.id, slots: self.slots, ..NewTask::new(self.pairs()) }
    }
}

/// The job that [`Change::AddJob`] adds.
pub(super) fn new_job(id: Option<JobId>, collection: i64, segments: Option<u64>) -> NewJob {
    NewJob {
        id,
        collection: CollectionId(collection),
        snapshot: format!("snapshot {collection}"),
        options: [("verify".to_owned(), collection.to_string())].into(),
        segments,
        deadline: Some(Timestamp::from_millis(collection as u64)),
        ..NewJob::default()
    }
}

/// One of the jobs that changes are about.
pub(super) fn job() -> impl Strategy<Value = JobId> {
    (1_i64..4).prop_map(JobId)
}

/// Any change.
pub(super) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => add_job(),
        3 => (job(), vec(job_action(), 1..3)).prop_map(|(id, actions)| Change::UpdateJob(id, actions)),
        1 => job().prop_map(Change::CancelJob),
        1 => job().prop_map(Change::FailJob),
        1 => job().prop_map(Change::RemoveJob),
        3 => (job(), planned()).prop_map(|(job, task)| Change::AddTask(job, task)),
        2 => (task(), vec(task_action(), 1..3)).prop_map(|(id, actions)| Change::UpdateTask(id, actions)),
        2 => task().prop_map(Change::RemoveTask),
        9 => (task(), node()).prop_map(|(task, node)| Change::Claim(task, node)),
        9 => (0_usize..3, proptest::bool::weighted(0.1), report())
            .prop_map(|(back, forged, report)| Change::Report { back, forged, report }),
        2 => node().prop_map(Change::Reassign),
        1 => (0_u64..3).prop_map(Change::Allocate),
        1 => prop_oneof![
            job().prop_map(|id| RecordKey { kind: RecordKind::Job, id: id.0 }),
            task().prop_map(|id| RecordKey { kind: RecordKind::Task, id: id.0 }),
        ]
        .prop_map(Change::DropSetAside),
    ]
}

/// A new job.
pub(super) fn add_job() -> impl Strategy<Value = Change> {
    let tasks = prop_oneof![4 => vec(planned(), 0..4), 1 => vec(planned(), 4..9)];
    (option::weighted(0.9, job()), 1_i64..3, tasks, option::weighted(0.5, -1_i64..6))
        .prop_map(|(id, collection, tasks, room)| Change::AddJob { id, collection, tasks, room })
}

fn planned() -> impl Strategy<Value = Planned> {
    (option::weighted(0.6, task()), 0_i64..100, 0_i64..3, 1_u32..3)
        .prop_map(|(id, place, segments, slots)| Planned { id, first_segment: 3 * place, segments, slots })
}

fn task() -> impl Strategy<Value = TaskId> {
    (1_i64..9).prop_map(TaskId)
}

fn node() -> impl Strategy<Value = NodeId> {
    (1_i64..3).prop_map(NodeId)
}

fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        5 => Just(Report::Complete),
        1 => prop::sample::select(vec!["gone", "broken"]).prop_map(Report::Fail),
        2 => prop::sample::select(vec!["busy", "lost"]).prop_map(Report::Release),
    ]
}

fn job_action() -> impl Strategy<Value = JobAction> {
    prop_oneof![
        6 => prop::sample::select(JobState::ALL.to_vec()).prop_map(JobAction::State),
        6 => prop::sample::select(vec![JobState::Publishing, JobState::Completed]).prop_map(JobAction::State),
        1 => Just(JobAction::Reason("by hand".into())),
        1 => (0_u64..3).prop_map(JobAction::Rows),
        1 => option::of(0_u64..3).prop_map(|time| JobAction::Deadline(time.map(Timestamp::from_millis))),
        1 => Just(JobAction::Option("verify".into(), "size".into())),
    ]
}

fn task_action() -> impl Strategy<Value = TaskAction> {
    prop_oneof![
        3 => prop::sample::select(TaskState::ALL.to_vec()).prop_map(TaskAction::State),
        1 => Just(TaskAction::Reason("by hand".into())),
        1 => (1_u32..4).prop_map(TaskAction::Slots),
    ]
}
