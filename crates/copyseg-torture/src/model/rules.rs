//! What each change does, and which errors it may be refused with: several where it breaks several rules.

mod jobs;
mod tasks;
mod dispatch;

use std::collections::HashSet;
use std::ops::Range;

use copyseg_core::{ErrorKind, JobId, JobState, TaskId, Timestamp};

use super::change::Change;
use super::{JobRecord, Model, TaskRecord, job_key, task_key};

/// What a change answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Nothing,
    There(bool),
    Job(JobId),
    Task(TaskId),
    JobNow(JobId),
    TaskNow(TaskId),
    Attempt(TaskId, u32),
    Count(usize),
    Ids(Range<i64>),
}

/// The claim that a report speaks with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speaker {
    pub(super) task: TaskId,
    pub(super) generation: u64,
    pub(super) attempt: u32,
}

/// The ids that the manager chose, which no model can foretell; it checks that they are fresh.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    pub(super) job: Option<JobId>,
    pub(super) tasks: Vec<TaskId>,
    pub(super) ids: Range<i64>,
}

pub(super) type Outcome = Result<Answer, HashSet<ErrorKind>>;

/// How many jobs may be active at once.
pub(super) const ACTIVE_JOBS_MAX: usize = 4;

impl Model {
    /// Makes the change, or leaves everything as it is and says with which kinds of errors it may be refused.
    pub(super) fn apply(
        &mut self,
        change: &Change,
        speaker: Option<Speaker>,
        chosen: &Chosen,
        now: Timestamp,
    ) -> Outcome {
        match change {
            Change::AddJob { id, collection, tasks, room } => {
                self.add_job(*id, *collection, tasks, *room, chosen, now)
            }
            Change::UpdateJob(id, actions) => self.update_job(*id, actions, now),
            Change::CancelJob(id) => self.end_job(*id, JobState::Cancelled, "cancelled by hand", now),
            Change::FailJob(id) => self.end_job(*id, JobState::Failed, "failed by hand", now),
            Change::RemoveJob(id) => self.remove_job(*id),
            Change::AddTask(job, task) => self.add_task(*job, task, chosen, now),
            Change::UpdateTask(id, actions) => self.update_task(*id, actions, now),
            Change::RemoveTask(id) => self.remove_task(*id),
            Change::Claim(id, node) => self.claim(*id, *node, now),
            Change::Report { report, .. } => match speaker {
                Some(speaker) => self.report(speaker, *report, now),
                None => Ok(Answer::Nothing),
            },
            Change::Reassign(node) => Ok(self.reassign(*node, now)),
            Change::Allocate(count) => {
                assert_eq!(chosen.ids.end - chosen.ids.start, *count as i64, "as many ids as were asked for");
                if *count > 0 {
                    assert!(chosen.ids.start > self.last_id, "no id is given out twice: {:?}", chosen.ids);
                    self.last_id = chosen.ids.end - 1;
                    self.counter = Some(true);
                }
                Ok(Answer::Ids(chosen.ids.clone()))
            }
            Change::DropSetAside(key) => {
                let there = self.set_aside.remove(key);
                if there {
                    self.written.insert(*key);
                }
                Ok(Answer::There(there))
            }
        }
    }

    /// Whether a transaction is too large for one batch: `None` where the counter decides, which may have been moved
    /// by a change that was refused.
    pub(super) fn is_too_large(&self, operations_max: usize) -> Option<bool> {
        let records = self.written.len();
        match self.counter {
            Some(counter) => Some(records + usize::from(counter) > operations_max),
            None if records == operations_max => None,
            None => Some(records > operations_max),
        }
    }

    pub(super) fn begin(&mut self) {
        self.written.clear();
        self.counter = Some(false);
    }

    fn may_take_ids(&mut self, takes: bool, surely: bool) {
        if takes && self.counter != Some(true) {
            self.counter = surely.then_some(true);
        }
    }

    fn take_ids(&mut self, ids: Vec<i64>) {
        let last = self.last_id;
        for id in ids {
            assert!(id > last, "id {id} is fresh, and {last} was given out last");
            self.last_id = self.last_id.max(id);
        }
    }

    fn find_job(&self, id: JobId) -> Result<&JobRecord, HashSet<ErrorKind>> {
        if self.set_aside.contains(&job_key(id)) {
            return refuse(ErrorKind::SetAside);
        }
        self.jobs.get(&id).ok_or_else(|| [ErrorKind::NotFound].into())
    }

    fn find_task(&self, id: TaskId) -> Result<&TaskRecord, HashSet<ErrorKind>> {
        if self.set_aside.contains(&task_key(id)) {
            return refuse(ErrorKind::SetAside);
        }
        self.tasks.get(&id).ok_or_else(|| [ErrorKind::NotFound].into())
    }

    fn put_job(&mut self, id: JobId, job: JobRecord) {
        self.jobs.insert(id, job);
        self.written.insert(job_key(id));
    }

    fn put_task(&mut self, id: TaskId, task: TaskRecord, now: Timestamp) {
        self.tasks.insert(id, TaskRecord { updated: now, ..task });
        self.written.insert(task_key(id));
    }
}

fn refuse<T>(kind: ErrorKind) -> Result<T, HashSet<ErrorKind>> {
    Err([kind].into())
}
