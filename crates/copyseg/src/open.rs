//! Opening a manager or a catalog by URL.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Catalog, Error, ErrorKind, ManagerOptions, MemoryCatalog, MetaManager, Result};
#[cfg(feature = "redb")]
use copyseg_redb::{RedbCatalog, RedbOptions};
#[cfg(feature = "sled")]
use copyseg_sled::{SledCatalog, SledOptions};

use crate::location::Location;

/// How often a standby looks whether the store has become free.
const STANDBY_PAUSE: Duration = Duration::from_millis(500);

/// Opens the store at `url`, with default options, and becomes its one writer.
///
/// | URL | store |
/// |---|---|
/// | `memory:` | a new one in memory, gone with the manager |
/// | `redb:restores.redb` | a file, relative to the working directory; created if it is not there |
/// | `redb:///var/lib/restores.redb` | a file by its absolute path |
/// | `sled:restores.sled`, `sled:///var/lib/restores.sled` | a folder, in the same two ways; with the feature `sled` |
///
/// In a path, `%20` stands for a space, and `%3F`, `%23` and `%25` for `?`, `#` and `%`.
///
/// # Errors
/// * [`InvalidArgument`](ErrorKind::InvalidArgument): `url` is not a catalog URL; the message shows how to write it.
/// * [`Unsupported`](ErrorKind::Unsupported): this build has no such backend, or the store was written by a newer
///   version.
/// * [`Held`](ErrorKind::Held): another process has the store open.
/// * every error of [`MetaManager::open`].
pub async fn open(url: &str) -> Result<MetaManager> {
    open_with(url, ManagerOptions::default()).await
}

/// Opens the store at `url` as [`open`] does, with options.
///
/// # Errors
/// Those of [`open`].
pub async fn open_with(url: &str, options: ManagerOptions) -> Result<MetaManager> {
    MetaManager::open(open_catalog(url).await?, options).await
}

/// Opens the store at `url` as [`open_with`] does, and stands by while another process holds it: as soon as that one
/// has ended, this one takes over. `held` is told of every try that found it held, by whom.
///
/// It waits as long as it takes; dropping the future ends that.
///
/// # Errors
/// Those of [`open`], but never [`Held`](ErrorKind::Held).
pub async fn open_or_wait(
    url: &str,
    options: ManagerOptions,
    mut held: impl FnMut(&Error),
) -> Result<MetaManager> {
    loop {
        match open_with(url, options.clone()).await {
            Err(error) if error.kind() == ErrorKind::Held => held(&error),
            opened => return opened,
        }
        tokio::time::sleep(STANDBY_PAUSE).await;
    }
}

/// Opens the store at `url` without becoming its writer: what [`open`] hands to [`MetaManager::open`].
///
/// # Errors
/// Those of [`open`], but for the ones of [`MetaManager::open`].
pub async fn open_catalog(url: &str) -> Result<Arc<dyn Catalog>> {
    Ok(match Location::parse(url)? {
        Location::Memory => Arc::new(MemoryCatalog::new()),
        #[cfg(feature = "redb")]
        Location::Redb(path) => Arc::new(RedbCatalog::open(path, RedbOptions::default()).await?),
        #[cfg(feature = "sled")]
        Location::Sled(path) => Arc::new(SledCatalog::open(path, SledOptions::default()).await?),
    })
}

/// Opens the store at `url` for reading, as [`Snapshot::load`](copyseg_core::Snapshot::load) needs it. Nothing is
/// created in its place and nothing can be written. Close it soon: what is being read cannot be opened by a writer.
/// A `sled:` store is copied to be read.
///
/// # Errors
/// Those of [`open_catalog`]; [`NotFound`](ErrorKind::NotFound) if there is no such store; and
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for `memory:`, which would be a new and empty store.
pub async fn open_catalog_read_only(url: &str) -> Result<Arc<dyn Catalog>> {
    match Location::parse(url)? {
        Location::Memory => Err(nothing_to_read()),
        #[cfg(feature = "redb")]
        Location::Redb(path) => {
            Ok(Arc::new(RedbCatalog::open_read_only(path, RedbOptions::default()).await?))
        }
        #[cfg(feature = "sled")]
        Location::Sled(path) => {
            Ok(Arc::new(SledCatalog::open_read_only(path, SledOptions::default()).await?))
        }
    }
}

/// The one URL of the store at `url`, without secrets: the same for every name of the same store.
///
/// A store that is not there yet may get another one once it is; ask after opening it.
///
/// ```
/// # fn main() -> copyseg::Result<()> {
/// let url = copyseg::canonical_url("redb:./restores.redb")?;
/// assert_eq!(url, copyseg::canonical_url("redb:restores.redb")?);
/// assert!(url.starts_with("redb:///"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) and [`Unsupported`](ErrorKind::Unsupported) as from [`open`], and
/// [`Unavailable`](ErrorKind::Unavailable) if the file system cannot be asked.
pub fn canonical_url(url: &str) -> Result<String> {
    Location::parse(url)?.canonical_url()
}

/// Verifies the storage below the records of the store at `url`, which nobody may have open: `true` if it is sound,
/// `false` if it was not and is now. Reads all of it.
///
/// # Errors
/// Those of [`open_catalog`]; [`NotFound`](ErrorKind::NotFound) if there is no such store;
/// [`Corrupt`](ErrorKind::Corrupt) if it cannot be repaired; [`InvalidArgument`](ErrorKind::InvalidArgument) for
/// `memory:`.
pub async fn check_storage(url: &str) -> Result<bool> {
    match Location::parse(url)? {
        Location::Memory => Err(nothing_to_read()),
        #[cfg(feature = "redb")]
        Location::Redb(path) => {
            let catalog =
                RedbCatalog::open(path, RedbOptions { create: false, ..RedbOptions::default() }).await?;
            let sound = catalog.check_integrity().await;
            catalog.close().await?;
            sound
        }
        #[cfg(feature = "sled")]
        Location::Sled(path) => {
            let catalog = SledCatalog::open_read_only(path, SledOptions::default()).await?;
            let checked = catalog.check_integrity().await;
            catalog.close().await?;
            checked.map(|()| true)
        }
    }
}

/// The schemes of the URLs that this build opens.
///
/// ```
/// assert!(copyseg::schemes().contains(&"memory"));
/// ```
pub fn schemes() -> &'static [&'static str] {
    &[
        "memory",
        #[cfg(feature = "redb")]
        "redb",
        #[cfg(feature = "sled")]
        "sled",
    ]
}

fn nothing_to_read() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "`memory:` opens a new store, so there is nothing to read: name a store that outlives its process",
    )
}
