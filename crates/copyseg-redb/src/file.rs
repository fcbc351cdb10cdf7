//! The file on disk: looked at before redb touches it, created whole or not at all, and watched for replacement.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use copyseg_core::{Error, ErrorKind, Result};
use tempfile::TempPath;

use crate::error::io_failed;

/// The first bytes of every redb file.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// Where the header of a redb file names its format, once for each of its two commit slots (redb's
/// `docs/design.md`).
const VERSION_AT: [usize; 2] = [64, 192];
const HEADER_LENGTH: u64 = 320;
/// The newest file format that redb 4 reads.
const VERSION_MAX: u8 = 3;

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl From<fs::Metadata> for Identity {
    fn from(metadata: fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The path with every symbolic link resolved, so that it means the same file whatever the process does next.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
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

/// Which file is at `path`, if any; refuses what redb must not be given, and changes nothing.
pub(crate) fn inspect(path: &Path) -> Result<Option<Identity>> {
    let doing = || format!("cannot open the catalog {}", path.display());
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| io_failed(doing(), error))?,
    };
    if !metadata.is_file() {
        return Err(io_failed(doing(), io::ErrorKind::IsADirectory.into()));
    }
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_LENGTH).read_to_end(&mut header));
    read.map_err(|error| io_failed(doing(), error))?;
    match refusal(&header) {
        Some((kind, why)) => Err(Error::new(kind, format!("{}: {why}", doing()))),
        None => Ok(Some(metadata.into())),
    }
}

fn refusal(header: &[u8]) -> Option<(ErrorKind, String)> {
    if header.is_empty() {
        let why = "the file is empty, as no catalog ever is; restore its content, or remove it to start anew";
        return Some((ErrorKind::Corrupt, why.into()));
    }
    if !header.starts_with(MAGIC) {
        let why = "it is not a redb file and was left as it is; give another path, or restore its content";
        return Some((ErrorKind::Corrupt, why.into()));
    }
    match VERSION_AT.map(|at| header.get(at).copied()) {
        // One slot alone may be damage, which redb repairs from the other.
        [Some(first), Some(second)] if first == second && first > VERSION_MAX => {
            let why = format!(
                "its file format {first} is newer than this build reads ({VERSION_MAX}); use the version of copyseg \
                 that wrote it, or a newer one"
            );
            Some((ErrorKind::Unsupported, why))
        }
        _ => None,
    }
}

/// Whether `path` still leads to the file that was opened.
pub(crate) fn is_at(path: &Path, identity: Identity) -> bool {
    fs::metadata(path).is_ok_and(|metadata| Identity::from(metadata) == identity)
}

/// A new empty file in the folder of `path`, readable by this user alone, still without that name: a process
/// killed while redb fills it leaves nothing at `path`.
pub(crate) fn start(path: &Path) -> io::Result<(File, TempPath)> {
    let folder = folder_of(path);
    create_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = tempfile::Builder::new().prefix(&format!(".{name}.")).suffix(".new").tempfile_in(folder)?;
    Ok(file.into_parts())
}

/// Gives a started file its name, unless another process was faster: then `false`, and the file is gone.
pub(crate) fn finish(file: TempPath, path: &Path) -> io::Result<bool> {
    match file.persist_noclobber(path) {
        Ok(()) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Makes the name of a file durable. Done at every open, since the process that created it may have died before.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Drops what the system caches of a file after a write to it failed. Linux marks pages that it could not write
/// as clean, so reading them back would show as stored what is not (Rebello et al., "Can Applications Recover from
/// fsync Failures?", USENIX ATC 2020).
#[cfg_attr(not(target_os = "linux"), expect(unused_variables))]
pub(crate) fn forget_cached(path: &Path) {
    #[cfg(target_os = "linux")]
    if let Err(error) = File::open(path)
        .and_then(|file| Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?))
    {
        tracing::warn!(path = %path.display(), %error, "cannot drop the cached pages of the catalog");
    }
}

/// Creates a folder and those above it, each durable in the one above.
fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| !folder.exists());
    let missing: Vec<&Path> = missing.filter(|folder| !folder.as_os_str().is_empty()).collect();
    fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(sync_folder_of)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
