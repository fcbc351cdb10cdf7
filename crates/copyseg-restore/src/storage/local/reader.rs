//! Reads files of a source, each in the one version that was planned.

use std::fs;
use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::disk::Disk;
use super::stamp;
use crate::failure::Failure;
use crate::storage::{File, changed};

/// How much of a file is in memory at a time.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;

/// Reads one version of a file, chunk by chunk.
pub(super) struct Reader {
    source: fs::File,
    path: PathBuf,
    file: File,
    read: u64,
    is_at_end: bool,
}

impl Reader {
    pub(super) fn open(disk: &Disk, path: PathBuf, file: File) -> Result<Self, Failure> {
        let source = disk.open(&path).map_err(|error| source_failure(&path, error))?;
        let reader = Self { source, path, file, read: 0, is_at_end: false };
        reader.check_version()?;
        Ok(reader)
    }

    /// Whether there are no more bytes, so that nobody has to ask for them.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The next bytes, none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut chunk =
            Vec::with_capacity(usize::try_from(CHUNK_BYTES.min(self.file.bytes)).unwrap_or(0) + 1);
        let read = (&mut self.source).take(CHUNK_BYTES).read_to_end(&mut chunk);
        self.read += read.map_err(|error| Failure::of_file("read", &self.path, error))? as u64;
        self.is_at_end = (chunk.len() as u64) < CHUNK_BYTES;
        if self.is_at_end || self.read > self.file.bytes {
            self.check_version()?;
            if self.read != self.file.bytes {
                let how = format!("had {} bytes and now has {}", self.file.bytes, self.read);
                return Err(changed(&self.path.display().to_string(), &how));
            }
        }
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    fn check_version(&self) -> Result<(), Failure> {
        let metadata = self.source.metadata();
        let metadata = metadata.map_err(|error| Failure::of_file("read", &self.path, error))?;
        let path = || self.path.display().to_string();
        if metadata.len() != self.file.bytes {
            let how = format!("had {} bytes and now has {}", self.file.bytes, metadata.len());
            return Err(changed(&path(), &how));
        }
        if stamp(&metadata) != self.file.stamp {
            return Err(changed(&path(), "was modified"));
        }
        Ok(())
    }
}

fn source_failure(path: &Path, error: Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => changed(&path.display().to_string(), "is gone"),
        _ => Failure::of_file("read", path, error),
    }
}
