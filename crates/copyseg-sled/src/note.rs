//! The head of the last commit, noted beside sled's files.
//!
//! Where sled meets damage in its log, it takes it for the end of the log, overwrites the rest, and reports nothing:
//! acknowledged commits are gone. The note finds that out. It is written once a commit is durable, and not synced
//! itself: after a power cut it may be older than the log, and then proves less, but it is never newer.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use copyseg_core::{Error, ErrorKind, Head, Result};

/// The note of a folder, open to be written.
pub(crate) struct Note(File);

impl Note {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(path(folder)).map(Self)
    }

    /// Notes a head whose commit is durable. The commit is, whether or not this works.
    pub(crate) fn write(&self, head: &Head) {
        if let Err(error) = self.0.write_all_at(&head.to_bytes(), 0) {
            tracing::warn!(%error, "cannot note the head of a commit beside the catalog");
        }
    }
}

/// Refuses a `head` that is before the one noted in `folder`. Without a sound note there is nothing to compare.
pub(crate) fn check(folder: &Path, head: &Head, doing: impl FnOnce() -> String) -> Result<()> {
    let Some(noted) = fs::read(path(folder)).ok().and_then(|bytes| Head::from_bytes(&bytes).ok()) else {
        return Ok(());
    };
    if head.epoch >= noted.epoch && head.revision >= noted.revision {
        return Ok(());
    }
    let message = format!(
        "{}: its log is damaged, sled has gone back to revision {} of epoch {}, and revision {} of epoch {} was \
         acknowledged; restore a copy of the folder, or remove `{NAME}` in it to go on without what is lost",
        doing(),
        head.revision,
        head.epoch,
        noted.revision,
        noted.epoch,
    );
    Err(Error::new(ErrorKind::Corrupt, message))
}

const NAME: &str = "copyseg.head";

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}
