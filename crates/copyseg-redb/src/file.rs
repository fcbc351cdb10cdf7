//! The file on disk: looked at before redb touches it, created whole or not at all, and watched for replacement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use copyseg_core::{Error, ErrorKind, Result};
use copyseg_local::{Note, Place, create_folder, io_failed};
use tempfile::TempPath;

/// The first bytes of every redb file.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// Where the header of a redb file names its format, once for each of its two commit slots (redb's
/// `docs/design.md`).
const VERSION_AT: [usize; 2] = [64, 192];
const HEADER_LENGTH: u64 = 320;
/// The newest file format that redb 4 reads.
const VERSION_MAX: u8 = 3;

/// Which file is at `path`, if any; refuses what redb must not be given, and changes nothing.
pub(crate) fn inspect(path: &Path) -> Result<Option<Place>> {
    let doing = || format!("cannot open the catalog {}", path.display());
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| io_failed(doing(), error))?,
    };
    if metadata.is_dir() {
        return Err(io_failed(doing(), io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        let message = format!("{}: it is not a regular file; give another path", doing());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_LENGTH).read_to_end(&mut header));
    read.map_err(|error| io_failed(doing(), error))?;
    match refusal(&header) {
        Some((kind, why)) => Err(Error::new(kind, format!("{}: {why}", doing()))),
        None => Ok(Some(Place::new(path, &metadata))),
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

/// A new empty file in the folder of `path`, readable by this user alone, still without that name: a process
/// killed while redb fills it leaves nothing at `path`.
pub(crate) fn start(path: &Path) -> io::Result<(File, TempPath)> {
    let folder = path.parent().unwrap_or(path);
    create_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    // Adding the path, tempfile would hide which error of the system it was.
    let mut failed = None;
    let open = |path: &Path| options.open(path).inspect_err(|error| failed = error.raw_os_error());
    let file = tempfile::Builder::new().prefix(&format!(".{name}.")).suffix(".new").make_in(folder, open);
    let file = file.map_err(|error| failed.map_or(error, io::Error::from_raw_os_error))?;
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

/// The note of the head of the last commit, beside the file. A catalog can do without: it only finds out damage.
pub(crate) fn note(path: &Path) -> Option<Note> {
    let opened = Note::open(&note_path(path));
    opened
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot note the last commit"))
        .ok()
}

pub(crate) fn note_path(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".head");
    path.into()
}
