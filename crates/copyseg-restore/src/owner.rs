//! Whose target this is: a create-only record that every run checks before it copies anything.

use std::fmt;
use std::ops::Range;

use copyseg_core::{Error, ErrorKind, JobId, Result, SegmentId};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::layout;
use crate::request::RestoreRequest;
use crate::storage::Storage;

const FORMAT: u32 = 1;

/// What to do about an owner that cannot be read. The restore whose it is finds its plan, and writes it again.
const TO_REPAIR: &str = "choose another target; if a restore into this one is unfinished, remove that file and run the \
                         same restore again to go on";

/// The restore that owns a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    format: u32,
    /// A random name, which only the job that drew it knows: equality proves identity.
    pub(crate) restore: String,
    pub(crate) job: JobId,
    pub(crate) catalog: String,
    pub(crate) host: String,
    time: String,
    pub(crate) source: String,
    first_segment: SegmentId,
    last_segment: SegmentId,
    /// Of the JSON form without it: a digit that changed would name other segments, which are removed one day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32c: Option<u32>,
}

impl Owner {
    /// The restore `restore` by `job`, whose target segments are `segments`.
    pub(crate) fn new(restore: &str, job: JobId, catalog: &str, source: &str, segments: Range<i64>) -> Self {
        let mut owner = Self {
            format: FORMAT,
            restore: restore.to_owned(),
            job,
            catalog: catalog.to_owned(),
            host: host(),
            time: copyseg_core::Clock::now(&copyseg_core::SystemClock::default()).to_string(),
            source: source.to_owned(),
            first_segment: SegmentId(segments.start),
            last_segment: SegmentId(segments.end.saturating_sub(1)),
            crc32c: None,
        };
        owner.crc32c = owner.checksum();
        owner
    }

    /// The owner of `target`, if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if something else stands in its place, [`ErrorKind::Corrupt`] if it is damaged,
    /// [`ErrorKind::Unsupported`] if a newer version wrote it.
    pub(crate) async fn read(target: &dyn Storage) -> Result<Option<Self>> {
        let Some(content) = target.read(layout::OWNER).await? else { return Ok(None) };
        let what = target.describe(layout::OWNER);
        let owner: Self = serde_json::from_slice(&content).map_err(|error| {
            let message = format!("{what} was not written by copyseg, or is damaged: {TO_REPAIR}");
            Error::with_source(ErrorKind::InvalidArgument, message, error)
        })?;
        if owner.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{what} has format {}, and this version of copyseg reads {FORMAT}: use a newer version",
                    owner.format
                ),
            ));
        }
        // It is replaced by whoever takes over only as long as it has these very bytes.
        if owner.crc32c != owner.checksum() || owner.content() != content {
            let message = format!("{what} is damaged, its checksum does not match: {TO_REPAIR}");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(Some(owner))
    }

    /// Takes a target that has no owner. If somebody was faster, answers who.
    pub(crate) async fn create(&self, target: &dyn Storage, staging: &str) -> Result<Option<Self>> {
        if target.create(layout::OWNER, staging, self.content().into()).await? {
            return Ok(None);
        }
        // An earlier request of this same restore may have created it.
        Ok(Self::read(target).await?.filter(|found| found.restore != self.restore))
    }

    /// Takes the target from `earlier`. If that is no longer its owner, answers who is.
    pub(crate) async fn replace(
        &self,
        target: &dyn Storage,
        staging: &str,
        earlier: &Self,
    ) -> Result<Option<Self>> {
        if target.replace(layout::OWNER, staging, &earlier.content(), self.content().into()).await? {
            return Ok(None);
        }
        Ok(Self::read(target).await?.filter(|found| found.restore != self.restore))
    }

    /// Removes every segment of this restore from `target`, and what it left unfinished. That goes first: then a
    /// process that still copies for it can put nothing more in place.
    pub(crate) async fn remove_copies(&self, target: &dyn Storage) -> Result<(), Failure> {
        target.sweep(layout::STAGING, &layout::staging(&self.restore)).await?;
        let segments = self.first_segment..=self.last_segment;
        for name in target.names("").await? {
            if layout::segment_of_folder(&name).is_some_and(|segment| segments.contains(&segment)) {
                target.remove(&name).await?;
            }
        }
        target.remove(&layout::plan(&self.restore)).await?;
        target.settle(vec![layout::RECORDS.to_owned()], Box::new(|| {})).await
    }

    /// Whether it is a try at this same request, from the same catalog.
    pub(crate) fn is_of(&self, request: &RestoreRequest, catalog_url: &str) -> bool {
        self.source == request.source.as_str() && self.catalog == catalog_url
    }

    /// The highest id among its target segments.
    pub(crate) fn last_segment(&self) -> i64 {
        self.last_segment.0
    }

    /// Whether it has target segments with the same ids as `other`.
    pub(crate) fn shares_segments_with(&self, other: &Self) -> bool {
        self.first_segment <= other.last_segment && other.first_segment <= self.last_segment
    }

    /// Whether this process runs on the host that the owner was made on.
    pub(crate) fn is_of_this_host(&self) -> bool {
        self.host == host()
    }

    fn checksum(&self) -> Option<u32> {
        Some(crc32c::crc32c(&Self { crc32c: None, ..self.clone() }.content()))
    }

    fn content(&self) -> Vec<u8> {
        // A struct of strings and numbers always has a JSON form.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, catalog, host, time, source, .. } = self;
        write!(f, "job {job} of the catalog {catalog}, which restores {source} (host {host}, {time})")
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
