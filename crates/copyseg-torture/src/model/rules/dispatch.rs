//! Claims, and what workers report with them.

use copyseg_core::{ErrorKind, JobState, NodeId, TaskId, TaskState, Timestamp};

use super::{Answer, Outcome, Speaker, refuse};
use crate::model::change::Report;
use crate::model::driver::LOST;
use crate::model::{Model, task_key};

impl Model {
    pub(super) fn claim(&mut self, id: TaskId, node: NodeId, now: Timestamp) -> Outcome {
        let mut task = self.find_task(id)?.clone();
        let mut job = self.jobs[&task.job].clone();
        if task.state != TaskState::Pending || !job.is_active() {
            return refuse(ErrorKind::IllegalTransition);
        }
        task.state = TaskState::InProgress;
        task.node = Some(node);
        task.attempt += 1;
        task.reason.clear();
        task.started = task.started.or(Some(now));
        let attempt = task.attempt;
        if job.state == JobState::Pending {
            (job.state, job.started, job.updated) = (JobState::Executing, Some(now), now);
            self.put_job(task.job, job);
        }
        self.put_task(id, task, now);
        Ok(Answer::Attempt(id, attempt))
    }

    pub(super) fn report(&mut self, speaker: Speaker, report: Report, now: Timestamp) -> Outcome {
        if self.set_aside.contains(&task_key(speaker.task)) {
            return refuse(ErrorKind::SetAside);
        }
        let Some(mut task) = self.tasks.get(&speaker.task).cloned() else {
            return refuse(ErrorKind::StaleClaim);
        };
        let (state, reason) = match report {
            Report::Complete => (TaskState::Completed, ""),
            Report::Fail(reason) => (TaskState::Failed, reason),
            Report::Release(reason) => (TaskState::Pending, reason),
        };
        let is_last =
            self.jobs[&task.job].generation == speaker.generation && task.attempt == speaker.attempt;
        let is_repeated = task.state == state && (state != TaskState::Failed || task.reason == reason);
        if is_last && is_repeated {
            return Ok(Answer::Nothing);
        }
        if !is_last || task.state != TaskState::InProgress {
            return refuse(ErrorKind::StaleClaim);
        }
        task.state = state;
        task.reason = reason.into();
        match state {
            TaskState::Pending => task.node = None,
            _ => task.completed = Some(now),
        }
        self.put_task(speaker.task, task, now);
        Ok(Answer::Nothing)
    }

    pub(super) fn reassign(&mut self, node: NodeId, now: Timestamp) -> Answer {
        let mut count = 0;
        for (id, task) in &mut self.tasks {
            if task.node == Some(node) && task.state == TaskState::InProgress {
                self.written.insert(task_key(*id));
                (task.state, task.node, task.updated) = (TaskState::Pending, None, now);
                task.reason = LOST.into();
                count += 1;
            }
        }
        Answer::Count(count)
    }

    /// Whether a heartbeat with this claim is taken.
    pub(in crate::model) fn hears(&self, speaker: Speaker) -> Result<(), ErrorKind> {
        if self.set_aside.contains(&task_key(speaker.task)) {
            return Err(ErrorKind::SetAside);
        }
        let current = self.tasks.get(&speaker.task).is_some_and(|task| {
            task.state == TaskState::InProgress
                && task.attempt == speaker.attempt
                && self.jobs[&task.job].generation == speaker.generation
        });
        if current { Ok(()) } else { Err(ErrorKind::StaleClaim) }
    }
}
