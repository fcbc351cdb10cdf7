//! Reads files, on a thread that may block: those of a source in the one version that was planned, a copy as it is.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::stamp;
use crate::failure::Failure;
use crate::storage::content::{Checksum, Chunks};
use crate::storage::{File, changed};

/// How much of a file is in memory at a time: no more than stays in the cache of a processor until it is written.
pub(super) const CHUNK_BYTES: u64 = 256 << 10;

/// Reads one version of a file, chunk by chunk. The first one opens it.
pub(super) struct Reader {
    disk: Disk,
    path: PathBuf,
    file: File,
    source: Option<fs::File>,
    mode: Option<u32>,
    read: u64,
}

impl Reader {
    pub(super) fn new(disk: Disk, path: PathBuf, file: File) -> Self {
        Self { disk, path, file, source: None, mode: None, read: 0 }
    }

    fn open(&mut self) -> Result<fs::File, Failure> {
        let source = self.disk.open(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => changed(&self.path.display().to_string(), "is gone"),
            _ => Failure::of_file("read", &self.path, error),
        })?;
        self.mode = Some(self.check_version(&source)?.mode());
        Ok(source)
    }

    fn check_version(&self, source: &fs::File) -> Result<Metadata, Failure> {
        let metadata = source.metadata();
        let metadata = metadata.map_err(|error| Failure::of_file("read", &self.path, error))?;
        if metadata.len() != self.file.bytes {
            return Err(self.has_now(metadata.len()));
        }
        if stamp(&metadata) != self.file.stamp {
            return Err(changed(&self.path.display().to_string(), "was modified"));
        }
        Ok(metadata)
    }

    fn has_now(&self, bytes: u64) -> Failure {
        let how = format!("had {} bytes and now has {bytes}", self.file.bytes);
        changed(&self.path.display().to_string(), &how)
    }
}

impl Chunks for Reader {
    fn next(&mut self, chunk: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut source = match self.source.take() {
            Some(source) => source,
            None => self.open()?,
        };
        let wanted = CHUNK_BYTES.min(self.file.bytes - self.read);
        let read = fill(&mut source, &self.path, chunk, wanted)?;
        self.read += read;
        if read == wanted && self.read < self.file.bytes {
            self.source = Some(source);
            return Ok(true);
        }
        self.check_version(&source)?;
        if self.read != self.file.bytes {
            return Err(self.has_now(self.read));
        }
        Ok(false)
    }

    fn mode(&self) -> Option<u32> {
        self.mode
    }
}

/// The checksum of what is in a file now, if it is there. `heard` is called for each chunk, and says whether to go on.
pub(super) fn checksum(
    disk: &Disk,
    path: &Path,
    mut heard: impl FnMut() -> Result<(), Failure>,
) -> Result<Option<Checksum>, Failure> {
    let mut file = match disk.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| Failure::of_file("read", path, error))?,
    };
    let metadata = file.metadata().map_err(|error| Failure::of_file("read", path, error))?;
    // One byte more, to see the end of a small file in its one chunk.
    let wanted = CHUNK_BYTES.min(metadata.len() + 1);
    let (mut sum, mut chunk) = (Checksum::default(), Vec::new());
    loop {
        let read = fill(&mut file, path, &mut chunk, wanted)?;
        sum.add(&chunk);
        heard()?;
        if read < wanted {
            return Ok(Some(sum));
        }
    }
}

/// Reads as many bytes as are wanted, fewer at the end.
fn fill(file: &mut fs::File, path: &Path, chunk: &mut Vec<u8>, wanted: u64) -> Result<u64, Failure> {
    chunk.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0);
    let mut read = 0;
    while read < chunk.len() {
        match file.read(&mut chunk[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::of_file("read", path, error)),
        }
    }
    chunk.truncate(read);
    Ok(read as u64)
}
