//! Where a catalog lies: a path that keeps its meaning, names that outlive a power cut, and a file known for itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use copyseg_core::Result;

use crate::error::io_failed;

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Whether `path` leads to this file.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| *self == Self::from(metadata))
    }
}

impl From<fs::Metadata> for Identity {
    fn from(metadata: fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The path with every symbolic link resolved, so that it means the same place whatever the process does next.
///
/// # Errors
/// [`InvalidArgument`](copyseg_core::ErrorKind::InvalidArgument) if it is the root or leads through a file, and those
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
        tracing::warn!(path = %path.display(), %error, "cannot drop the cached pages of the catalog");
    }
}
