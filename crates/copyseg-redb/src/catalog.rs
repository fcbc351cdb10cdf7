//! The catalog: the contract of `copyseg-core`, met by calls to the writer thread.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use copyseg_core::{Batch, Catalog, Error, ErrorKind, Head, Limits, Loaded, Result};
use copyseg_local::{Writer, resolve};
use futures::future::BoxFuture;
use redb::StorageBackend;

use crate::load;
use crate::options::RedbOptions;
use crate::source::Source;

/// redb itself sets no bounds. A batch is held in memory until it is written, and everybody waits for it: with
/// these, a quarter of the default cache, and below 0.1 s for new records, 0.4 s for scattered ones (measured).
const LIMITS: Limits = Limits { operations_max: 16_384, bytes_max: 16 << 20, commits_max: 1 };

/// A catalog in one local file.
///
/// The file belongs to one process at a time. A commit is on disk when it returns. Dropping a catalog lets go of the
/// file soon; [`close`](Catalog::close) returns when that has happened.
///
/// ```
/// use copyseg_core::{Catalog, ErrorKind};
/// use copyseg_redb::{RedbCatalog, RedbOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("catalog.redb");
/// let catalog = RedbCatalog::open(&path, RedbOptions::default()).await?;
/// assert_eq!(catalog.acquire().await?.epoch, 1);
///
/// let second = RedbCatalog::open(&path, RedbOptions::default()).await;
/// assert_eq!(second.map_err(|error| error.kind()).err(), Some(ErrorKind::Held));
///
/// catalog.close().await?;
/// let reader = RedbCatalog::open_read_only(&path, RedbOptions::default()).await?;
/// assert_eq!(reader.head().await?.epoch, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedbCatalog {
    writer: Writer<Source>,
}

impl RedbCatalog {
    /// Opens the catalog in the file at `path`, creating the file and the folders above it as
    /// [`RedbOptions::create`] says. After a crash redb repairs the file first, in about 0.25 s per million records.
    ///
    /// # Errors
    /// - [`Held`](ErrorKind::Held): another process has it open; the message says which. Wait for it, or stop it.
    /// - [`NotFound`](ErrorKind::NotFound): it is not there, and was not to be created.
    /// - [`Corrupt`](ErrorKind::Corrupt): it is empty, damaged, or not a catalog; it was left as it is.
    /// - [`Unsupported`](ErrorKind::Unsupported): a newer version wrote it.
    /// - [`InvalidArgument`](ErrorKind::InvalidArgument): the path names a folder.
    /// - [`Unavailable`](ErrorKind::Unavailable): no permission, no space, or a failing disk.
    pub async fn open(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::start(move || Ok(Source::File(resolve(&path)?, options))).await
    }

    /// Opens the catalog in the file at `path` for [`head`](Catalog::head) and [`load`](Catalog::load) alone; the rest
    /// is [`Unsupported`](ErrorKind::Unsupported). Works on a read-only disk, and creates nothing.
    ///
    /// Any number of readers share the file; a writer excludes them, and they exclude a writer, so close it soon. A
    /// file whose writer was killed is first repaired, which takes a moment of write access.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_read_only(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Self::start(move || Ok(Source::ReadOnly(resolve(&path)?, options))).await
    }

    /// Opens a catalog in a storage other than a file, such as one that fails on purpose in a test.
    ///
    /// `backend` is called at the start, and again after a failure: each time it gives a fresh handle on the same
    /// storage. The storage is created if it is empty. Keeping other processes out of it is the business of its
    /// [`StorageBackend`]. The type is redb's own, so its major version is part of this signature.
    ///
    /// # Errors
    /// As [`open`](Self::open), where they apply.
    pub async fn with_backend<B: StorageBackend>(
        backend: impl Fn() -> io::Result<B> + Send + 'static,
        options: RedbOptions,
    ) -> Result<Self> {
        Self::start(move || Ok(Source::backend(backend, options))).await
    }

    /// Reads the whole file and verifies every checksum in it, while other calls wait. `true`: it is sound. `false`: it
    /// was not, and is now; load it again to see what it holds.
    ///
    /// # Errors
    /// - [`Corrupt`](ErrorKind::Corrupt): it is damaged beyond repair. Keep it, and restore a copy.
    /// - [`Unavailable`](ErrorKind::Unavailable): a load has not ended; finish or drop it, then try again.
    /// - [`Unsupported`](ErrorKind::Unsupported): the catalog was opened only to be read.
    pub async fn check_integrity(&self) -> Result<bool> {
        let checked =
            self.writer.call(|owner| owner.with(ErrorKind::Corrupt, |store| store.check_integrity()));
        checked.await?.ok_or_else(|| {
            let message =
                format!("cannot check {} during a load; finish or drop it first", self.writer.name());
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    async fn start(source: impl FnOnce() -> Result<Source> + Send + 'static) -> Result<Self> {
        Ok(Self { writer: Writer::start(source).await? })
    }
}

#[async_trait]
impl Catalog for RedbCatalog {
    async fn acquire(&self) -> Result<Head> {
        self.writer.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        let (head, transaction) =
            self.writer.call(|owner| owner.with(ErrorKind::Corrupt, |store| store.read())).await?;
        Ok(Loaded { head, pages: load::pages(transaction, self.writer.clone())? })
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        LIMITS.check(batch)?;
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
