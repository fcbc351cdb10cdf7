//! What a transaction may do to jobs.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Txn, job_key};
use crate::action::JobAction;
use crate::catalog::random;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::JobFilter;
use crate::id::{JobId, SegmentId, TaskId};
use crate::job::{Job, JobState, NewJob};
use crate::task::{NewTask, SegmentPair, Task, TaskState};

impl Txn<'_> {
    /// Adds a job together with its tasks. All of it has to fit into one atomic batch of the backend;
    /// [`MetaManager::add_job`](crate::MetaManager::add_job) takes a job of any size.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) for an id in use, [`SetAside`](ErrorKind::SetAside),
    /// [`QuotaExceeded`](ErrorKind::QuotaExceeded), and [`InvalidArgument`](ErrorKind::InvalidArgument) if a
    /// segment or a task id occurs twice or the tasks hold more segments than the job is said to have.
    pub fn add_job(&mut self, job: NewJob, tasks: Vec<NewTask>) -> Result<JobId> {
        let (job, tasks) = self.prepare_job(job, tasks)?;
        let id = job.id;
        self.put_job(job);
        for task in tasks {
            self.put_task(task);
        }
        Ok(id)
    }

    /// Makes a job visible whose tasks' records are stored already, exactly as they are stored.
    pub(crate) fn adopt_job(&mut self, job: Job, tasks: Vec<Arc<Task>>) -> JobId {
        let job = self.put_job(job);
        for task in tasks {
            self.unwritten.insert(task.id);
            self.adopted.push(task.id);
            self.insert_task(task);
        }
        job.id
    }

    /// Checks a new job against every rule, takes the ids it needs, and builds its records without adding them.
    pub(crate) fn prepare_job(&mut self, new: NewJob, tasks: Vec<NewTask>) -> Result<(Job, Vec<Task>)> {
        if let Some(id) = new.id {
            self.check_job_is_new(id, &new, &tasks)?;
        }
        self.check_quota(&new)?;
        let held = check_segments(&new, &tasks)?;
        let id = match new.id {
            Some(id) => id,
            None => self.allocate_job_id()?,
        };
        let segments = new.segments.unwrap_or(held);
        if held > segments {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("add job {id}: its tasks hold {held} segments, but it is said to have {segments}"),
            ));
        }
        let job = Job {
            id,
            incarnation: random()?,
            database: new.database,
            collection: new.collection,
            collection_name: new.collection_name,
            snapshot: new.snapshot,
            source: new.source,
            target: new.target,
            state: JobState::Pending,
            reason: String::new(),
            options: new.options,
            segments,
            bytes: tasks.iter().fold(0, |sum, task| sum.saturating_add(task.segments.bytes())),
            rows: new.rows,
            created: self.now,
            started: None,
            updated: self.now,
            completed: None,
            deadline: new.deadline,
            revision: self.revision,
        };
        let mut brought = HashSet::new();
        if let Some(twice) = tasks.iter().filter_map(|task| task.id).find(|id| !brought.insert(*id)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("add job {id}: task id {twice} is given twice"),
            ));
        }
        let tasks =
            tasks.into_iter().map(|task| self.prepare_task(&job, task, &brought)).collect::<Result<_>>()?;
        Ok((job, tasks))
    }

    /// Applies `actions` in order, all or none, and returns the job as it is then. Ending it visits every task of the job.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`SetAside`](ErrorKind::SetAside), and
    /// [`IllegalTransition`](ErrorKind::IllegalTransition) for a state the table does not allow, for anything
    /// on a terminal job, and for `Publishing` before every segment is copied.
    pub fn update_job(
        &mut self,
        id: JobId,
        actions: impl IntoIterator<Item = JobAction>,
    ) -> Result<Arc<Job>> {
        let mut job = Job::clone(self.expect_job("update", id)?);
        if job.state.is_terminal() {
            return Err(illegal(format!("update job {id}: it is {} and can no longer change", job.state)));
        }
        for action in actions {
            match action {
                JobAction::State(state) => self.move_job(&mut job, state)?,
                JobAction::Reason(reason) => job.reason = reason,
                JobAction::Rows(rows) => job.rows = Some(rows),
                JobAction::Deadline(deadline) => job.deadline = deadline,
                JobAction::Option(name, value) => drop(job.options.insert(name, value)),
            }
        }
        let job = self.put_job(job);
        self.settle_tasks(&job);
        Ok(job)
    }

    /// Cancels the job: from this revision on its open tasks are cancelled too. Cancelling it again is fine. One write, but
    /// every task of the job is visited.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`SetAside`](ErrorKind::SetAside), and
    /// [`IllegalTransition`](ErrorKind::IllegalTransition) once it is publishing or has ended otherwise.
    pub fn cancel_job(&mut self, id: JobId, reason: &str) -> Result<Arc<Job>> {
        self.end_job("cancel", id, JobState::Cancelled, reason)
    }

    /// Fails the job: from this revision on its open tasks are failed too. Failing it again is fine. One write, but every
    /// task of the job is visited.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`SetAside`](ErrorKind::SetAside), and
    /// [`IllegalTransition`](ErrorKind::IllegalTransition) if it has ended otherwise.
    pub fn fail_job(&mut self, id: JobId, reason: &str) -> Result<Arc<Job>> {
        self.end_job("fail", id, JobState::Failed, reason)
    }

    /// Removes the job and its tasks, in any state, and says whether it was there. One write, however many
    /// tasks: they are invisible without their job, and their records follow. Every task of the job is visited.
    ///
    /// # Errors
    /// [`SetAside`](ErrorKind::SetAside): use [`drop_set_aside`](Self::drop_set_aside).
    pub fn remove_job(&mut self, id: JobId) -> Result<bool> {
        self.check_not_set_aside(job_key(id))?;
        if self.state.job(id).is_none() {
            return Ok(false);
        }
        let tasks: Vec<TaskId> = self.state.tasks_of_job(id).map(|task| task.id).collect();
        self.take_job(id);
        for task in tasks {
            self.take_task(task);
            self.unwritten.insert(task);
            if self.before.tasks.get(&task).is_some_and(Option::is_some) {
                self.orphaned.push(task);
            }
        }
        Ok(true)
    }

    pub(super) fn expect_job(&self, operation: &str, id: JobId) -> Result<&Arc<Job>> {
        self.check_not_set_aside(job_key(id))?;
        self.state.job(id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{operation} job {id}: there is no such job"))
        })
    }

    fn end_job(&mut self, operation: &str, id: JobId, state: JobState, reason: &str) -> Result<Arc<Job>> {
        let job = self.expect_job(operation, id)?;
        if job.state == state {
            return Ok(Arc::clone(job));
        }
        if job.state.is_terminal() {
            return Err(illegal(format!("{operation} job {id}: it is {} already", job.state)));
        }
        self.update_job(id, [JobAction::State(state), JobAction::Reason(reason.into())])
    }

    pub(super) fn move_job(&self, job: &mut Job, state: JobState) -> Result<()> {
        let id = job.id;
        if !job.state.can_become(state) {
            return Err(illegal(format!("move job {id} to {state}: it is {}", job.state)));
        }
        match state {
            JobState::Executing => job.started = Some(self.now),
            JobState::Publishing => self.check_publishable(job)?,
            state if state.is_terminal() => job.completed = Some(self.now),
            _ => {}
        }
        job.state = state;
        Ok(())
    }

    /// A job never looks more complete than it is: every task has to be completed, and their segments have to
    /// add up to what the job was created with, which they do not if a task's record was set aside.
    fn check_publishable(&self, job: &Job) -> Result<()> {
        let progress = self.state.progress(job.id).unwrap_or_default();
        let (completed, tasks) = (progress.tasks.get(TaskState::Completed), progress.tasks.total());
        let copied = progress.segments.get(TaskState::Completed);
        if completed == tasks && copied == job.segments {
            return Ok(());
        }
        Err(illegal(format!(
            "publish job {}: {completed} of {tasks} tasks are completed, with {copied} of {} segments",
            job.id, job.segments
        )))
    }

    /// Shows the open tasks of an ended job as ended. Their records are not written: whoever reads them back
    /// derives the same from the job's record, so ending a job is one write at any size.
    fn settle_tasks(&mut self, job: &Job) {
        if !job.state.is_terminal() {
            return;
        }
        let settled: Vec<Task> =
            self.state.tasks_of_job(job.id).filter_map(|task| task.settled_by(job)).collect();
        for task in settled {
            if !self.before.tasks.contains_key(&task.id) {
                self.unwritten.insert(task.id);
            }
            self.insert_task(Arc::new(task));
        }
    }

    fn check_quota(&self, new: &NewJob) -> Result<()> {
        let Some(limit) = self.active_jobs_max else { return Ok(()) };
        let active = JobFilter::new().states([JobState::Pending, JobState::Executing, JobState::Publishing]);
        let jobs = self.reserved.range(job_key(JobId(i64::MIN))..=job_key(JobId(i64::MAX)));
        // A reservation ends a little after its job has come.
        let being_added = jobs.filter(|key| self.job(JobId(key.id)).is_none()).count();
        let count = self.state.count_jobs(&active) + being_added;
        if count < limit {
            return Ok(());
        }
        let first: Vec<String> = self.state.jobs(&active.limit(5)).map(|job| job.id.to_string()).collect();
        Err(Error::new(
            ErrorKind::QuotaExceeded,
            format!(
                "add {}: {count} jobs are active and {limit} are allowed; the first are {}",
                named(new),
                first.join(", ")
            ),
        ))
    }

    fn check_job_is_new(&self, id: JobId, new: &NewJob, tasks: &[NewTask]) -> Result<()> {
        let Some(job) = self.state.job(id) else { return self.check_free(job_key(id)) };
        let same_pairs = || {
            let given = tasks.iter().flat_map(|task| task.segments.iter());
            sorted(given) == sorted(self.state.segments_of_job(id))
        };
        let identical = is_same_restore(job, new) && same_pairs();
        Err(Error::new(
            ErrorKind::AlreadyExists { identical },
            format!(
                "add job {id}: there is already {} job with this id",
                if identical { "this very" } else { "another" }
            ),
        ))
    }
}

pub(super) fn illegal(message: String) -> Error {
    Error::new(ErrorKind::IllegalTransition, message)
}

/// A job that is to be added, which has no id yet unless its caller brought one.
fn named(new: &NewJob) -> String {
    let snapshot = &new.snapshot;
    new.id.map_or_else(|| format!("job for `{snapshot}`"), |id| format!("job {id} for `{snapshot}`"))
}

/// In an order that does not depend on how they were cut into tasks.
fn sorted(pairs: impl Iterator<Item = SegmentPair>) -> Vec<SegmentPair> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable_by_key(|pair| (pair.source, pair.target));
    pairs
}

fn is_same_restore(job: &Job, new: &NewJob) -> bool {
    job.database == new.database
        && job.collection == new.collection
        && job.collection_name == new.collection_name
        && job.snapshot == new.snapshot
        && job.source == new.source
        && job.target == new.target
        && job.options == new.options
        && job.deadline == new.deadline
        && new.segments.is_none_or(|segments| job.segments == segments)
}

/// Counts the segments of all tasks, and refuses one that is copied twice or two that become one.
fn check_segments(new: &NewJob, tasks: &[NewTask]) -> Result<u64> {
    type Part = (&'static str, fn(SegmentPair) -> SegmentId);
    const PARTS: [Part; 2] = [("source", |pair| pair.source), ("target", |pair| pair.target)];
    let mut ids: Vec<SegmentId> = Vec::new();
    for (what, id_of) in PARTS {
        ids.clear();
        ids.extend(tasks.iter().flat_map(|task| task.segments.iter()).map(id_of));
        // All other writers wait meanwhile, and to put a million into a set takes several times as long.
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|two| two[0] == two[1]) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("add {}: {what} segment {} occurs twice", named(new), twice[0]),
            ));
        }
    }
    Ok(ids.len() as u64)
}
