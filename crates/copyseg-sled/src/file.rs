//! The folder on disk: looked at before sled touches it, created whole or not at all, locked, and copied to be read.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use copyseg_core::{Error, ErrorKind, RECORD_BYTES_MAX, Result};
use copyseg_local::{create_folder, io_failed, sync_folder_of};

/// The segments of sled's log. sled puts a page of more than a quarter of this into a file of its own, which no
/// commit syncs. A page holds up to 16 records, and 20 for a moment; with the largest records that is 1.3 MiB. sled's
/// default of 512 KiB is too small for two of them.
pub(crate) const SEGMENT_BYTES: usize = 8 << 20;

const _: () =
    assert!(20 * RECORD_BYTES_MAX < SEGMENT_BYTES / 4, "a page of the largest records fits into the log");

/// sled's log: every record, and what sled locks.
pub(crate) const LOG: &str = "db";

/// The head of the last commit, beside sled's files.
pub(crate) const NOTE: &str = "copyseg.head";

/// sled's configuration.
const CONFIGURATION: &str = "conf";

/// Where sled would put pages that are too large for its log.
const BLOBS: &str = "blobs";

/// How the names of sled's page tables begin.
const PAGE_TABLE: &str = "snap.";

/// Marks a folder whose creation has not ended, so that what is in it may be thrown away.
const UNFINISHED: &str = "copyseg.new";

/// What sled 1.0 puts into its folders.
const OF_SLED_1: [&str; 2] = ["durability_cookie", "slabs"];

/// What is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or what a process left that was killed while it created a catalog.
    Nothing,
    /// A folder of sled's, made by copyseg.
    Store,
}

/// What is in the folder at `path`; refuses what sled must not be given, and changes nothing.
pub(crate) fn inspect(path: &Path) -> Result<Found> {
    let doing = || format!("cannot open the catalog {}", path.display());
    let names = names(path).map_err(|error| io_failed(doing(), error))?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if names.is_empty() || has(UNFINISHED) {
        return Ok(Found::Nothing);
    }
    if OF_SLED_1.iter().any(|name| has(name)) {
        return Err(refused(
            doing(),
            ErrorKind::Unsupported,
            "sled 1.0 wrote it, and this build reads 0.34; use the version of copyseg that wrote it, or a newer one",
        ));
    }
    let (has_configuration, has_log) = (has(CONFIGURATION), has(LOG));
    if !has_configuration && !has_log {
        let why =
            "the folder is no sled catalog and was left as it is; give another path, or an empty folder";
        return Err(refused(doing(), ErrorKind::InvalidArgument, why));
    }
    let read = |name| fs::read(path.join(name)).map_err(|error| io_failed(doing(), error));
    let length = |name| fs::metadata(path.join(name)).map_err(|error| io_failed(doing(), error));
    if !has_configuration || !has_log || length(LOG)?.len() == 0 {
        let why = "a file of it, `conf` or `db`, is missing or empty; restore both, or remove the folder to start anew";
        return Err(refused(doing(), ErrorKind::Corrupt, why));
    }
    match refusal(&read(CONFIGURATION)?) {
        Some((kind, why)) => Err(refused(doing(), kind, why)),
        None => Ok(Found::Store),
    }
}

fn refused(doing: String, kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, format!("{doing}: {why}"))
}

/// What sled 0.34 writes as its configuration: lines, and a checksum of them.
fn refusal(configuration: &[u8]) -> Option<(ErrorKind, &'static str)> {
    let ours = format!("segment_size: {SEGMENT_BYTES}\nuse_compression: false\nversion: 0.34\n");
    let (lines, checksum) = configuration.split_at(configuration.len().saturating_sub(4));
    if checksum != crc32fast::hash(lines).to_le_bytes() {
        let why = "its file `conf` is damaged; keep the folder, and restore a copy of it elsewhere";
        return Some((ErrorKind::Corrupt, why));
    }
    if lines == ours.as_bytes() {
        return None;
    }
    if !lines.ends_with(b"version: 0.34\n") {
        let why = "another version of sled wrote it, and this build reads 0.34; use the version of copyseg that wrote it";
        return Some((ErrorKind::Unsupported, why));
    }
    let why =
        "it is no catalog, another program's sled wrote it, and it was left as it is; give another path";
    Some((ErrorKind::InvalidArgument, why))
}

/// Creates an empty folder for this user alone, and those above it, each durable in the one above.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), create_folder)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder_of(path),
    }
}

/// Prepares an empty folder, or one left by a process that was killed meanwhile, for sled to be created in: what
/// happens until [`finish`] can be thrown away.
pub(crate) fn start(path: &Path) -> io::Result<()> {
    let new = |name: &str| {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path.join(name))
    };
    new(UNFINISHED)?;
    sync(path)?;
    for name in names(path)? {
        match name.as_str() {
            BLOBS => fs::remove_dir_all(path.join(name))?,
            LOG | CONFIGURATION => fs::remove_file(path.join(name))?,
            name if name.starts_with(PAGE_TABLE) => fs::remove_file(path.join(name))?,
            _ => {}
        }
    }
    // sled would make them readable for everybody.
    [LOG, CONFIGURATION].into_iter().try_for_each(|name| new(name).map(drop))
}

/// Makes a folder that sled was created in durable, and then a catalog.
pub(crate) fn finish(path: &Path) -> io::Result<()> {
    [LOG, CONFIGURATION, BLOBS].into_iter().try_for_each(|name| sync(&path.join(name)))?;
    sync(path)?;
    fs::remove_file(path.join(UNFINISHED))?;
    sync(path)
}

/// Makes a file or folder durable.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The lock on a folder, or on a file in it. It is given back by name and not by closing the file alone, which a process
/// that is being started at that moment has inherited.
pub(crate) struct Lock(File);

impl Lock {
    /// Keeps other processes out.
    pub(crate) fn exclusive(path: &Path) -> Result<Self, TryLockError> {
        let file = File::open(path).map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Self(file))
    }

    /// Keeps writers out.
    pub(crate) fn shared(path: &Path) -> Result<Self, TryLockError> {
        let file = File::open(path).map_err(TryLockError::Error)?;
        file.try_lock_shared()?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot unlock the catalog");
        }
    }
}

/// Copies what sled needs of a folder.
pub(crate) fn copy(path: &Path, to: &Path) -> io::Result<()> {
    for name in names(path)? {
        if matches!(name.as_str(), LOG | CONFIGURATION) || name.starts_with(PAGE_TABLE) {
            fs::copy(path.join(&name), to.join(&name))?;
            // With the mode of the original, sled might not be allowed to write to it.
            fs::set_permissions(to.join(&name), Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
