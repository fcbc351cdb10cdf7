//! Opening a manager or a catalog by URL.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Catalog, Error, ErrorKind, ManagerOptions, MemoryCatalog, MetaManager, Result};
#[cfg(feature = "etcd")]
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
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
/// | `etcd://host:2379,host2:2379/restores` | the keys below `/restores/` in an etcd cluster |
///
/// In a path, `%20` stands for a space, and `%3F`, `%23` and `%25` for `?`, `#` and `%`. The options of an `etcd:` URL
/// are those of `EtcdOptions::from_url`.
///
/// # Errors
/// * [`InvalidArgument`](ErrorKind::InvalidArgument): `url` is not a catalog URL; the message shows how to write it.
/// * [`Unsupported`](ErrorKind::Unsupported): this build was made without the backend, or the store was written by a newer
///   version.
/// * [`Held`](ErrorKind::Held): another process has the store open, or leads it in etcd; the message says which.
/// * every error of [`MetaManager::open`].
pub async fn open(url: &str) -> Result<MetaManager> {
    open_with(url, ManagerOptions::default()).await
}

/// Opens the store at `url` as [`open`] does, with options.
///
/// # Errors
/// Those of [`open`].
pub async fn open_with(url: &str, options: ManagerOptions) -> Result<MetaManager> {
    match Location::parse(url)? {
        #[cfg(feature = "etcd")]
        Location::Etcd(etcd) => lead(*etcd, options).await,
        location => MetaManager::open(open_location(location).await?, options).await,
    }
}

/// Becomes the leader of a store in etcd, which serves those who cannot be while it lives.
#[cfg(feature = "etcd")]
async fn lead(etcd: EtcdOptions, options: ManagerOptions) -> Result<MetaManager> {
    let catalog = Arc::new(EtcdCatalog::open(etcd).await?);
    match MetaManager::open(Arc::clone(&catalog) as Arc<dyn Catalog>, options).await {
        Ok(manager) => {
            catalog.serve(&manager);
            Ok(manager)
        }
        Err(error) => {
            // It may have become the leader before it failed, and would keep others waiting for its lease to end.
            let _ = catalog.close().await;
            Err(error)
        }
    }
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

/// Opens the store at `url` without becoming its writer: what [`open`] hands to [`MetaManager::open`]. A manager on etcd
/// that is opened this way does not serve [`request_cancel`](crate::request_cancel).
///
/// # Errors
/// Those of [`open`], but for the ones of [`MetaManager::open`].
pub async fn open_catalog(url: &str) -> Result<Arc<dyn Catalog>> {
    open_location(Location::parse(url)?).await
}

async fn open_location(location: Location) -> Result<Arc<dyn Catalog>> {
    Ok(match location {
        Location::Memory => Arc::new(MemoryCatalog::new()),
        #[cfg(feature = "redb")]
        Location::Redb(path) => Arc::new(RedbCatalog::open(path, RedbOptions::default()).await?),
        #[cfg(feature = "sled")]
        Location::Sled(path) => Arc::new(SledCatalog::open(path, SledOptions::default()).await?),
        #[cfg(feature = "etcd")]
        Location::Etcd(options) => Arc::new(EtcdCatalog::open(*options).await?),
    })
}

/// The one URL of the store at `url`, without secrets: the same for every name of the same store.
///
/// A store that is not there yet may get another one once it is; ask after opening it. On etcd it is that of the members
/// that `url` names, in whatever order, as nothing else is known without asking them: whoever compares it must take two
/// such URLs for the same store when the same jobs are in it, as `copyseg-restore` does.
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
/// [`Unsupported`](ErrorKind::Unsupported) on etcd, whose members verify their own storage: the message says how to ask
/// them.
/// Those of [`open_catalog`]; [`NotFound`](ErrorKind::NotFound) if there is no such store;
/// [`Corrupt`](ErrorKind::Corrupt) if it cannot be repaired; [`InvalidArgument`](ErrorKind::InvalidArgument) for
/// `memory:`.
pub async fn check_storage(url: &str) -> Result<bool> {
    match Location::parse(url)? {
        Location::Memory => Err(crate::beside::nothing_to_read()),
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
        #[cfg(feature = "etcd")]
        Location::Etcd(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "the members of an etcd cluster verify their storage themselves: ask them with `etcdctl alarm list` and \
             `etcdctl endpoint hashkv --cluster`",
        )),
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
        #[cfg(feature = "etcd")]
        "etcd",
    ]
}
