//! What a transaction may do to tasks, dispatch aside.

use std::collections::HashSet;
use std::sync::Arc;

use super::jobs::illegal;
use super::{Txn, job_key, task_key};
use crate::action::TaskAction;
use crate::catalog::RecordKind;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{JobId, TaskId};
use crate::job::{Job, JobState};
use crate::task::{NewTask, Task, TaskState};

impl Txn<'_> {
    /// Adds a task to an active job.
    ///
    /// That no other task of the job copies the same segments is checked only by
    /// [`add_job`](Self::add_job), which sees them all.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such job,
    /// [`IllegalTransition`](ErrorKind::IllegalTransition) if it is no longer active,
    /// [`AlreadyExists`](ErrorKind::AlreadyExists), [`SetAside`](ErrorKind::SetAside), and
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if its tasks would hold more segments than the job has.
    pub fn add_task(&mut self, job: JobId, new: NewTask) -> Result<TaskId> {
        let job = Arc::clone(self.expect_job("add a task to", job)?);
        if !job.state.is_active() {
            return Err(illegal(format!("add a task to job {}: it is {}", job.id, job.state)));
        }
        let held = self.state.progress(job.id).unwrap_or_default().segments.total();
        let task = self.prepare_task(&job, new, &HashSet::new())?;
        if held + task.segments.len() as u64 > job.segments {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "add task {} with {} segments: job {} was created with {} and its tasks hold {held}",
                    task.id,
                    task.segments.len(),
                    job.id,
                    job.segments
                ),
            ));
        }
        Ok(self.put_task(task).id)
    }

    /// Applies `actions` in order, all or none, and returns the task as it is then.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`SetAside`](ErrorKind::SetAside), and
    /// [`IllegalTransition`](ErrorKind::IllegalTransition) for a state the table does not allow, for anything
    /// on a terminal task, and for moving it into or out of `InProgress`, which takes a claim.
    pub fn update_task(
        &mut self,
        id: TaskId,
        actions: impl IntoIterator<Item = TaskAction>,
    ) -> Result<Arc<Task>> {
        let mut task = Task::clone(self.expect_task("update", id)?);
        if task.state.is_terminal() {
            return Err(illegal(format!("update task {id}: it is {} and can no longer change", task.state)));
        }
        for action in actions {
            match action {
                TaskAction::State(state) => self.move_task(&mut task, state)?,
                TaskAction::Reason(reason) => task.reason = reason,
                TaskAction::Slots(slots) => task.slots = slots,
            }
        }
        Ok(self.put_task(task))
    }

    /// Removes the task and says whether it was there. An active job can then be published only once tasks that hold as
    /// many segments were added in its place.
    ///
    /// # Errors
    /// [`SetAside`](ErrorKind::SetAside), and [`IllegalTransition`](ErrorKind::IllegalTransition) while a worker
    /// has it or its job is being published.
    pub fn remove_task(&mut self, id: TaskId) -> Result<bool> {
        self.check_not_set_aside(task_key(id))?;
        let Some(task) = self.state.task(id) else { return Ok(false) };
        if task.state == TaskState::InProgress {
            return Err(illegal(format!("remove task {id}: a worker has it; release or fail it first")));
        }
        if self.state.job(task.job).is_some_and(|job| job.state == JobState::Publishing) {
            return Err(illegal(format!("remove task {id}: job {} is being published", task.job)));
        }
        self.take_task(id);
        self.unwritten.remove(&id);
        Ok(true)
    }

    pub(super) fn expect_task(&self, operation: &str, id: TaskId) -> Result<&Arc<Task>> {
        self.check_not_set_aside(task_key(id))?;
        self.state.task(id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{operation} task {id}: there is no such task"))
        })
    }

    /// A task without an id takes one that is not among those that callers `brought` for others.
    pub(super) fn prepare_task(
        &mut self,
        job: &Job,
        new: NewTask,
        brought: &HashSet<TaskId>,
    ) -> Result<Task> {
        let id = match new.id {
            Some(id) => {
                self.check_task_is_new(job, id, &new)?;
                id
            }
            None => loop {
                let id = TaskId(self.fresh_id(RecordKind::Task)?);
                if !brought.contains(&id) {
                    break id;
                }
            },
        };
        Ok(Task {
            id,
            job: job.id,
            incarnation: job.incarnation,
            collection: job.collection,
            node: None,
            attempt: 0,
            slots: new.slots,
            state: TaskState::Pending,
            reason: String::new(),
            segments: new.segments,
            created: self.now,
            started: None,
            updated: self.now,
            completed: None,
            revision: self.revision,
        })
    }

    pub(super) fn move_task(&self, task: &mut Task, state: TaskState) -> Result<()> {
        if task.state == TaskState::InProgress || state == TaskState::InProgress {
            return Err(illegal(format!(
                "move task {} from {} to {state}: only a claim and its reports do that",
                task.id, task.state
            )));
        }
        self.transition(task, state)
    }

    pub(super) fn transition(&self, task: &mut Task, state: TaskState) -> Result<()> {
        if !task.state.can_become(state) {
            return Err(illegal(format!("move task {} to {state}: it is {}", task.id, task.state)));
        }
        task.state = state;
        if state.is_terminal() {
            task.completed = Some(self.now);
        }
        Ok(())
    }

    fn check_task_is_new(&self, job: &Job, id: TaskId, new: &NewTask) -> Result<()> {
        let Some(task) = self.state.task(id) else { return self.check_free(task_key(id)) };
        let identical = task.job == job.id && task.segments == new.segments && task.slots == new.slots;
        Err(Error::new(
            ErrorKind::AlreadyExists { identical },
            format!(
                "add task {id} to job {}: there is already {} task with this id, in job {}",
                job.id,
                if identical { "this very" } else { "another" },
                task.job
            ),
        ))
    }

    /// Whether the record of this job is there to be asked; an active job of a task that is.
    pub(super) fn active_job(&self, operation: &str, task: &Task) -> Result<Arc<Job>> {
        self.check_not_set_aside(job_key(task.job))?;
        let job = self.expect_job(operation, task.job)?;
        if !job.state.is_active() {
            return Err(illegal(format!("{operation} task {}: job {} is {}", task.id, job.id, job.state)));
        }
        Ok(Arc::clone(job))
    }
}
