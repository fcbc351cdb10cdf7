//! What ends a run from outside: a catalog that is lost or does not answer, a target that became somebody else's, a
//! deadline.

use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Job, JobId, JobState, Result};
use tokio::time::{sleep, timeout};

use super::Run;
use super::patience::persist;
use crate::layout;
use crate::options;
use crate::owner::Owner;
use crate::request::Outcome;

/// How often it looks, at most.
const PERIOD_MAX: Duration = Duration::from_secs(1);

/// How long the end of a job whose deadline has passed may take to be recorded.
const GIVE_UP_MAX: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Answers once the catalog is somebody else's, or has not answered for too long.
    pub(super) async fn lost_catalog(&self) -> Error {
        let patience = self.request.options.catalog_timeout;
        loop {
            sleep(PERIOD_MAX.min(patience)).await;
            // It changes nothing, so it is answered as soon as everything before it is.
            match timeout(patience, self.manager.transact(|_| Ok(()))).await {
                Ok(Err(error)) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Closed) => {
                    return error;
                }
                Ok(_) => {}
                Err(_) => {
                    return Error::new(
                        ErrorKind::Unavailable,
                        format!(
                            "the catalog {} has not said for {patience:?} what became of a change: when it is back, \
                             run the same restore again to go on",
                            self.catalog_url
                        ),
                    );
                }
            }
        }
    }

    /// Answers why the target is no longer this restore's, once that is so.
    pub(super) async fn target_is_lost(&self, job: &Job) -> String {
        loop {
            sleep(self.period()).await;
            match self.look_for_owner(job).await {
                Ok(None) => {}
                Ok(Some(reason)) => return reason,
                // Copying fails too then, and says more.
                Err(error) => {
                    tracing::debug!(error = error.chain(), "whose the target is could not be asked")
                }
            }
        }
    }

    /// Why the target is no longer this restore's, if it is not.
    pub(super) async fn lost_target(&self, job: &Job) -> Result<Option<String>> {
        persist(&self.request.options, || self.look_for_owner(job)).await
    }

    /// Answers that the deadline of the job has passed, once it has.
    pub(super) async fn deadline_has_passed(&self, job: JobId) -> Result<String> {
        loop {
            let deadline = self.manager.get_job(job)?.and_then(|job| job.deadline);
            if let Some(deadline) = deadline.filter(|deadline| *deadline <= self.manager.now()) {
                return Ok(format!("the deadline of the restore, {deadline}, has passed"));
            }
            sleep(self.period()).await;
        }
    }

    /// Fails a job whose deadline has passed, if that can be recorded soon; otherwise the next run does it.
    pub(super) async fn give_up(&self, job: &Job, reason: &str) -> Result<Outcome> {
        if let Ok(outcome) = timeout(GIVE_UP_MAX, self.abort(job, JobState::Failed, reason)).await {
            return outcome;
        }
        // A target that does not answer keeps no job from ending: not one segment of it was to be published yet.
        match timeout(GIVE_UP_MAX, self.write_end(job, JobState::Failed, reason)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{reason}, but the catalog {} does not answer: when it is back, run the same restore again",
                    self.catalog_url
                ),
            )),
        }
    }

    /// Often enough for a test with a short heartbeat timeout.
    fn period(&self) -> Duration {
        (self.request.options.heartbeat_timeout / 4).clamp(Duration::from_millis(10), PERIOD_MAX)
    }

    async fn look_for_owner(&self, job: &Job) -> Result<Option<String>> {
        let restore = options::restore_of(job).unwrap_or_default();
        let owner = match Owner::read(&*self.target).await? {
            None if self.has_owned(restore).await? => {
                tracing::warn!(job = %job.id, "{} was removed; it is written again", layout::OWNER);
                let rival = self.owner(job, restore)?.create(&*self.target, &self.staging(restore)).await?;
                return Ok(rival.map(|rival| self.taken_by(&rival)));
            }
            owner => owner,
        };
        Ok(match owner {
            Some(owner) if owner.restore == restore => None,
            Some(owner) => Some(self.taken_by(&owner)),
            None => {
                Some(format!("{} is gone: somebody cleared the target", self.target.describe(layout::OWNER)))
            }
        })
    }

    fn taken_by(&self, owner: &Owner) -> String {
        self.refused(owner, "took it over").chain()
    }
}
