//! Unfinished files: written in the staging folder of a run, and visible only once they are renamed out of it.
//!
//! The folder is made once, by the run, and never here. So whoever removes it makes sure that nothing which was on
//! its way through it appears any more, however late: not a new unfinished file, and not a finished one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use super::blocking;
use super::disk::Disk;
use crate::failure::Failure;
use crate::storage::content::Chunks;

/// How much may wait in the page cache before it is synced, so that no sync takes longer than a heartbeat.
const UNSYNCED_BYTES_MAX: u64 = 128 << 20;

/// An unfinished file, on the thread that writes it; removed when dropped, unless it was put in place.
pub(super) struct Staged {
    name: Name,
    file: fs::File,
    unsynced_bytes: u64,
    in_place: bool,
}

/// What an unfinished file is called, before there is one.
#[derive(Clone)]
pub(super) struct Name {
    disk: Disk,
    root: PathBuf,
    path: PathBuf,
    given_up: CancellationToken,
}

/// Kept by the future that has an unfinished file written. If that is dropped, the thread which writes, and which may hang
/// in a call for long, puts nothing in place any more.
pub(super) struct Guard {
    name: Name,
    is_over: bool,
}

/// Writes a file from its first byte to its name without leaving the thread, through one buffer that stays in the cache of
/// its processor.
pub(super) fn write_all(staged: Name, mut chunks: Box<dyn Chunks>, to: &Path) -> Result<(), Failure> {
    let mut chunk = Vec::new();
    let mut more = chunks.next(&mut chunk)?;
    let mut staged = Staged::create(staged, chunks.mode())?;
    staged.write(&chunk)?;
    while more {
        more = chunks.next(&mut chunk)?;
        staged.write(&chunk)?;
    }
    staged.sync()?;
    staged.put_in_place(to)
}

/// The same with chunks that have to be waited for: the thread is left meanwhile.
pub(super) async fn write_stream(
    staged: Name,
    mut chunks: BoxStream<'static, Result<Bytes, Failure>>,
    to: PathBuf,
) -> Result<(), Failure> {
    let first = chunks.try_next().await?.unwrap_or_default();
    let write = |mut staged: Staged, chunk: Bytes| staged.write(&chunk).map(|()| staged);
    let mut staged = blocking(move || write(Staged::create(staged, None)?, first)).await?;
    while let Some(chunk) = chunks.try_next().await? {
        staged = blocking(move || write(staged, chunk)).await?;
    }
    blocking(move || {
        staged.sync()?;
        staged.put_in_place(&to)
    })
    .await
}

impl Name {
    pub(super) fn new(disk: &Disk, root: &Path, name: &str) -> Self {
        let (root, path) = (root.to_owned(), root.join(name));
        Self { disk: disk.clone(), root, path, given_up: CancellationToken::new() }
    }

    pub(super) fn guard(&self) -> Guard {
        Guard { name: self.clone(), is_over: false }
    }

    fn check_given_up(&self) -> Result<(), Failure> {
        match self.given_up.is_cancelled() {
            true => Err(Failure::transient(format!("the writing of {} was given up", self.path.display()))),
            false => Ok(()),
        }
    }

    /// The last looks before the file appears under the name `to`.
    fn check_may_appear(&self, to: &Path) -> Result<(), Failure> {
        check_no_link(&self.disk, &self.root, to.parent().unwrap_or(to))?;
        self.check_given_up()
    }
}

/// Refuses a folder that is reached through a symbolic link below `root`: what is written there would land elsewhere.
pub(super) fn check_no_link(disk: &Disk, root: &Path, folder: &Path) -> Result<(), Failure> {
    for folder in folder.ancestors().take_while(|folder| *folder != root) {
        match disk.metadata(folder) {
            Ok(metadata) if metadata.is_symlink() => return Err(Failure::of_link(folder)),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::of_file("look at", folder, error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Guard {
    /// Nothing is being written any more.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_over {
            // In this order: a thread that creates the file after its removal finds that it was given up.
            self.name.given_up.cancel();
            let _ = self.name.disk.remove_file(&self.name.path);
        }
    }
}

impl Staged {
    pub(super) fn create(name: Name, mode: Option<u32>) -> Result<Self, Failure> {
        name.check_given_up()?;
        let file = name.disk.create(&name.path, mode).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::of_staging(&name.path, error),
            _ => Failure::of_file("create", &name.path, error),
        })?;
        let staged = Self { name, file, unsynced_bytes: 0, in_place: false };
        staged.name.check_given_up()?;
        Ok(staged)
    }

    /// One that holds `content` and is synced.
    pub(super) fn with_content(name: Name, content: &[u8]) -> Result<Self, Failure> {
        let mut staged = Self::create(name, None)?;
        staged.write(content)?;
        staged.sync()?;
        Ok(staged)
    }

    pub(super) fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        let Name { disk, path, .. } = &self.name;
        self.name.check_given_up()?;
        let written = disk.write(&self.file, path, content);
        written.map_err(|error| Failure::of_file("write", path, error))?;
        self.unsynced_bytes += content.len() as u64;
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        let Name { disk, path, .. } = &self.name;
        disk.sync(&self.file, path).map_err(|error| Failure::of_file("sync", path, error))?;
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Gives it its name, over whatever has it. Its entry is durable once the folder is synced.
    pub(super) fn put_in_place(mut self, to: &Path) -> Result<(), Failure> {
        let Name { disk, path, .. } = &self.name;
        self.name.check_may_appear(to)?;
        let renamed = match disk.rename(path, to) {
            // Folders are made for a file that is there, so that one swept away leaves none behind.
            Err(error) if error.kind() == ErrorKind::NotFound && disk.metadata(path).is_ok() => {
                let parent = to.parent().unwrap_or(to);
                let created = disk.create_folders(parent);
                created.map_err(|error| Failure::of_file("create the folder", parent, error))?;
                self.name.check_may_appear(to)?;
                disk.rename(path, to)
            }
            renamed => renamed,
        };
        renamed.map_err(|error| self.not_put_in_place(to, error))?;
        self.in_place = true;
        Ok(())
    }

    /// False if something has that name already.
    pub(super) fn put_in_free_place(mut self, to: &Path) -> Result<bool, Failure> {
        self.name.check_may_appear(to)?;
        match self.name.disk.rename_new(&self.name.path, to) {
            Ok(()) => {
                self.in_place = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.not_put_in_place(to, error)),
        }
    }

    fn not_put_in_place(&self, to: &Path, error: std::io::Error) -> Failure {
        let Name { disk, path, .. } = &self.name;
        match error.kind() {
            ErrorKind::NotFound if disk.metadata(path).is_err() => Failure::of_staging(path, error),
            _ => Failure::of_file("write", to, error),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.in_place {
            // What cannot be removed now is swept with the folder.
            let _ = self.name.disk.remove_file(&self.name.path);
        }
    }
}
