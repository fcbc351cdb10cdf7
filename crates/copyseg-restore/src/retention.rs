//! Retention: how long the records of jobs that have ended are kept.

use std::time::Duration;

use copyseg_core::{JobFilter, JobId, JobState, MetaManager, Result, Timestamp};

/// Removes the records of jobs that ended at least `keep` ago, with their tasks, and says which they were.
///
/// What was restored stays where it is, and so does the knowledge that it was: the manifest in the target
/// tells a later run of the same restore that there is nothing to do.
///
/// # Errors
/// Those of [`MetaManager::transact`]; the jobs removed before stay removed, and calling it again goes on.
pub async fn collect_garbage(manager: &MetaManager, keep: Duration) -> Result<Vec<JobId>> {
    let now = manager.now();
    let mut removed = Vec::new();
    for job in manager.list_jobs(&expired(now, keep))? {
        if manager.remove_job(job.id).await? {
            removed.push(job.id);
        }
    }
    Ok(removed)
}

/// The jobs that [`collect_garbage`] removes at the time `now`.
pub fn expired(now: Timestamp, keep: Duration) -> JobFilter {
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    match now.as_millis().checked_sub(keep_ms).map(Timestamp::from_millis) {
        Some(latest) => {
            let ended = JobState::ALL.into_iter().filter(|state| state.is_terminal());
            JobFilter::new().states(ended).completed(..=latest)
        }
        None => JobFilter::new().states([]),
    }
}
