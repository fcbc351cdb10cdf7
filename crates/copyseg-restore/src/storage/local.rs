//! Files of a local directory: bytes are copied through staging files, synced, and renamed into place.

pub(crate) mod disk;
mod reader;
mod staged;
#[cfg(test)]
mod tests;

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::disk::Disk;
use self::reader::Reader;
use self::staged::{Name, Staged, check_no_link, write_all, write_stream};
use super::content::{Checksum, Content};
use super::{Entry, File, Heard, Storage, remote, staged_name};
use crate::failure::{Failure, FailureKind};

/// How often a folder is emptied that somebody is still filling, until it is removed.
const REMOVALS_MAX: usize = 1000;

pub(crate) struct Local {
    root: PathBuf,
    disk: Disk,
}

impl Local {
    pub(crate) fn new(root: PathBuf, disk: Disk) -> Self {
        Self { root, disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn staged(&self, staging: &str) -> Result<Name, Failure> {
        Ok(Name::new(&self.disk, &self.root, &staged_name(staging)?))
    }
}

#[async_trait]
impl Storage for Local {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, Failure> {
        let (disk, path, folder) = (self.disk.clone(), self.path(folder), folder.to_owned());
        blocking(move || {
            let mut entries = Vec::new();
            walk(&disk, &path, &folder, &mut entries)?;
            Ok(entries)
        })
        .await
    }

    async fn list_all(&self, folders: Vec<String>) -> Result<Vec<Entry>, Failure> {
        let (disk, root) = (self.disk.clone(), self.root.clone());
        // All on one thread: there may be very many, and small ones.
        blocking(move || {
            let mut entries = Vec::new();
            for folder in folders {
                let path = root.join(&folder);
                match disk.metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => walk(&disk, &path, &folder, &mut entries)?,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(Failure::of_file("list", &path, error)),
                }
            }
            Ok(entries)
        })
        .await
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let (disk, path) = (self.disk.clone(), self.path(folder));
        blocking(move || {
            Ok(children(&disk, &path)?
                .into_iter()
                .map(|(name, _)| name.to_string_lossy().into_owned())
                .collect())
        })
        .await
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let (disk, path) = (self.disk.clone(), self.path(name));
        blocking(move || match disk.read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::of_file("read", &path, error)),
        })
        .await
    }

    async fn find(&self, name: &str) -> Result<Option<File>, Failure> {
        let (disk, path, name) = (self.disk.clone(), self.path(name), name.to_owned());
        blocking(move || match disk.metadata(&path) {
            Ok(metadata) => Ok(Some(File { name, bytes: metadata.len(), stamp: stamp(&metadata) })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::of_file("read", &path, error)),
        })
        .await
    }

    async fn prepare(&self, folder: &str) -> Result<(), Failure> {
        let (disk, root, path) = (self.disk.clone(), self.root.clone(), self.path(folder));
        blocking(move || {
            check_no_link(&disk, &root, &path)?;
            let created = disk.create_folders(&path);
            created.map_err(|error| Failure::of_file("create the folder", &path, error))?;
            // Folders above may have been created by a run that was killed before it synced them.
            for ancestor in path.ancestors() {
                match disk.sync_folder(ancestor) {
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
                    synced => synced.map_err(|error| Failure::of_file("sync the folder", ancestor, error))?,
                }
            }
            Ok(())
        })
        .await
    }

    async fn open_staging(&self, staging: &str) -> Result<(), Failure> {
        let (disk, root, path) = (self.disk.clone(), self.root.clone(), self.path(staging));
        blocking(move || {
            check_no_link(&disk, &root, &path)?;
            let mut created = disk.create_folders(&path);
            // Another run may be removing the folder above, which it left empty.
            for _ in 0..REMOVALS_MAX {
                match &created {
                    Err(error) if error.kind() == ErrorKind::NotFound => created = disk.create_folders(&path),
                    _ => break,
                }
            }
            created.map_err(|error| Failure::of_file("create the folder", &path, error))
        })
        .await
    }

    async fn create(&self, name: &str, staging: &str, content: Bytes) -> Result<bool, Failure> {
        let (disk, path, staged) = (self.disk.clone(), self.path(name), self.staged(staging)?);
        blocking(move || {
            let created = Staged::with_content(staged, &content)?.put_in_free_place(&path)?;
            // If it was there, whoever created it may have been killed before this, and the caller is about to rely
            // on it.
            sync_parent(&disk, &path)?;
            Ok(created)
        })
        .await
    }

    async fn replace(
        &self,
        name: &str,
        staging: &str,
        expected: &[u8],
        content: Bytes,
    ) -> Result<bool, Failure> {
        let (disk, path, staged) = (self.disk.clone(), self.path(name), self.staged(staging)?);
        let expected = expected.to_owned();
        blocking(move || {
            let staged = Staged::with_content(staged, &content)?;
            // Of two that expect the same file, the second must see what the first put there.
            let _turn = lock_parent(&path)?;
            match disk.read(&path) {
                Ok(found) if found == expected => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(Failure::of_file("read", &path, error)),
            }
            staged.put_in_place(&path)?;
            sync_parent(&disk, &path)?;
            Ok(true)
        })
        .await
    }

    async fn open(&self, file: &File) -> Result<Content, Failure> {
        let reader = Reader::new(self.disk.clone(), self.path(&file.name), file.clone());
        Ok(Content::Blocking(Box::new(reader)))
    }

    async fn write(&self, name: &str, staging: &str, _bytes: u64, content: Content) -> Result<(), Failure> {
        let (path, staged) = (self.path(name), self.staged(staging)?);
        let guard = staged.guard();
        let written = match content {
            Content::Blocking(chunks) => blocking(move || write_all(staged, chunks, &path)).await,
            Content::Stream(chunks) => write_stream(staged, chunks, path).await,
        };
        guard.end();
        written
    }

    async fn checksum(&self, name: &str, heard: Heard) -> Result<Option<Checksum>, Failure> {
        let (disk, path) = (self.disk.clone(), self.path(name));
        while_wanted(move |wanted| {
            reader::checksum(&disk, &path, || {
                heard();
                wanted()
            })
        })
        .await
    }

    async fn copy_from(&self, _source: &dyn Storage, _file: &File, _name: &str) -> Result<bool, Failure> {
        // object_store would make a hard link, through which a later change of the source reaches the copy.
        Ok(false)
    }

    async fn settle(&self, folders: Vec<String>, heard: Heard) -> Result<(), Failure> {
        let (disk, root) = (self.disk.clone(), self.root.clone());
        let mut folders: Vec<_> = folders.iter().map(|folder| self.path(folder)).collect();
        while_wanted(move |wanted| {
            let sync = |folder: &Path| {
                disk.sync_folder(folder).map_err(|error| Failure::of_file("sync the folder", folder, error))
            };
            while let Some(folder) = folders.pop() {
                let below = children(&disk, &folder)?.into_iter().filter(|(_, metadata)| metadata.is_dir());
                folders.extend(below.map(|(name, _)| folder.join(name)));
                sync(&folder)?;
                heard();
                wanted()?;
            }
            sync(&root)
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        let (disk, path) = (self.disk.clone(), self.path(name));
        blocking(move || {
            let removed = match disk.metadata(&path) {
                Ok(metadata) if metadata.is_dir() => remove_folder(&disk, &path),
                Ok(_) => disk.remove_file(&path),
                Err(error) => Err(error),
            };
            match removed {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(|error| Failure::of_file("remove", &path, error)),
            }
        })
        .await
    }

    async fn sweep(&self, top: &str, folder: &str) -> Result<(), Failure> {
        self.remove(folder).await?;
        let (disk, path, top) = (self.disk.clone(), self.path(folder), self.path(top));
        blocking(move || {
            // Fails while another restore has its own folder there.
            for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&top)) {
                if disk.remove_empty_folder(folder).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    fn describe(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn as_remote(&self) -> Option<&remote::Remote> {
        None
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

/// Runs file system calls on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let finished = tokio::task::spawn_blocking(work).await;
    finished.unwrap_or_else(|error| {
        Err(Failure::caused(FailureKind::Transient, "a call to the file system did not end", error))
    })
}

/// The same for work that asks now and then whether it is still wanted: not once its future is dropped.
async fn while_wanted<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> Result<(), Failure>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let given_up = CancellationToken::new();
    let _guard = given_up.clone().drop_guard();
    blocking(move || {
        work(&|| match given_up.is_cancelled() {
            true => Err(Failure::transient("what asked for it is over")),
            false => Ok(()),
        })
    })
    .await
}

/// What lies directly in a folder, with links not followed; nothing if the folder is not there.
fn children(disk: &Disk, folder: &Path) -> Result<Vec<(std::ffi::OsString, Metadata)>, Failure> {
    let failed = |error| Failure::of_file("list", folder, error);
    let entries = match disk.list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(metadata) => children.push((entry.file_name(), metadata)),
            // Removed since the folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::of_file("list", &entry.path(), error)),
        }
    }
    Ok(children)
}

fn walk(disk: &Disk, path: &Path, name: &str, entries: &mut Vec<Entry>) -> Result<(), Failure> {
    let children = children(disk, path)?;
    if children.is_empty() && !name.is_empty() && path.is_dir() {
        entries.push(Entry::Other(name.to_owned(), "an empty folder"));
    }
    for (child, metadata) in children {
        let below = |child: &str| if name.is_empty() { child.to_owned() } else { format!("{name}/{child}") };
        let Some(child_name) = child.to_str().map(below) else {
            entries.push(Entry::Other(below(&child.to_string_lossy()), "not named in UTF-8"));
            continue;
        };
        if metadata.is_dir() {
            walk(disk, &path.join(&child), &child_name, entries)?;
        } else if metadata.is_file() {
            let stamp = stamp(&metadata);
            entries.push(Entry::File(File { name: child_name, bytes: metadata.len(), stamp }));
        } else if metadata.is_symlink() {
            entries.push(Entry::Other(child_name, "a symbolic link"));
        } else {
            entries.push(Entry::Other(child_name, "not a regular file"));
        }
    }
    Ok(())
}

fn stamp(metadata: &Metadata) -> String {
    match metadata.modified() {
        Ok(time) => match time.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos().to_string(),
            Err(before) => format!("-{}", before.duration().as_nanos()),
        },
        Err(_) => String::new(),
    }
}

fn sync_parent(disk: &Disk, path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(parent) => {
            disk.sync_folder(parent).map_err(|error| Failure::of_file("sync the folder", parent, error))
        }
        None => Ok(()),
    }
}

/// Removes a folder for good, even if somebody who does not know yet that he lost it is still filling it.
fn remove_folder(disk: &Disk, path: &Path) -> std::io::Result<()> {
    for _ in 1..REMOVALS_MAX {
        match disk.remove_folder(path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
    disk.remove_folder(path)
}

/// Holds off every other process that replaces a file in the same folder, until it is dropped.
fn lock_parent(path: &Path) -> Result<Option<fs::File>, Failure> {
    let Some(parent) = path.parent().filter(|_| cfg!(unix)) else { return Ok(None) };
    let locked = fs::File::open(parent).and_then(|folder| match folder.lock() {
        // A file system without locks leaves the moment between reading and renaming.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        locked => locked.map(|()| Some(folder)),
    });
    locked.map_err(|error| Failure::of_file("lock the folder", parent, error))
}
