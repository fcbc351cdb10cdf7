//! The head of the last commit, noted beside the files of a storage engine.
//!
//! Where an engine meets damage in what was written last, it takes it for a write that a crash cut short, goes back to
//! the commit before it, and reports nothing: acknowledged commits are gone. The note finds that out. It is written once
//! a commit is durable, and not synced itself: after a power cut it may be older than the store, and then proves less,
//! but it is never newer.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use copyseg_core::{Error, ErrorKind, Head, Result};

/// The note of a catalog, open to be written.
#[derive(Debug)]
pub struct Note(File);

impl Note {
    /// Opens the note at `path`, or creates it without content.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(path).map(Self)
    }

    /// Notes a head whose commit is durable. The commit is, whether or not this works.
    pub fn write(&self, head: &Head) {
        if let Err(error) = self.0.write_all_at(&head.to_bytes(), 0) {
            tracing::warn!(%error, "cannot note the head of a commit beside the catalog");
        }
    }
}

/// Refuses a `head` that is before the one noted at `path`. Without a sound note there is nothing to compare.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt): commits that were acknowledged are no longer there.
pub fn check_note(path: &Path, head: &Head, doing: impl FnOnce() -> String) -> Result<()> {
    let Some(noted) = fs::read(path).ok().and_then(|bytes| Head::from_bytes(&bytes).ok()) else {
        return Ok(());
    };
    if head.epoch >= noted.epoch && head.revision >= noted.revision {
        return Ok(());
    }
    let message = format!(
        "{}: its content is damaged, or was replaced by an older copy: it is at revision {} of epoch {}, and revision {} \
         of epoch {} was acknowledged; restore a newer copy, or remove `{}` beside it to go on without what is lost",
        doing(),
        head.revision,
        head.epoch,
        noted.revision,
        noted.epoch,
        path.file_name().unwrap_or_default().display(),
    );
    Err(Error::new(ErrorKind::Corrupt, message))
}
