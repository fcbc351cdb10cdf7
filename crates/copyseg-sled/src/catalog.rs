//! The catalog: the contract of `copyseg-core`, met by calls to the writer thread.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::{
    Batch, Catalog, Error, ErrorKind, Head, Limits, Loaded, Operation, RECORD_BYTES_MAX, Result,
};
use copyseg_local::{Writer, resolve};
use futures::TryStreamExt;
use futures::future::BoxFuture;

use crate::load;
use crate::options::SledOptions;
use crate::source::{Access, Source};
use crate::store::Store;

/// A commit of this size stays within one segment of sled's log, so that sled does not overwrite in it what an earlier
/// part of the same commit, not yet synced, has freed; and takes about 0.1 s.
const LIMITS: Limits = Limits { operations_max: 4096, bytes_max: 4 << 20, commits_max: 1 };

/// A catalog in one local folder.
///
/// The folder belongs to one process at a time. A commit is on disk when it returns. Dropping a catalog lets go of the
/// folder soon; [`close`](Catalog::close) returns when that has happened.
///
/// ```
/// use copyseg_core::{Catalog, ErrorKind};
/// use copyseg_sled::{SledCatalog, SledOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("catalog.sled");
/// let catalog = SledCatalog::open(&path, SledOptions::default()).await?;
/// assert_eq!(catalog.acquire().await?.epoch, 1);
///
/// let second = SledCatalog::open(&path, SledOptions::default()).await;
/// assert_eq!(second.map_err(|error| error.kind()).err(), Some(ErrorKind::Held));
///
/// catalog.close().await?;
/// let reader = SledCatalog::open_read_only(&path, SledOptions::default()).await?;
/// assert_eq!(reader.head().await?.epoch, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SledCatalog {
    writer: Writer<Source>,
}

impl SledCatalog {
    /// Opens the catalog in the folder at `path`, creating it and the folders above it as [`SledOptions::create`]
    /// says. An empty folder is one to be created in.
    ///
    /// # Errors
    /// - [`Held`](ErrorKind::Held): another process has it open; the message says which. Wait for it, or stop it.
    /// - [`NotFound`](ErrorKind::NotFound): it is not there, and was not to be created.
    /// - [`Corrupt`](ErrorKind::Corrupt): it is damaged.
    /// - [`Unsupported`](ErrorKind::Unsupported): another version of sled wrote it.
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument): the path names a file, or a folder of something else, which was left
    ///   as it is.
    /// - [`Unavailable`](ErrorKind::Unavailable): no permission, no space, or a failing disk.
    pub async fn open(path: impl AsRef<Path>, options: SledOptions) -> Result<Self> {
        Self::with_sync(path, options, File::sync_data).await
    }

    /// Opens a copy of the catalog in the folder at `path`, for [`head`](Catalog::head) and [`load`](Catalog::load)
    /// alone; the rest is [`Unsupported`](ErrorKind::Unsupported).
    ///
    /// sled cannot open a folder without writing to it. So this copies it into the folder for temporary files, which
    /// takes as much space there and about a second per gigabyte, and works on a read-only disk. Any number of readers
    /// share the folder; a writer excludes them, and they exclude a writer, so close it soon.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_read_only(path: impl AsRef<Path>, options: SledOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::start(move || Ok(Source { path: resolve(&path)?, options, access: Access::Read })).await
    }

    /// Opens the catalog as [`open`](Self::open) does, with `sync` in place of [`File::sync_data`]: for a test in which
    /// the disk fails, or that looks at what is on it by then. It is called at the end of each commit, with sled's
    /// file of records.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn with_sync(
        path: impl AsRef<Path>,
        options: SledOptions,
        sync: impl Fn(&File) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let access = Access::Write(Arc::new(sync));
        Self::start(move || Ok(Source { path: resolve(&path)?, options, access })).await
    }

    /// Reads every record, and with it every checksum that sled has of them. sled repairs nothing but the end of its log,
    /// when it opens it.
    ///
    /// # Errors
    /// - [`Corrupt`](ErrorKind::Corrupt): it is damaged. Keep it, and restore a copy.
    /// - [`Unavailable`](ErrorKind::Unavailable): the disk failed.
    pub async fn check_integrity(&self) -> Result<()> {
        let mut pages = self.load().await?.pages;
        while pages.try_next().await?.is_some() {}
        Ok(())
    }

    async fn start(source: impl FnOnce() -> Result<Source> + Send + 'static) -> Result<Self> {
        Ok(Self { writer: Writer::start(source).await? })
    }
}

#[async_trait]
impl Catalog for SledCatalog {
    async fn acquire(&self) -> Result<Head> {
        self.writer.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        let (head, ticket) =
            self.writer.call(|owner| owner.with(ErrorKind::Corrupt, Store::begin_load)).await?;
        Ok(Loaded { head, pages: load::pages(ticket, self.writer.clone()) })
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        LIMITS.check(batch)?;
        check_records(batch)?;
        self.writer.commit(expected, next, batch).await
    }

    async fn head(&self) -> Result<Head> {
        self.writer.head().await
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    async fn close(&self) -> Result<()> {
        self.writer.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.writer.spawn_committer(committer);
    }
}

/// sled would put larger records than those of core into files that no commit syncs.
fn check_records(batch: &Batch) -> Result<()> {
    let too_large = |operation: &&Operation| match operation {
        Operation::Put(_, bytes) => bytes.len() > RECORD_BYTES_MAX,
        Operation::Delete(_) => false,
    };
    match batch.operations().iter().find(too_large) {
        None => Ok(()),
        Some(operation) => Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the record {} is larger than {RECORD_BYTES_MAX} bytes; make it smaller",
                operation.key()
            ),
        )),
    }
}
