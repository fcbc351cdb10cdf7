//! Changes of tasks other than by a worker.

use std::collections::HashSet;

use copyseg_core::{ErrorKind, JobId, JobState, TaskAction, TaskId, TaskState, Timestamp};

use super::{Answer, Chosen, Outcome, refuse};
use crate::model::change::Planned;
use crate::model::{JobRecord, Model, TaskRecord, task_key};

impl Model {
    pub(super) fn refuses_task(&self, job: Option<JobId>, task: &Planned) -> Option<ErrorKind> {
        let id = task.id?;
        if self.set_aside.contains(&task_key(id)) {
            return Some(ErrorKind::SetAside);
        }
        if self.invisible.contains_key(&id) {
            return Some(ErrorKind::AlreadyExists { identical: false });
        }
        let there = self.tasks.get(&id)?;
        let identical = Some(there.job) == job && there.pairs == task.pairs() && there.slots == task.slots();
        Some(ErrorKind::AlreadyExists { identical })
    }

    pub(super) fn add_task(&mut self, id: JobId, task: &Planned, chosen: &Chosen, now: Timestamp) -> Outcome {
        let job = self.find_job(id)?.clone();
        let mut refused = HashSet::new();
        if !job.is_active() {
            refused.insert(ErrorKind::IllegalTransition);
        }
        refused.extend(self.refuses_task(Some(id), task));
        if self.segments_held(id) + task.pairs().len() as u64 > job.segments {
            refused.insert(ErrorKind::InvalidArgument);
        }
        self.may_take_ids(task.id.is_none(), refused.is_empty());
        if !refused.is_empty() {
            return Err(refused);
        }
        let task_id = task.id.unwrap_or_else(|| chosen.tasks[0]);
        if task.id.is_none() {
            self.take_ids(vec![task_id.0]);
        }
        self.put_new_task(task_id, id, &job, task, now);
        Ok(Answer::Task(task_id))
    }

    pub(super) fn put_new_task(
        &mut self,
        id: TaskId,
        job_id: JobId,
        job: &JobRecord,
        task: &Planned,
        now: Timestamp,
    ) {
        let record = TaskRecord {
            job: job_id,
            collection: job.collection,
            node: None,
            attempt: 0,
            slots: task.slots(),
            state: TaskState::Pending,
            reason: String::new(),
            pairs: task.pairs(),
            created: now,
            started: None,
            updated: now,
            completed: None,
        };
        let is_kept = self.set_aside.contains(&task_key(id)) || self.invisible.contains_key(&id);
        assert!(self.tasks.insert(id, record).is_none() && !is_kept, "task {id} is new");
        self.written.insert(task_key(id));
    }

    pub(super) fn update_task(&mut self, id: TaskId, actions: &[TaskAction], now: Timestamp) -> Outcome {
        let mut task = self.find_task(id)?.clone();
        if task.has_ended() {
            return refuse(ErrorKind::IllegalTransition);
        }
        for action in actions {
            match action {
                // Into and out of `InProgress` takes a claim, so that only pending tasks are moved so.
                TaskAction::State(state @ (TaskState::Failed | TaskState::Cancelled))
                    if task.state == TaskState::Pending =>
                {
                    (task.state, task.completed) = (*state, Some(now));
                }
                TaskAction::State(_) => return refuse(ErrorKind::IllegalTransition),
                TaskAction::Reason(reason) => task.reason.clone_from(reason),
                TaskAction::Slots(slots) => task.slots = *slots,
                other => panic!("the model does not know {other:?}"),
            }
        }
        self.put_task(id, task, now);
        Ok(Answer::TaskNow(id))
    }

    pub(super) fn remove_task(&mut self, id: TaskId) -> Outcome {
        if self.set_aside.contains(&task_key(id)) {
            return refuse(ErrorKind::SetAside);
        }
        let Some(task) = self.tasks.get(&id) else { return Ok(Answer::There(false)) };
        if task.state == TaskState::InProgress || self.jobs[&task.job].state == JobState::Publishing {
            return refuse(ErrorKind::IllegalTransition);
        }
        self.tasks.remove(&id);
        self.written.insert(task_key(id));
        Ok(Answer::There(true))
    }
}
