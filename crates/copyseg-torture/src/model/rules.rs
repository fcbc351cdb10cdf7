//! What each change does, and which errors it may be refused with: several where it breaks several rules.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use copyseg_core::{
    ErrorKind, JobAction, JobId, JobState, NodeId, SegmentPair, TaskAction, TaskId, TaskState, Timestamp,
};

use super::change::{Change, Planned, Report, new_job};
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

    fn add_job(
        &mut self,
        id: Option<JobId>,
        collection: i64,
        tasks: &[Planned],
        room: Option<i64>,
        chosen: &Chosen,
        now: Timestamp,
    ) -> Outcome {
        let pairs: Vec<SegmentPair> = tasks.iter().flat_map(Planned::pairs).collect();
        let held = pairs.len() as u64;
        let segments = room.map(|room| held.saturating_add_signed(room));
        let new = new_job(id, collection, segments);
        let mut refused = HashSet::new();
        if let Some(id) = id {
            match self.jobs.get(&id) {
                _ if self.set_aside.contains(&job_key(id)) => drop(refused.insert(ErrorKind::SetAside)),
                Some(job) => {
                    let stored = self.tasks_of(id).flat_map(|(_, task)| task.pairs.iter());
                    let identical = job.collection == new.collection
                        && job.snapshot == new.snapshot
                        && job.options == new.options
                        && job.deadline == new.deadline
                        && new.segments.is_none_or(|segments| segments == job.segments)
                        && sorted(stored) == sorted(&pairs);
                    refused.insert(ErrorKind::AlreadyExists { identical });
                }
                None => {}
            }
        }
        let active = self.jobs.values().filter(|job| !job.has_ended()).count();
        if active >= ACTIVE_JOBS_MAX {
            refused.insert(ErrorKind::QuotaExceeded);
        }
        let brought: Vec<TaskId> = tasks.iter().filter_map(|task| task.id).collect();
        let twice = brought.iter().collect::<BTreeSet<_>>().len() < brought.len();
        let copied_twice = pairs.iter().map(|pair| pair.source).collect::<BTreeSet<_>>().len() < pairs.len();
        if twice || copied_twice || held > segments.unwrap_or(held) {
            refused.insert(ErrorKind::InvalidArgument);
        }
        for task in tasks {
            refused.extend(self.refuses_task(id, task));
        }
        let takes_ids = id.is_none() || brought.len() < tasks.len();
        self.may_take_ids(takes_ids, refused.is_empty());
        if !refused.is_empty() {
            return Err(refused);
        }

        let job_id = id.or(chosen.job).expect("a job has an id");
        let mut fresh: Vec<i64> = chosen.tasks.iter().map(|id| id.0).collect();
        if id.is_none() {
            assert!(!self.jobs.contains_key(&job_id) && !self.set_aside.contains(&job_key(job_id)));
            fresh.push(job_id.0);
        }
        self.take_ids(fresh);
        self.jobs_added += 1;
        let job = JobRecord {
            generation: self.jobs_added,
            collection: new.collection,
            snapshot: new.snapshot,
            state: JobState::Pending,
            reason: String::new(),
            options: new.options,
            segments: segments.unwrap_or(held),
            bytes: pairs.iter().map(|pair| pair.bytes).sum(),
            rows: None,
            created: now,
            started: None,
            updated: now,
            completed: None,
            deadline: new.deadline,
        };
        let mut fresh = chosen.tasks.iter().copied();
        for task in tasks {
            let id = task.id.or_else(|| fresh.next()).expect("every task has an id");
            self.put_new_task(id, job_id, &job, task, now);
        }
        self.put_job(job_id, job);
        Ok(Answer::Job(job_id))
    }

    fn refuses_task(&self, job: Option<JobId>, task: &Planned) -> Option<ErrorKind> {
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

    fn update_job(&mut self, id: JobId, actions: &[JobAction], now: Timestamp) -> Outcome {
        let mut job = self.find_job(id)?.clone();
        if job.has_ended() {
            return refuse(ErrorKind::IllegalTransition);
        }
        for action in actions {
            match action {
                JobAction::State(state) => self.move_job(id, &mut job, *state, now)?,
                JobAction::Reason(reason) => job.reason.clone_from(reason),
                JobAction::Rows(rows) => job.rows = Some(*rows),
                JobAction::Deadline(deadline) => job.deadline = *deadline,
                JobAction::Option(name, value) => drop(job.options.insert(name.clone(), value.clone())),
                other => panic!("the model does not know {other:?}"),
            }
        }
        job.updated = now;
        let end = match job.state {
            JobState::Failed => Some(TaskState::Failed),
            JobState::Cancelled => Some(TaskState::Cancelled),
            _ => None,
        };
        for task in self.tasks.values_mut().filter(|task| task.job == id && !task.has_ended()) {
            if let Some(end) = end {
                task.state = end;
                task.reason.clone_from(&job.reason);
                (task.updated, task.completed) = (now, Some(now));
            }
        }
        self.put_job(id, job);
        Ok(Answer::JobNow(id))
    }

    fn move_job(
        &self,
        id: JobId,
        job: &mut JobRecord,
        state: JobState,
        now: Timestamp,
    ) -> Result<(), HashSet<ErrorKind>> {
        use JobState::*;
        let legal = match job.state {
            Pending => [Executing, Failed, Cancelled].contains(&state),
            Executing => [Publishing, Failed, Cancelled].contains(&state),
            Publishing => [Completed, Failed].contains(&state),
            Completed | Failed | Cancelled => false,
        };
        let all_copied = self.tasks_of(id).all(|(_, task)| task.state == TaskState::Completed)
            && self.segments_held(id) == job.segments;
        if !legal || (state == Publishing && !all_copied) {
            return refuse(ErrorKind::IllegalTransition);
        }
        job.state = state;
        if state == Executing {
            job.started = Some(now);
        }
        if job.has_ended() {
            job.completed = Some(now);
        }
        Ok(())
    }

    fn end_job(&mut self, id: JobId, state: JobState, reason: &str, now: Timestamp) -> Outcome {
        if self.find_job(id)?.state == state {
            return Ok(Answer::JobNow(id));
        }
        self.update_job(id, &[JobAction::State(state), JobAction::Reason(reason.into())], now)
    }

    fn remove_job(&mut self, id: JobId) -> Outcome {
        if self.set_aside.contains(&job_key(id)) {
            return refuse(ErrorKind::SetAside);
        }
        if self.jobs.remove(&id).is_none() {
            return Ok(Answer::There(false));
        }
        let tasks: Vec<TaskId> = self.tasks_of(id).map(|(id, _)| *id).collect();
        for task in tasks {
            self.tasks.remove(&task);
            // Its record follows later.
            self.written.remove(&task_key(task));
        }
        self.written.insert(job_key(id));
        Ok(Answer::There(true))
    }

    fn add_task(&mut self, id: JobId, task: &Planned, chosen: &Chosen, now: Timestamp) -> Outcome {
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

    fn put_new_task(&mut self, id: TaskId, job_id: JobId, job: &JobRecord, task: &Planned, now: Timestamp) {
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

    fn update_task(&mut self, id: TaskId, actions: &[TaskAction], now: Timestamp) -> Outcome {
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

    fn remove_task(&mut self, id: TaskId) -> Outcome {
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

    fn claim(&mut self, id: TaskId, node: NodeId, now: Timestamp) -> Outcome {
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

    fn report(&mut self, speaker: Speaker, report: Report, now: Timestamp) -> Outcome {
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

    fn reassign(&mut self, node: NodeId, now: Timestamp) -> Answer {
        let mut count = 0;
        for (id, task) in &mut self.tasks {
            if task.node == Some(node) && task.state == TaskState::InProgress {
                self.written.insert(task_key(*id));
                (task.state, task.node, task.updated) = (TaskState::Pending, None, now);
                task.reason = super::driver::LOST.into();
                count += 1;
            }
        }
        Answer::Count(count)
    }

    /// Whether a heartbeat with this claim is taken.
    pub(super) fn hears(&self, speaker: Speaker) -> Result<(), ErrorKind> {
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

fn sorted<'p>(pairs: impl IntoIterator<Item = &'p SegmentPair>) -> BTreeMap<(i64, i64), usize> {
    let mut counts = BTreeMap::new();
    for pair in pairs {
        *counts.entry((pair.source.0, pair.target.0)).or_default() += 1;
    }
    counts
}

fn refuse<T>(kind: ErrorKind) -> Result<T, HashSet<ErrorKind>> {
    Err([kind].into())
}
