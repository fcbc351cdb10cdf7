//! What the engine needs of a place that holds files, and nothing about segments.
//!
//! Names are relative to the location, with `/` between their parts. A folder is whatever its files' names share.

pub(crate) mod content;
pub(crate) mod local;
pub(crate) mod remote;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::content::{Checksum, Content};
use crate::failure::{Failure, FailureKind};

/// Told again and again of work that goes on, on whichever thread it is done.
pub(crate) type Heard = Box<dyn Fn() + Send>;

/// A file as it was listed. Reading it yields this version or fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The etag, or where there is none the time of the last change: another one means another content.
    pub(crate) stamp: String,
}

/// What a listing finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    File(File),
    /// Something that cannot be copied, and what it is: an empty folder, a symbolic link.
    Other(String, &'static str),
}

impl Entry {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::File(File { name, .. }) | Self::Other(name, _) => name,
        }
    }
}

/// A local directory or a prefix of a remote store.
#[async_trait]
pub(crate) trait Storage: fmt::Debug + Send + Sync {
    /// Everything below `folder`, in no order; nothing if it is not there.
    async fn list(&self, folder: &str) -> Result<Vec<Entry>, Failure>;

    /// The files below those of `folders` that are folders, directly in the location; it may hold others as well. What else
    /// lies in the location need not be readable, where folders exist.
    async fn list_all(&self, folders: Vec<String>) -> Result<Vec<Entry>, Failure>;

    /// The names of what lies directly in `folder`, in no order; none if it is not there.
    async fn names(&self, folder: &str) -> Result<Vec<String>, Failure>;

    /// The content of a small file, if it is there.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure>;

    /// Makes the folder of the restore's own files and every folder above it durable, where folders exist.
    async fn prepare(&self, folder: &str) -> Result<(), Failure>;

    /// The file as it is now, if it is there.
    async fn find(&self, name: &str) -> Result<Option<File>, Failure>;

    /// Makes the staging folder of a run. What follows writes only through it, and what is on its way through it
    /// when it is [swept](Self::sweep) never appears, where folders exist.
    async fn open_staging(&self, staging: &str) -> Result<(), Failure>;

    /// Creates a small file, whole and durable. False if there is one, which may be by an earlier request
    /// whose answer was lost, so that the caller has to read it.
    async fn create(&self, name: &str, staging: &str, content: Bytes) -> Result<bool, Failure>;

    /// Replaces a small file that holds `expected`, atomically and durably. False if it holds something else.
    async fn replace(
        &self,
        name: &str,
        staging: &str,
        expected: &[u8],
        content: Bytes,
    ) -> Result<bool, Failure>;

    /// Opens exactly the file that was listed, when its content is first asked for or before.
    async fn open(&self, file: &File) -> Result<Content, Failure>;

    /// Writes a file of `bytes` bytes over whatever is there, visible only when whole; `staging` is the folder
    /// for what is unfinished.
    /// Its entry in the folder is durable after [`settle`](Self::settle).
    async fn write(&self, name: &str, staging: &str, bytes: u64, content: Content) -> Result<(), Failure>;

    /// The checksum of what a file holds now, if it is there; `heard` is told of each chunk.
    async fn checksum(&self, name: &str, heard: Heard) -> Result<Option<Checksum>, Failure>;

    /// Copies a file inside the store that both share, without moving bytes through this process, and compares
    /// sizes and etags. False if they share none or the store cannot.
    async fn copy_from(&self, source: &dyn Storage, file: &File, name: &str) -> Result<bool, Failure>;

    /// Makes the entries of `folders`, of those below them and of the location itself durable; `heard` is told of each.
    async fn settle(&self, folders: Vec<String>, heard: Heard) -> Result<(), Failure>;

    /// Removes a file, or a folder and all below it; nothing being there is fine.
    async fn remove(&self, name: &str) -> Result<(), Failure>;

    /// Removes a folder of unfinished writes for good, uploads that were never completed included, and the folders
    /// above it up to `top` that are empty then.
    async fn sweep(&self, top: &str, folder: &str) -> Result<(), Failure>;

    /// The place and name for people.
    fn describe(&self, name: &str) -> String;

    /// The remote store, if it is one.
    fn as_remote(&self) -> Option<&remote::Remote>;
}

/// A name in the folder `staging` that nobody else uses: an attempt that lost its task, or a process that was
/// fenced, can never write into the unfinished file of its successor.
fn staged_name(staging: &str) -> Result<String, Failure> {
    let random = getrandom::u64().map_err(|error| {
        let message = format!("the operating system supplied no random number to name a file in {staging}");
        Failure::caused(FailureKind::Transient, message, error)
    })?;
    Ok(format!("{staging}/{random:016x}"))
}

/// The failure of a read that found another version than the one listed.
pub(crate) fn changed(what: &str, how: &str) -> Failure {
    Failure::permanent(format!("{what} changed since the restore was planned: it {how}"))
}
