//! Handing tasks to workers, and what workers may report: only the attempt that was given out last can speak.
//!
//! Milvus learnt this in production: a late result of a lost worker revived a failed task and made its segments
//! visible (milvus-io/milvus#51641).

use std::sync::Arc;

use super::jobs::illegal;
use super::{Txn, check_not_set_aside, task_key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NodeId, TaskId};
use crate::job::{Job, JobState};
use crate::snapshot::Snapshot;
use crate::task::{Claim, Task, TaskState};

impl Txn<'_> {
    /// Gives a pending task to a worker. The first claim of a job moves it to `Executing`.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`SetAside`](ErrorKind::SetAside), and
    /// [`IllegalTransition`](ErrorKind::IllegalTransition) if the task is not pending or its job not active.
    pub fn claim_task(&mut self, id: TaskId, node: NodeId) -> Result<Claim> {
        let mut task = Task::clone(self.expect_task("claim", id)?);
        let job = self.active_job("claim", &task)?;
        self.transition(&mut task, TaskState::InProgress)?;
        task.node = Some(node);
        task.attempt = task
            .attempt
            .checked_add(1)
            .ok_or_else(|| illegal(format!("claim task {id}: it was claimed {} times", task.attempt)))?;
        task.reason.clear();
        task.started.get_or_insert(self.now);
        if job.state == JobState::Pending {
            let mut job = Job::clone(&job);
            self.move_job(&mut job, JobState::Executing)?;
            self.put_job(job);
        }
        let task = self.put_task(task);
        self.claimed.push(id);
        Ok(Claim { task: task.id, incarnation: task.incarnation, attempt: task.attempt })
    }

    /// Reports that the task's segments are copied and durable. Repeating the report is fine.
    ///
    /// # Errors
    /// [`StaleClaim`](ErrorKind::StaleClaim) if the attempt is over: what it copied does not count;
    /// [`SetAside`](ErrorKind::SetAside).
    pub fn complete_task(&mut self, claim: Claim) -> Result<()> {
        self.report(claim, TaskState::Completed, "")
    }

    /// Reports that the task cannot be done, for a reason that another attempt would meet too. Repeating the
    /// report is fine. What it means for the job is the caller's to decide.
    ///
    /// # Errors
    /// [`StaleClaim`](ErrorKind::StaleClaim) if the attempt is over; [`SetAside`](ErrorKind::SetAside).
    pub fn fail_task(&mut self, claim: Claim, reason: &str) -> Result<()> {
        self.report(claim, TaskState::Failed, reason)
    }

    /// Gives the task back for a later attempt; `reason` says why it waits. Repeating the report is fine, until
    /// the next claim.
    ///
    /// # Errors
    /// [`StaleClaim`](ErrorKind::StaleClaim) if the attempt is over; [`SetAside`](ErrorKind::SetAside).
    pub fn release_task(&mut self, claim: Claim, reason: &str) -> Result<()> {
        self.report(claim, TaskState::Pending, reason)
    }

    fn report(&mut self, claim: Claim, state: TaskState, reason: &str) -> Result<()> {
        let task = check_claim(self.state, claim)?;
        if task.state == state && (state != TaskState::Failed || task.reason == reason) {
            return Ok(());
        }
        if task.state != TaskState::InProgress {
            return Err(stale(claim, &format!("the task is {}", task.state)));
        }
        let mut task = Task::clone(task);
        self.active_job("report on", &task)?;
        self.transition(&mut task, state)?;
        task.reason = reason.into();
        if state == TaskState::Pending {
            task.node = None;
        }
        self.put_task(task);
        Ok(())
    }
}

/// The task, if `claim` is the last that was given out for it.
pub(crate) fn check_claim(state: &Snapshot, claim: Claim) -> Result<&Arc<Task>> {
    check_not_set_aside(state, task_key(claim.task))?;
    let task = state.task(claim.task).ok_or_else(|| stale(claim, "the task was removed"))?;
    if task.incarnation != claim.incarnation {
        return Err(stale(claim, "the task belongs to another job now"));
    }
    if task.attempt != claim.attempt {
        return Err(stale(claim, &format!("attempt {} was given out since", task.attempt)));
    }
    Ok(task)
}

pub(crate) fn stale(claim: Claim, why: &str) -> Error {
    Error::new(ErrorKind::StaleClaim, format!("{claim} is over: {why}"))
}
