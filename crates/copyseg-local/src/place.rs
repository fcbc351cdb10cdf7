//! Where a catalog lies: a path that keeps its meaning, names that outlive a power cut, and a file known for itself.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use copyseg_core::{Error, ErrorKind, Result};

use crate::error::io_failed;

/// Where a store was opened, and which file that was.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// The place at `path` of the open file that has this metadata.
    pub fn new(path: impl Into<PathBuf>, metadata: &Metadata) -> Self {
        Self { path: path.into(), device: metadata.dev(), inode: metadata.ino() }
    }

    /// Makes sure that a commit was made into a file that is found again. Into any other it has not been kept, and
    /// whoever is at the path now says, by its head, whether it has the commit. Messages call the catalog `name`.
    ///
    /// # Errors
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if the path no longer leads to the file.
    pub fn check(&self, name: &str) -> Result<()> {
        if identity(&self.path).is_ok_and(|found| found == (self.device, self.inode)) {
            return Ok(());
        }
        let message = format!(
            "{name} was replaced or removed while it was open; put it back, and do not touch it while it is open"
        );
        Err(Error::new(ErrorKind::OutcomeUnknown, message))
    }
}

/// The device and the inode of the file at `path`.
///
/// Its times are not asked for: since Linux 6.13, the next write to a file whose times were seen changes them, so that the
/// next sync has to write the inode as well.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
        // An old kernel or a container may refuse this call though the file is there.
        if let Ok(found) = statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
            return Ok((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino));
        }
    }
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// The path with every symbolic link resolved, so that it means the same place whatever the process does next.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) if it is the root or leads through a file, and those
/// of the operating system. That nothing is there is none.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let doing = || format!("cannot open the catalog {}", path.display());
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map_err(|error| io_failed(doing(), error)),
    }
    let absolute = std::path::absolute(path).map_err(|error| io_failed(doing(), error))?;
    match (absolute.parent().map(fs::canonicalize), absolute.file_name()) {
        (Some(Ok(folder)), Some(name)) => Ok(folder.join(name)),
        (Some(Err(error)), Some(_)) if error.kind() == io::ErrorKind::NotFound => Ok(absolute),
        (Some(Err(error)), Some(_)) => Err(io_failed(doing(), error)),
        _ => Err(io_failed(doing(), io::ErrorKind::IsADirectory.into())),
    }
}

/// Creates a folder and those above it, each durable in the one above.
///
/// # Errors
/// Those of the operating system.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| !folder.exists());
    let missing: Vec<&Path> = missing.filter(|folder| !folder.as_os_str().is_empty()).collect();
    fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(sync_folder_of)
}

/// Makes the name of a file or folder durable.
///
/// # Errors
/// Those of the operating system.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Drops what the system caches of a file after a write to it failed. Linux marks pages that it could not write
/// as clean, so reading them back would show as stored what is not (Rebello et al., "Can Applications Recover from
/// fsync Failures?", USENIX ATC 2020).
#[cfg_attr(not(target_os = "linux"), expect(unused_variables))]
pub fn forget_cached(path: &Path) {
    #[cfg(target_os = "linux")]
    if let Err(error) = File::open(path)
        .and_then(|file| Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?))
    {
        // Of what is not there, nothing is cached that could be read.
        if error.kind() == io::ErrorKind::NotFound {
            tracing::debug!(path = %path.display(), %error, "cannot drop the cached pages of the catalog");
        } else {
            tracing::warn!(path = %path.display(), %error, "cannot drop the cached pages of the catalog");
        }
    }
}
