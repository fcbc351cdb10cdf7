//! How a restore ends.
//!
//! Invariant: no target ever holds a manifest of a job that failed or was cancelled. It rests on three facts.
//!
//! - The manifest and the abort marker are created at one key, and whoever comes second yields.
//! - The manifest is created only for a job whose durable state is `Publishing`. A job cannot be cancelled in
//!   that state, and one that was cancelled or failed before can never reach it; so a job that somebody ends in
//!   the catalog alone has no manifest, now or later, and its marker is made up for by whoever notices.
//! - Everything else that ends a job here creates the marker first and writes the job after it.
//!
//! A crash between the manifest and `Completed`, or between the marker and `Failed`, leaves the key to say what
//! the job has to become; [`conclude`](Run::conclude) writes it. Only an operator who fails a publishing job in
//! the catalog while its target is out of reach can make the record disagree; the key is right then.

use std::collections::BTreeMap;
use std::sync::Arc;

use copyseg_core::{Error, ErrorKind, Job, JobAction, JobState, Result, SegmentId};

use super::patience::persist;
use super::{Run, short};
use crate::layout;
use crate::options;
use crate::owner::Owner;
use crate::request::{Outcome, Phase};
use crate::storage::Entry;
use crate::verdict::Verdict;

impl Run<'_> {
    /// Makes the copied segments visible, all at once.
    pub(super) async fn publish(&self, job: &Job) -> Result<Outcome> {
        self.progress.send_modify(|progress| progress.phase = Phase::Publishing);
        let publishing = || self.manager.update_job(job.id, [JobAction::State(JobState::Publishing)]);
        let job = match self.record(publishing).await {
            Ok(job) => job,
            Err(error) if error.kind() == ErrorKind::IllegalTransition => {
                let now = self.current(job)?;
                if now.state != JobState::Publishing {
                    return if now.state.is_terminal() { self.acknowledge(&now).await } else { Err(error) };
                }
                now
            }
            Err(error) => return Err(error),
        };
        if let Some(reason) = self.difference(&job).await? {
            return self.abort(&job, JobState::Failed, &reason).await;
        }
        let snapshot = self.manager.snapshot()?;
        let restore = options::restore_of(&job).unwrap_or_default();
        let manifest = Verdict::completed(restore, &job, snapshot.segments_of_job(job.id));
        if let Some(reason) = self.lost_target(&job).await? {
            return self.yield_target(&job, JobState::Failed, &reason).await;
        }
        let verdict = self.decide(restore, manifest).await?;
        self.conclude(&job, verdict).await
    }

    /// Ends the job in `state`, unless its manifest was first.
    pub(super) async fn abort(&self, job: &Job, state: JobState, reason: &str) -> Result<Outcome> {
        let restore = options::restore_of(job).unwrap_or_default();
        let verdict = async {
            match self.lost_target(job).await? {
                // The key belongs to somebody else's restore now.
                Some(_) => Ok(None),
                None => {
                    let marker = Verdict::aborted(restore, job.id, state, reason);
                    self.decide(restore, marker).await.map(Some)
                }
            }
        };
        match verdict.await {
            Ok(Some(verdict)) => self.conclude(job, verdict).await,
            Ok(None) => self.yield_target(job, state, reason).await,
            Err(error) => {
                let now = self.current(job)?;
                if now.state == JobState::Publishing {
                    return Err(error);
                }
                // No manifest can exist or come to be, so the job may end without a marker.
                tracing::warn!(job = %job.id, error = error.chain(), "the abort marker could not be written");
                self.write_end(&now, state, reason).await
            }
        }
    }

    /// Makes up for the marker of a job that somebody ended in the catalog.
    pub(super) async fn acknowledge(&self, job: &Job) -> Result<Outcome> {
        if job.state == JobState::Completed {
            return Ok(self.ended(job));
        }
        self.abort(job, job.state, &job.reason).await
    }

    /// Writes into the catalog what the key says about the job.
    pub(super) async fn conclude(&self, job: &Job, verdict: Verdict) -> Result<Outcome> {
        let restore = options::restore_of(job).unwrap_or_default();
        match verdict {
            verdict if verdict.restore() != restore => {
                let reason = format!("{} was taken over by job {}", self.request.target, verdict.job());
                self.yield_target(job, JobState::Failed, &reason).await
            }
            Verdict::Completed(manifest) => {
                let completed = || self.manager.update_job(job.id, [JobAction::State(JobState::Completed)]);
                if let Err(error) = self.record(completed).await {
                    if error.kind() != ErrorKind::IllegalTransition {
                        return Err(error);
                    }
                    let state = self.current(job)?.state;
                    if state != JobState::Completed {
                        tracing::warn!(job = %job.id, %state, "the restore is completed, whatever its record says");
                    }
                }
                Ok(Outcome::Completed {
                    job: manifest.job,
                    segments: manifest.segments.len() as u64,
                    bytes: manifest.bytes(),
                    already: false,
                    server_side: self.is_server_side(),
                })
            }
            Verdict::Aborted(abort) => {
                let state = if abort.cancelled { JobState::Cancelled } else { JobState::Failed };
                self.write_end(job, state, &abort.reason).await
            }
        }
    }

    /// Ends a job whose target belongs to another restore, and removes what it copied: nobody else's segments have
    /// the same ids, and nobody will ever read these.
    pub(super) async fn yield_target(&self, job: &Job, state: JobState, reason: &str) -> Result<Outcome> {
        let removed = async {
            let own = self.owner(job, options::restore_of(job).unwrap_or_default())?;
            let owner = Owner::read(&*self.target).await?;
            if owner.as_ref().is_some_and(|owner| !owner.shares_segments_with(&own)) {
                own.remove_copies(&*self.target).await?;
            }
            Ok(owner.is_none())
        };
        let removed: Result<bool> = removed.await;
        let is_cleared = removed.unwrap_or_else(|error| {
            tracing::warn!(job = %job.id, error = error.chain(), "what it had copied could not be removed");
            false
        });
        let mut outcome = self.write_end(job, state, reason).await?;
        if let Outcome::Failed { target_cleared, .. } = &mut outcome {
            *target_cleared = is_cleared;
        }
        Ok(outcome)
    }

    pub(super) async fn write_end(&self, job: &Job, state: JobState, reason: &str) -> Result<Outcome> {
        let end = async |state| {
            let actions = || [JobAction::State(state), JobAction::Reason(short(reason.to_owned()))];
            self.record(|| self.manager.update_job(job.id, actions())).await
        };
        let written = match end(state).await {
            // A publishing job can only fail.
            Err(error) if error.kind() == ErrorKind::IllegalTransition && state == JobState::Cancelled => {
                end(JobState::Failed).await
            }
            written => written,
        };
        match written {
            Ok(job) => Ok(self.ended(&job)),
            Err(error) if error.kind() == ErrorKind::IllegalTransition => {
                Ok(self.ended(&*self.current(job)?))
            }
            Err(error) => Err(error),
        }
    }

    /// What a terminal job says about its restore.
    fn ended(&self, job: &Job) -> Outcome {
        let (id, reason) = (job.id, job.reason.clone());
        match job.state {
            JobState::Completed => Outcome::Completed {
                job: id,
                segments: job.segments,
                bytes: job.bytes,
                already: true,
                server_side: self.is_server_side(),
            },
            JobState::Cancelled => Outcome::Cancelled { job: id, reason },
            _ => Outcome::Failed { job: id, reason, target_cleared: false },
        }
    }

    async fn decide(&self, restore: &str, verdict: Verdict) -> Result<Verdict> {
        let staging = self.staging(restore);
        persist(&self.request.options, || verdict.clone().decide(&*self.target, &staging)).await
    }

    fn current(&self, job: &Job) -> Result<Arc<Job>> {
        self.manager.get_job(job.id)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("job {} was removed while it was restoring", job.id))
        })
    }

    /// How the target differs from what the manifest is to say, if it does: a segment that lacks a file, or has
    /// one of another size, must never be made visible.
    async fn difference(&self, job: &Job) -> Result<Option<String>> {
        let snapshot = self.manager.snapshot()?;
        let folders: Vec<_> = snapshot.segments_of_job(job.id).map(|pair| pair.target.to_string()).collect();
        let mut found: BTreeMap<SegmentId, (u32, u64)> = BTreeMap::new();
        for entry in persist(&self.request.options, || self.target.list_all(folders.clone())).await? {
            let Entry::File(file) = entry else { continue };
            let folder = file.name.split_once('/').and_then(|(folder, _)| layout::segment_of_folder(folder));
            if let Some(segment) = folder {
                let (files, bytes) = found.entry(segment).or_default();
                (*files, *bytes) = (*files + 1, *bytes + file.bytes);
            }
        }
        let different = snapshot.segments_of_job(job.id).find_map(|pair| {
            let (files, bytes) = found.get(&pair.target).copied().unwrap_or_default();
            ((files, bytes) != (pair.files, pair.bytes)).then(|| {
                format!(
                    "{} has {files} files of {bytes} bytes instead of {} of {}: somebody changed the target",
                    self.target.describe(&pair.target.to_string()),
                    pair.files,
                    pair.bytes
                )
            })
        });
        Ok(different)
    }
}
