//! How a restore ended, decided by one key that it writes once: the manifest, or the marker of an aborted restore.
//!
//! A consumer that finds a manifest finds every segment it names, whole. There is never one beside a marker,
//! because they share a key. The marker of an earlier restore stays there until the outcome of the next one replaces
//! it.

use copyseg_core::{Error, ErrorKind, Job, JobId, JobState, Result, SegmentId, SegmentPair};
use serde::{Deserialize, Serialize};

use crate::layout;
use crate::location::Location;
use crate::owner::Owner;
use crate::storage::Storage;

const FORMAT: u32 = 1;

/// How often a verdict is tried to be written while others write there too.
const ATTEMPTS_MAX: usize = 100;

/// What a completed restore made. Its bytes depend on nothing but the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    format: u32,
    /// The random name of the restore.
    pub restore: String,
    /// The job that made it.
    pub job: JobId,
    /// The canonical URL of the snapshot.
    pub source: String,
    /// The restored segments, in the order of their source ids.
    pub segments: Vec<RestoredSegment>,
}

/// A segment that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RestoredSegment {
    /// The segment in the snapshot.
    pub source: SegmentId,
    /// The segment in the target, which is also the name of its folder.
    pub target: SegmentId,
    /// How many files it has.
    pub files: u32,
    /// How many bytes they have.
    pub bytes: u64,
}

/// The mark of a restore that failed or was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Abort {
    format: u32,
    pub(crate) restore: String,
    pub(crate) job: JobId,
    pub(crate) cancelled: bool,
    pub(crate) reason: String,
}

/// What stands at the deciding key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Verdict {
    Completed(Manifest),
    Aborted(Abort),
}

/// A verdict as it is stored, with a checksum of its JSON form: a digit that changed would name another segment.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(default)]
    crc32c: Option<u32>,
}

impl Manifest {
    /// The manifest in `target`, if a restore was completed there. It is read whole.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if something else stands in its place, [`ErrorKind::Corrupt`] if it is damaged,
    /// [`ErrorKind::Unsupported`] if a newer version wrote it, [`ErrorKind::Unavailable`] if the target cannot be read.
    pub async fn read(target: &Location) -> Result<Option<Self>> {
        Ok(match Verdict::read(&*target.storage()).await? {
            Some(Verdict::Completed(manifest)) => Some(manifest),
            Some(Verdict::Aborted(_)) | None => None,
        })
    }

    /// How many bytes all segments have.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

impl Verdict {
    /// The manifest of `job`, whose segments are `pairs`.
    pub(crate) fn completed(restore: &str, job: &Job, pairs: impl Iterator<Item = SegmentPair>) -> Self {
        let mut segments: Vec<_> = pairs
            .map(|pair| RestoredSegment {
                source: pair.source,
                target: pair.target,
                files: pair.files,
                bytes: pair.bytes,
            })
            .collect();
        segments.sort_by_key(|segment| segment.source);
        let (restore, source) = (restore.to_owned(), job.source.clone());
        Self::Completed(Manifest { format: FORMAT, restore, job: job.id, source, segments })
    }

    /// The marker of a restore that ends in `state`, failed or cancelled.
    pub(crate) fn aborted(restore: &str, job: JobId, state: JobState, reason: &str) -> Self {
        Self::Aborted(Abort {
            format: FORMAT,
            restore: restore.to_owned(),
            job,
            cancelled: state == JobState::Cancelled,
            reason: reason.to_owned(),
        })
    }

    /// The random name of the restore that it is about.
    pub(crate) fn restore(&self) -> &str {
        match self {
            Self::Completed(manifest) => &manifest.restore,
            Self::Aborted(abort) => &abort.restore,
        }
    }

    /// The job that it is about.
    pub(crate) fn job(&self) -> JobId {
        match self {
            Self::Completed(manifest) => manifest.job,
            Self::Aborted(abort) => abort.job,
        }
    }

    fn format(&self) -> u32 {
        match self {
            Self::Completed(manifest) => manifest.format,
            Self::Aborted(abort) => abort.format,
        }
    }

    fn checksum(&self) -> Option<u32> {
        Some(crc32c::crc32c(&serde_json::to_vec(self).ok()?))
    }

    /// What stands at the key, if anything does.
    pub(crate) async fn read(target: &dyn Storage) -> Result<Option<Self>> {
        let content = target.read(layout::OUTCOME).await?;
        content.map(|content| Self::of_content(&content, target)).transpose()
    }

    fn of_content(content: &[u8], target: &dyn Storage) -> Result<Self> {
        let what = || target.describe(layout::OUTCOME);
        let Stored { verdict, crc32c } = serde_json::from_slice(content).map_err(|error| {
            let message =
                format!("{} was not written by copyseg, or is damaged: choose another target", what());
            Error::with_source(ErrorKind::InvalidArgument, message, error)
        })?;
        match verdict.format() {
            FORMAT if crc32c.is_some_and(|stored| verdict.checksum() != Some(stored)) => Err(Error::new(
                ErrorKind::Corrupt,
                format!("{} is damaged: its checksum does not match; restore a copy of it", what()),
            )),
            FORMAT => Ok(verdict),
            format => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} has format {format}, and this version of copyseg reads {FORMAT}: use a newer version",
                    what()
                ),
            )),
        }
    }

    /// Puts this verdict at the key unless its restore has one already, or the target has another owner now; answers
    /// what stands there.
    pub(crate) async fn decide(self, target: &dyn Storage, staging: &str) -> Result<Self> {
        let stored = Stored { verdict: self.clone(), crc32c: self.checksum() };
        let content = serde_json::to_vec(&stored).map_err(|error| {
            Error::with_source(ErrorKind::InvalidArgument, "the manifest has no JSON form", error)
        })?;
        let content = bytes::Bytes::from(content);
        for _ in 0..ATTEMPTS_MAX {
            let Some(found) = target.read(layout::OUTCOME).await? else {
                if target.create(layout::OUTCOME, staging, content.clone()).await? {
                    return Ok(self);
                }
                // Whoever was first, an earlier request of this restore included.
                continue;
            };
            let verdict = Self::of_content(&found, target)?;
            if matches!(verdict, Self::Completed(_)) || verdict.restore() == self.restore() {
                return Ok(verdict);
            }
            // The mark of another restore. It is an earlier one's only if the owner is asked for after it was read:
            // who takes the target over leaves a mark at this key before.
            if Owner::read(target).await?.is_none_or(|owner| owner.restore != self.restore()) {
                return Ok(verdict);
            }
            if target.replace(layout::OUTCOME, staging, &found, content.clone()).await? {
                return Ok(self);
            }
        }
        let what = target.describe(layout::OUTCOME);
        Err(Error::new(ErrorKind::Unavailable, format!("{what} keeps changing: try again")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGING: &str = "_copyseg/staging/test/run";

    async fn mark(target: &dyn Storage, restore: &str) -> Verdict {
        let mark = Verdict::aborted(restore, JobId(7), JobState::Failed, "it failed");
        mark.decide(target, STAGING).await.unwrap()
    }

    #[tokio::test]
    async fn the_mark_of_an_earlier_restore_is_replaced_and_that_of_a_later_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = Location::parse(folder.path().to_str().unwrap()).unwrap().storage();
        let target = &*target;
        target.prepare(layout::RECORDS).await.unwrap();
        target.open_staging(STAGING).await.unwrap();
        let owner = |restore| Owner::new(restore, JobId(7), "redb:///catalog", "file:///snapshot", 1..3);
        let [first, second] = ["first", "second"].map(owner);

        assert_eq!(first.create(target, STAGING).await.unwrap(), None);
        assert_eq!(mark(target, "first").await.restore(), "first");
        assert_eq!(mark(target, "second").await.restore(), "first", "it does not own the target yet");
        assert_eq!(second.replace(target, STAGING, &first).await.unwrap(), None);
        assert_eq!(mark(target, "second").await.restore(), "second");
        assert_eq!(mark(target, "first").await.restore(), "second", "it owns the target no more");
        assert_eq!(Verdict::read(target).await.unwrap().unwrap().restore(), "second");
    }
}
