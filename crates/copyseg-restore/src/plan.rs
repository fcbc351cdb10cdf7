//! From a snapshot to the segments of a job: what is there, what it is to be checked against, how it is cut.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::ops::Range;

use copyseg_core::{Error, ErrorKind, NewTask, Result, SegmentId, SegmentPair};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::failure::{Failure, FailureKind};
use crate::layout;
use crate::storage::content::Content;
use crate::storage::{Entry, File, Storage};

/// The segments of a snapshot with their files, in the order of their ids.
#[derive(Debug)]
pub(crate) struct Plan {
    segments: BTreeMap<SegmentId, Vec<File>>,
}

/// The plan as it is kept beside the copies while the restore is unfinished, with a checksum of the JSON form of the
/// files: damage would have another one blamed for a change.
#[derive(Serialize, Deserialize)]
struct StoredPlan {
    files: Vec<File>,
    crc32c: u32,
}

impl StoredPlan {
    fn of(files: Vec<File>) -> serde_json::Result<Self> {
        let crc32c = crc32c::crc32c(&serde_json::to_vec(&files)?);
        Ok(Self { files, crc32c })
    }

    /// The files of an undamaged plan.
    fn read(content: &[u8]) -> Option<Vec<File>> {
        let stored: Self = serde_json::from_slice(content).ok()?;
        let expected = stored.crc32c;
        Self::of(stored.files).ok().filter(|plan| plan.crc32c == expected).map(|plan| plan.files)
    }
}

impl Plan {
    /// Reads the snapshot in `source`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the first entry that is not a file in the folder of a segment.
    pub(crate) async fn of_snapshot(source: &dyn Storage) -> Result<Self> {
        let mut entries = source.list("").await?;
        entries.sort_by(|one, other| one.name().cmp(other.name()));
        let mut segments: BTreeMap<SegmentId, Vec<File>> = BTreeMap::new();
        for entry in entries {
            let (segment, file) = segment_file(entry).map_err(|(name, what)| {
                let what = format!(
                    "`{}` is {what}, and a snapshot holds nothing but one folder of files per segment, named by \
                     its integer id: remove it or choose another source; nothing was written",
                    source.describe(&name)
                );
                Error::new(ErrorKind::InvalidArgument, what)
            })?;
            segments.entry(segment).or_default().push(file);
        }
        if segments.is_empty() {
            let message = format!(
                "there is no snapshot at {}: expected one folder of files per segment, named by its integer id",
                source.describe("")
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        Ok(Self { segments })
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Refuses names that the target cannot hold, before anything is written.
    pub(crate) fn check_names(&self, target: &dyn Storage) -> Result<()> {
        if target.as_remote().is_none() {
            return Ok(());
        }
        for file in self.segments.values().flatten() {
            object_store::path::Path::parse(&file.name).map_err(|error| {
                let message =
                    format!("the file `{}` cannot be named in a remote store: rename it", file.name);
                Error::with_source(ErrorKind::InvalidArgument, message, error)
            })?;
        }
        Ok(())
    }

    /// The tasks that copy the snapshot into the segments `targets`, as many as there are in the snapshot.
    pub(crate) fn tasks(&self, targets: Range<i64>, segments_per_task: usize) -> Vec<NewTask> {
        let pairs: Vec<SegmentPair> = self.segments.iter().zip(targets).map(pair).collect();
        pairs.chunks(segments_per_task).map(|pairs| NewTask::new(pairs.iter().copied())).collect()
    }

    /// Keeps the names of the files in the target, so that a later run can tell which one changed.
    pub(crate) async fn store(
        &self,
        target: &dyn Storage,
        restore: &str,
        staging: &str,
    ) -> Result<(), Failure> {
        let plan = StoredPlan::of(self.segments.values().flatten().cloned().collect());
        let name = layout::plan(restore);
        let content = plan.and_then(|plan| serde_json::to_vec(&plan)).map_err(|error| {
            let message = format!("cannot write the plan {}", target.describe(&name));
            Failure::caused(FailureKind::Permanent, message, error)
        })?;
        let bytes = content.len() as u64;
        target.write(&name, staging, bytes, Content::of(content)).await
    }
}

fn pair(((source, files), target): ((&SegmentId, &Vec<File>), i64)) -> SegmentPair {
    SegmentPair {
        files: u32::try_from(files.len()).unwrap_or(u32::MAX),
        bytes: files.iter().map(|file| file.bytes).sum(),
        fingerprint: fingerprint(files),
        ..SegmentPair::new(*source, SegmentId(target))
    }
}

/// The file and its segment, or the name of what is neither and what it is instead.
fn segment_file(entry: Entry) -> Result<(SegmentId, File), (String, String)> {
    let (name, what) = match entry {
        Entry::Other(name, what) => (name, what.to_owned()),
        Entry::File(file) => match file.name.split_once('/') {
            Some((folder, _)) => match layout::segment_of_folder(folder) {
                Some(segment) => return Ok((segment, file)),
                None => (folder.to_owned(), "not named by an integer id".to_owned()),
            },
            None => (file.name, "a loose file".to_owned()),
        },
    };
    Err((name, what))
}

/// The files of one segment as they are now, sorted by name, if they are what the plan saw.
///
/// # Errors
/// A permanent failure naming the file that changed since the plan.
pub(crate) async fn unchanged_files(
    source: &dyn Storage,
    target: &dyn Storage,
    restore: &str,
    planned: &SegmentPair,
) -> Result<Vec<File>, Failure> {
    let folder = planned.source.to_string();
    let mut files = Vec::new();
    for entry in source.list(&folder).await? {
        match entry {
            Entry::File(file) => files.push(file),
            Entry::Other(name, what) if name != folder => {
                return Err(crate::storage::changed(&source.describe(&name), &format!("is now {what}")));
            }
            Entry::Other(..) => {}
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    if fingerprint(&files) == planned.fingerprint {
        return Ok(files);
    }
    let stored = target.read(&layout::plan(restore)).await?.unwrap_or_default();
    let prefix = format!("{folder}/");
    let difference = StoredPlan::read(&stored).and_then(|mut planned| {
        planned.retain(|file| file.name.starts_with(&prefix));
        difference(&planned, &files)
    });
    Err(match difference {
        Some((name, how)) => crate::storage::changed(&source.describe(&name), &how),
        None => {
            let bytes: u64 = files.iter().map(|file| file.bytes).sum();
            let how = format!(
                "had {} files of {} bytes and now has {} of {bytes}, or some were replaced",
                planned.files,
                planned.bytes,
                files.len()
            );
            crate::storage::changed(&source.describe(&folder), &how)
        }
    })
}

/// The first file that differs, and how.
fn difference(planned: &[File], found: &[File]) -> Option<(String, String)> {
    let by_name = |files: &[File]| -> BTreeMap<String, File> {
        files.iter().map(|file| (file.name.clone(), file.clone())).collect()
    };
    let (planned, found) = (by_name(planned), by_name(found));
    let gone_or_changed = planned.values().find_map(|was| {
        let how = match found.get(&was.name) {
            None => "is gone".to_owned(),
            Some(is) if is.bytes != was.bytes => format!("had {} bytes and now has {}", was.bytes, is.bytes),
            Some(is) if is.stamp != was.stamp => "was modified".to_owned(),
            Some(_) => return None,
        };
        Some((was.name.clone(), how))
    });
    let new = || found.keys().find(|name| !planned.contains_key(*name));
    gone_or_changed.or_else(|| new().map(|name| (name.clone(), "is new".to_owned())))
}

/// A hash of names, sizes and stamps of the files of one segment, sorted by name; never 0, which means unknown.
fn fingerprint(files: &[File]) -> u64 {
    let mut hash = XxHash3_64::new();
    for file in files {
        for text in [&file.name, &file.stamp] {
            hash.write(&(text.len() as u64).to_le_bytes());
            hash.write(text.as_bytes());
        }
        hash.write(&file.bytes.to_le_bytes());
    }
    hash.finish().max(1)
}
