//! What a request means now: a restore that is done, one to go on with, or a new one.

use std::sync::Arc;

use copyseg_core::{Error, ErrorKind, Job, JobFilter, JobState, NewJob, RecordKey, RecordKind, Result, Txn};

use super::patience::persist;
use super::target::COMPLETED;
use super::{Run, random_name, short};
use crate::options;
use crate::owner::Owner;
use crate::plan::Plan;
use crate::request::{Outcome, Phase};
use crate::verdict::Verdict;

pub(super) enum Prepared {
    /// There is nothing to do.
    Already(Outcome),
    /// The job to carry out, with the target in its hands.
    Job(Arc<Job>),
}

impl Run<'_> {
    pub(super) async fn prepare(&self) -> Result<Prepared> {
        self.progress.send_modify(|progress| progress.phase = Phase::Planning);
        let Some(job) = self.unfinished_job()? else { return self.begin().await };
        self.progress.send_modify(|progress| progress.job = Some(job.id));
        let restore = options::restore_of(&job).unwrap_or_default();
        let is_own = |verdict: &Verdict| verdict.restore() == restore;
        let mut verdict = Verdict::read(&*self.target).await?.filter(is_own);
        if verdict.is_none() {
            self.go_on(&job).await?;
            // Who took the target over since, and did not find the staging folder of this run, left a mark before.
            verdict = Verdict::read(&*self.target).await?.filter(is_own);
        }
        match verdict {
            None => Ok(Prepared::Job(job)),
            // The catalog may be older than the target, for instance after it was restored from a backup.
            Some(verdict @ Verdict::Completed(_)) => {
                // Whoever created it may have been killed before its entry was durable.
                self.target.prepare(crate::layout::RECORDS).await?;
                let outcome = self.conclude(&job, verdict).await?;
                self.sweep(restore).await;
                Ok(Prepared::Already(outcome))
            }
            Some(verdict) => {
                self.conclude(&job, verdict).await?;
                self.begin().await
            }
        }
    }

    /// The job that is restoring into the target, if it is this restore.
    fn unfinished_job(&self) -> Result<Option<Arc<Job>>> {
        let target = self.request.target.to_string();
        let ended = JobState::ALL.into_iter().filter(|state| state.is_terminal());
        let filter = JobFilter::new().without_states(ended).matching(move |job| job.target == target);
        let Some(job) = self.manager.list_jobs(&filter.limit(1))?.pop() else { return Ok(None) };
        if job.source != self.request.source.as_str() || options::restore_of(&job).is_none() {
            return Err(Error::new(
                ErrorKind::AlreadyExists { identical: false },
                format!(
                    "{} is being restored into by job {} of this catalog from {}: let it end, or cancel it and \
                     choose another target",
                    self.request.target, job.id, job.source
                ),
            ));
        }
        Ok(Some(job))
    }

    async fn go_on(&self, job: &Job) -> Result<()> {
        options::check_same(&self.request.options, job)?;
        let snapshot = self.manager.snapshot()?;
        if snapshot.is_damaged(job.id) {
            return Err(Error::new(
                ErrorKind::SetAside,
                format!(
                    "records of job {} are damaged, so that it cannot be completed: see `copyseg check`, then \
                     cancel the job and restore again",
                    job.id
                ),
            ));
        }
        let taken = self.take_target(job).await;
        match &taken {
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists { .. }) => {
                self.fail_without_target(job, error).await?;
            }
            _ => {}
        }
        taken
    }

    /// Fails a job whose target is somebody else's, so that it has no future.
    async fn fail_without_target(&self, job: &Job, error: &Error) -> Result<()> {
        let reason = short(error.chain());
        self.record(|| self.manager.fail_job(job.id, &reason)).await.map(drop)
    }

    /// Plans and records a new job, unless the target says that this restore is done.
    async fn begin(&self) -> Result<Prepared> {
        let earlier = Owner::read(&*self.target).await?;
        if let Some(owner) = &earlier {
            self.check_owner_readable(owner)?;
            if let Some(Verdict::Completed(manifest)) = Verdict::read(&*self.target).await? {
                if !self.is_same_restore(owner) || owner.restore != manifest.restore {
                    return Err(self.refused(owner, COMPLETED));
                }
                self.sweep(&owner.restore).await;
                return Ok(Prepared::Already(Outcome::Completed {
                    job: manifest.job,
                    segments: manifest.segments.len() as u64,
                    bytes: manifest.bytes(),
                    already: true,
                    server_side: self.is_server_side(),
                }));
            }
        }
        self.check_may_take(earlier.as_ref()).await?;
        let plan = Plan::of_snapshot(&*self.source).await?;
        plan.check_names(&*self.target)?;
        let (job, restore) = self.record_job(&plan, earlier.as_ref()).await?;
        self.progress.send_modify(|progress| progress.job = Some(job.id));
        if let Err(error) = self.take_target(&job).await {
            if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::AlreadyExists { .. }) {
                self.fail_without_target(&job, &error).await?;
            }
            return Err(error);
        }
        let staging = self.staging(&restore);
        persist(&self.request.options, || plan.store(&*self.target, &restore, &staging)).await?;
        Ok(Prepared::Job(job))
    }

    /// Records the job of a new restore, whose segments have ids above those of the `earlier` owner.
    async fn record_job(&self, plan: &Plan, earlier: Option<&Owner>) -> Result<(Arc<Job>, String)> {
        let request = self.request;
        let restore = random_name()?;
        let segments = plan.len() as u64;
        let allocate = |txn: &mut Txn<'_>| {
            let id = txn.allocate_job_id()?;
            // Another catalog counts from the start too, and a process that was thought to be gone may still copy.
            let next = txn.allocate_ids(0)?.start;
            let passed =
                earlier.map_or(0, |owner| owner.last_segment().saturating_add(1).saturating_sub(next));
            txn.allocate_ids(u64::try_from(passed).unwrap_or(0))?;
            Ok((txn.now(), id, txn.allocate_ids(segments)?))
        };
        let (now, id, segments) = self.record(|| self.manager.transact(allocate)).await?;
        let new = NewJob {
            id: Some(id),
            collection_name: request.target.name().to_owned(),
            snapshot: request.source.name().to_owned(),
            source: request.source.to_string(),
            target: request.target.to_string(),
            options: options::stored(&request.options, &restore),
            deadline: request.options.deadline.map(|deadline| now.after(deadline)),
            ..NewJob::default()
        };
        let tasks = plan.tasks(segments, options::segments_per_task(&request.options));
        self.record(|| self.manager.add_job(new.clone(), tasks.clone())).await?;
        let gone = || Error::new(ErrorKind::NotFound, format!("job {id} was removed while it was begun"));
        Ok((self.manager.get_job(id)?.ok_or_else(gone)?, restore))
    }

    /// Refuses to go on over a job whose record cannot be read: it may know more than the target.
    fn check_owner_readable(&self, owner: &Owner) -> Result<()> {
        let key = RecordKey { kind: RecordKind::Job, id: owner.job.0 };
        let snapshot = self.manager.snapshot()?;
        let damaged = self.is_same_restore(owner) && snapshot.set_aside().any(|aside| aside.key == key);
        if damaged {
            return Err(Error::new(
                ErrorKind::SetAside,
                format!("the record of job {} is damaged: export or drop it with `copyseg check`", owner.job),
            ));
        }
        Ok(())
    }
}
