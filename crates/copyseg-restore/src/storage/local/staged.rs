//! Unfinished files: written in the staging folder of a run, and visible only once they are renamed out of it.
//!
//! The folder is made once, by the run, and never here. So whoever removes it makes sure that nothing which was on
//! its way through it appears any more, however late: not a new unfinished file, and not a finished one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use crate::failure::Failure;

/// An unfinished file; removed when dropped, unless it was put in place.
pub(super) struct Staged {
    open: Open,
    in_place: bool,
}

/// What writes to an unfinished file, on a thread that may block.
#[derive(Clone)]
pub(super) struct Open {
    disk: Disk,
    path: PathBuf,
    file: Arc<fs::File>,
}

impl Staged {
    pub(super) fn create(disk: &Disk, path: PathBuf) -> Result<Self, Failure> {
        let file = disk.create(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::of_staging(&path, error),
            _ => Failure::of_file("create", &path, error),
        })?;
        Ok(Self { open: Open { disk: disk.clone(), path, file: Arc::new(file) }, in_place: false })
    }

    /// One that holds `content` and is synced.
    pub(super) fn with_content(disk: &Disk, path: PathBuf, content: &[u8]) -> Result<Self, Failure> {
        let staged = Self::create(disk, path)?;
        staged.open.write(content)?;
        staged.open.sync()?;
        Ok(staged)
    }

    pub(super) fn open(&self) -> Open {
        self.open.clone()
    }

    pub(super) fn put_in_place(mut self, to: &Path) -> Result<(), Failure> {
        self.open.put_in_place(to)?;
        self.in_place = true;
        Ok(())
    }

    /// False if something has that name already.
    pub(super) fn put_in_free_place(mut self, to: &Path) -> Result<bool, Failure> {
        let Open { disk, path, .. } = &self.open;
        match disk.rename_new(path, to) {
            Ok(()) => {
                self.in_place = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.open.not_put_in_place(to, error)),
        }
    }

    /// Keeps it, after its [`Open`] has put it in place.
    pub(super) fn keep(mut self) {
        self.in_place = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.in_place {
            // What cannot be removed now is swept with the folder.
            let _ = self.open.disk.remove_file(&self.open.path);
        }
    }
}

impl Open {
    pub(super) fn write(&self, content: &[u8]) -> Result<(), Failure> {
        let written = self.disk.write(&self.file, &self.path, content);
        written.map_err(|error| Failure::of_file("write", &self.path, error))
    }

    pub(super) fn sync(&self) -> Result<(), Failure> {
        let synced = self.disk.sync(&self.file, &self.path);
        synced.map_err(|error| Failure::of_file("sync", &self.path, error))
    }

    /// Gives it its name, over whatever has it. Its entry is durable once the folder is synced.
    pub(super) fn put_in_place(&self, to: &Path) -> Result<(), Failure> {
        let renamed = match self.disk.rename(&self.path, to) {
            // Folders are made for a file that is there, so that one swept away leaves none behind.
            Err(error) if error.kind() == ErrorKind::NotFound && self.disk.metadata(&self.path).is_ok() => {
                let parent = to.parent().unwrap_or(to);
                let created = self.disk.create_folders(parent);
                created.map_err(|error| Failure::of_file("create the folder", parent, error))?;
                self.disk.rename(&self.path, to)
            }
            renamed => renamed,
        };
        renamed.map_err(|error| self.not_put_in_place(to, error))
    }

    fn not_put_in_place(&self, to: &Path, error: std::io::Error) -> Failure {
        match error.kind() {
            ErrorKind::NotFound if self.disk.metadata(&self.path).is_err() => {
                Failure::of_staging(&self.path, error)
            }
            _ => Failure::of_file("write", to, error),
        }
    }
}
