//! Taking the target: every run makes sure that it is the restore's own before anything is copied.

use copyseg_core::{Error, ErrorKind, Job, JobAction, JobState, Result};

use super::Run;
use crate::layout;
use crate::location::Location;
use crate::options;
use crate::owner::Owner;
use crate::request::RestoreRequest;
use crate::storage::Storage;
use crate::verdict::Verdict;

/// Why a target is refused that belongs to another restore, and what its user can do.
pub(super) const COMPLETED: &str = "was completed, and is never replaced: choose another target";
const CHANGED_HANDS: &str = "has just lost it to another one: run the same restore again to see which";
const FASTER: &str = "was faster: let it end, or choose another target";
const NOT_KNOWN_TO_HAVE_ENDED: &str = "is not known to have ended: let it end, or choose another target; if its process \
                                       is gone for good, `restore --take-over` takes this one over";

impl Run<'_> {
    /// Makes `job` the owner of the target, clearing away what an earlier restore left there.
    ///
    /// The order survives a crash at any point: the job is recorded before, and the copies of the earlier restore
    /// go while its owner still names them.
    pub(super) async fn take_target(&self, job: &Job) -> Result<()> {
        let target = &*self.target;
        let restore = options::restore_of(job).unwrap_or_default();
        let earlier = Owner::read(target).await?;
        let is_own = match &earlier {
            Some(owner) => owner.restore == restore,
            None => self.has_owned(restore).await?,
        };
        if !is_own {
            self.check_may_take(earlier.as_ref()).await?;
        }
        target.prepare(layout::RECORDS).await?;
        self.open_staging(job, restore).await?;
        let staging = &self.staging(restore);
        let rival = match earlier {
            Some(_) if is_own => None,
            None => self.owner(job, restore)?.create(target, staging).await?,
            Some(earlier) => {
                let owner = self.owner(job, restore)?;
                if owner.shares_segments_with(&earlier) {
                    // It came after the ids of this job were chosen. Were it still copying, it would copy into them.
                    return Err(self.refused(&earlier, FASTER));
                }
                self.end_for_good(&earlier, staging).await?;
                earlier.remove_copies(target).await?;
                owner.replace(target, staging, &earlier).await?
            }
        };
        match rival {
            Some(rival) => Err(self.refused(&rival, FASTER)),
            None => Ok(()),
        }
    }

    /// Opens the staging folder of this run and removes those of earlier ones, so that their processes, should one of
    /// them wake up, can put nothing more in place.
    ///
    /// No other process had taken the catalog over when the commit between listing and removing them was made; so
    /// none of those listed is a successor's, and a successor finds the one of this run.
    async fn open_staging(&self, job: &Job, restore: &str) -> Result<()> {
        let all = layout::staging(restore);
        let earlier = self.target.names(&all).await?;
        self.begun.lock().push(restore.to_owned());
        self.target.open_staging(&self.staging(restore)).await?;
        // Why it waited no longer holds.
        let cleared = || self.manager.update_job(job.id, [JobAction::Reason(String::new())]);
        match self.record(cleared).await {
            Err(error) if error.kind() != ErrorKind::IllegalTransition => return Err(error),
            _ => {}
        }
        for run in earlier {
            self.target.sweep(layout::STAGING, &format!("{all}/{run}")).await?;
        }
        Ok(())
    }

    /// Whether a target without owner record is this restore's all the same: its plan is written by the owner alone,
    /// and goes before another becomes the owner.
    pub(super) async fn has_owned(&self, restore: &str) -> Result<bool> {
        Ok(self.target.find(&layout::plan(restore)).await?.is_some())
    }

    /// Refuses a target that is not this restore's to take.
    pub(super) async fn check_may_take(&self, owner: Option<&Owner>) -> Result<()> {
        let Some(owner) = owner else { return check_vacant(&self.request.target).await };
        if let Some(Verdict::Completed(_)) = Verdict::read(&*self.target).await? {
            return Err(self.refused(owner, COMPLETED));
        }
        if self.request.options.take_over || self.is_over(owner).await? {
            return Ok(());
        }
        Err(self.refused(owner, NOT_KNOWN_TO_HAVE_ENDED))
    }

    /// Whether the owner is a try at this same request, from the same catalog. A catalog has more than one URL when it is
    /// on a cluster of which not all members are named; the job that drew the owner's name is in one catalog alone.
    pub(super) fn is_same_restore(&self, owner: &Owner) -> bool {
        let knows = || {
            let job = self.manager.get_job(owner.job).ok().flatten();
            job.is_some_and(|job| options::restore_of(&job) == Some(&owner.restore))
        };
        owner.is_of(self.request, self.catalog_url)
            || (owner.source == self.request.source.as_str() && knows())
    }

    pub(super) fn is_server_side(&self) -> bool {
        let bucket = |storage: &dyn crate::storage::Storage| {
            storage.as_remote().map(|remote| remote.bucket().to_owned())
        };
        bucket(&*self.source).is_some_and(|source| bucket(&*self.target) == Some(source))
    }

    pub(super) fn refused(&self, owner: &Owner, why: &str) -> Error {
        refused(&self.request.target, owner, why)
    }

    /// Whether the owner is an earlier try of this same restore, and certainly over.
    async fn is_over(&self, owner: &Owner) -> Result<bool> {
        if !self.is_same_restore(owner) {
            return Ok(false);
        }
        let job = self.manager.get_job(owner.job)?;
        match job.filter(|job| options::restore_of(job) == Some(&owner.restore)) {
            Some(job) => Ok(matches!(job.state, JobState::Failed | JobState::Cancelled)),
            // The record is gone. This process holds the catalog, so no other works for it; only on another host
            // may the same URL mean another catalog, as it may for one in memory anywhere.
            None if owner.is_of_this_host() && !self.catalog_url.starts_with("memory:") => Ok(true),
            None => Ok(Verdict::read(&*self.target).await?.is_some_and(|it| it.restore() == owner.restore)),
        }
    }

    /// Makes sure that the earlier restore can never publish any more.
    async fn end_for_good(&self, owner: &Owner, staging: &str) -> Result<()> {
        let reason = format!("taken over by a restore of {}", self.request.source);
        let marker = Verdict::aborted(&owner.restore, owner.job, JobState::Failed, &reason);
        match marker.decide(&*self.target, staging).await? {
            Verdict::Completed(_) => Err(self.refused(owner, COMPLETED)),
            Verdict::Aborted(abort) if abort.restore == owner.restore => Ok(()),
            Verdict::Aborted(_) => Err(self.refused(owner, CHANGED_HANDS)),
        }
    }

    pub(super) fn owner(&self, job: &Job, restore: &str) -> Result<Owner> {
        let snapshot = self.manager.snapshot()?;
        let targets = snapshot.segments_of_job(job.id).map(|pair| pair.target.0);
        let (first, last) =
            targets.fold((i64::MAX, i64::MIN), |(first, last), id| (first.min(id), last.max(id)));
        let source = self.request.source.as_str();
        Ok(Owner::new(restore, job.id, self.catalog_url, source, first..last.saturating_add(1)))
    }
}

/// Refuses a target with an owner that a catalog without any job could not take.
pub(super) async fn check_may_take_anew(
    request: &RestoreRequest,
    catalog_url: &str,
    owner: &Owner,
) -> Result<()> {
    if owner.is_of(request, catalog_url) {
        return Ok(());
    }
    match Verdict::read(&*request.target.storage()).await? {
        Some(Verdict::Completed(_)) => Err(refused(&request.target, owner, COMPLETED)),
        _ if request.options.take_over => Ok(()),
        _ => Err(refused(&request.target, owner, NOT_KNOWN_TO_HAVE_ENDED)),
    }
}

fn refused(target: &Location, owner: &Owner, why: &str) -> Error {
    let message = format!("{target} belongs to {owner}; that restore {why}");
    Error::new(ErrorKind::AlreadyExists { identical: false }, message)
}

/// Whether an unfinished restore has owned the target.
pub(super) async fn has_plan(target: &dyn Storage) -> Result<bool> {
    let plan = layout::plan("");
    let records = target.names(layout::RECORDS).await?;
    Ok(records.iter().any(|name| format!("{}/{name}", layout::RECORDS).starts_with(&plan)))
}

/// Refuses a target without owner in which something stands that the restore would mix up with its own.
pub(super) async fn check_vacant(location: &Location) -> Result<()> {
    let target = &*location.storage();
    let names = target.names("").await?;
    let segment = names.into_iter().filter(|name| layout::segment_of_folder(name).is_some()).min();
    let records = target.names(layout::RECORDS).await?.into_iter();
    let staging = layout::STAGING.rsplit('/').next();
    let record = records.filter(|name| Some(name.as_str()) != staging).min();
    let Some(name) = segment.or(record.map(|name| format!("{}/{name}", layout::RECORDS))) else {
        return Ok(());
    };
    match Owner::read(target).await? {
        // It came while this was looking.
        Some(owner) => Err(refused(location, &owner, FASTER)),
        None => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "`{}` is there already and belongs to no restore: choose another target or remove it; \
                 nothing was written",
                target.describe(&name)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_that_was_taken_while_this_was_looking_belongs_to_whoever_took_it() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap()).unwrap();
        check_vacant(&location).await.unwrap();
        let owner =
            Owner::new("faster", copyseg_core::JobId(7), "redb:///other.redb", "file:///snapshot", 1..3);
        location.storage().prepare(layout::RECORDS).await.unwrap();
        let storage = location.storage();
        storage.open_staging("_copyseg/staging/test").await.unwrap();
        assert_eq!(owner.create(&*storage, "_copyseg/staging/test").await.unwrap(), None);
        let refused = check_vacant(&location).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists { identical: false });
        assert!(refused.to_string().contains("belongs to job 7"), "{refused}");
    }
}
