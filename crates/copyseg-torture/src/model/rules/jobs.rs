//! Changes of jobs, and what they mean for the tasks of the job.

use std::collections::{BTreeSet, HashMap, HashSet};

use copyseg_core::{ErrorKind, JobAction, JobId, JobState, SegmentPair, TaskId, TaskState, Timestamp};

use super::{ACTIVE_JOBS_MAX, Answer, Chosen, Outcome, refuse};
use crate::model::change::{Planned, new_job};
use crate::model::{JobRecord, Model, job_key, task_key};

impl Model {
    pub(super) fn add_job(
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
                        && counts(stored) == counts(&pairs);
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

    pub(super) fn update_job(&mut self, id: JobId, actions: &[JobAction], now: Timestamp) -> Outcome {
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

    pub(super) fn end_job(&mut self, id: JobId, state: JobState, reason: &str, now: Timestamp) -> Outcome {
        if self.find_job(id)?.state == state {
            return Ok(Answer::JobNow(id));
        }
        self.update_job(id, &[JobAction::State(state), JobAction::Reason(reason.into())], now)
    }

    pub(super) fn remove_job(&mut self, id: JobId) -> Outcome {
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
}

/// How often each occurs, in whatever tasks.
fn counts<'p>(pairs: impl IntoIterator<Item = &'p SegmentPair>) -> HashMap<SegmentPair, usize> {
    let mut counts = HashMap::new();
    for pair in pairs {
        *counts.entry(*pair).or_default() += 1;
    }
    counts
}
