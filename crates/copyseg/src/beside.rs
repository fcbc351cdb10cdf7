//! What can be done with a store without becoming its writer, beside a process that is.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "etcd")]
use copyseg_core::Head;
use copyseg_core::{Catalog, Error, ErrorKind, Follower, JobId, Result};
#[cfg(feature = "etcd")]
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
#[cfg(feature = "redb")]
use copyseg_redb::{RedbCatalog, RedbOptions};
#[cfg(feature = "sled")]
use copyseg_sled::{SledCatalog, SledOptions};

use crate::location::Location;

#[cfg(any(feature = "redb", feature = "sled"))]
const ONE_PROCESS: &str = "a store on the local disk is open in one process at a time: there, use \
    `MetaManager::subscribe`; from another process load it when it is free, or keep the store in etcd";

/// How late a busy etcd may notice that a lease is over. It is waited for only until it does.
#[cfg(feature = "etcd")]
const LEASE_END_MAX: Duration = Duration::from_secs(8);

/// Opens the store at `url` for reading, as [`Snapshot::load`](copyseg_core::Snapshot::load) needs it. Nothing is
/// created in its place and nobody is fenced. Close it soon: what is being read on the local disk cannot be opened by a
/// writer. A `sled:` store is copied to be read; a store in etcd is read beside its writer.
///
/// # Errors
/// Those of [`open_catalog`](crate::open_catalog); [`NotFound`](ErrorKind::NotFound) if there is no such store; and
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
        #[cfg(feature = "etcd")]
        Location::Etcd(options) => Ok(Arc::new(open_etcd(*options).await?)),
    }
}

/// Opens a live copy of the store at `url`, which stays up to date while another process writes to it.
///
/// # Errors
/// Those of [`open_catalog_read_only`]; [`Unsupported`](ErrorKind::Unsupported) if the store cannot be read beside its
/// writer: the message says what to do instead.
pub async fn open_follower(url: &str) -> Result<Follower> {
    let unsupported = |message| Err(Error::new(ErrorKind::Unsupported, message));
    match Location::parse(url)? {
        Location::Memory => unsupported(
            "a store in memory is seen by its own process alone: there, use `MetaManager::subscribe`",
        ),
        #[cfg(feature = "redb")]
        Location::Redb(_) => unsupported(ONE_PROCESS),
        #[cfg(feature = "sled")]
        Location::Sled(_) => unsupported(ONE_PROCESS),
        #[cfg(feature = "etcd")]
        Location::Etcd(options) => Follower::open(Arc::new(open_etcd(*options).await?)).await,
    }
}

/// The process that holds the store at `url` now, for people, if it can be read beside that process. Whoever could open a
/// file for reading knows that nobody holds it.
///
/// # Errors
/// Those of [`open_catalog_read_only`].
pub async fn holder(url: &str) -> Result<Option<String>> {
    match Location::parse(url)? {
        Location::Memory => Err(nothing_to_read()),
        #[cfg(feature = "redb")]
        Location::Redb(_) => Ok(None),
        #[cfg(feature = "sled")]
        Location::Sled(_) => Ok(None),
        #[cfg(feature = "etcd")]
        Location::Etcd(options) => open_etcd(*options).await?.leader().await,
    }
}

/// How long the store at `url` can seem [`Held`](ErrorKind::Held) by a process that has died.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) and [`Unsupported`](ErrorKind::Unsupported) as from
/// [`open`](crate::open()).
pub fn dead_holder_timeout(url: &str) -> Result<Duration> {
    match Location::parse(url)? {
        Location::Memory => Ok(Duration::ZERO),
        #[cfg(feature = "redb")]
        Location::Redb(_) => Ok(Duration::ZERO),
        #[cfg(feature = "sled")]
        Location::Sled(_) => Ok(Duration::ZERO),
        #[cfg(feature = "etcd")]
        Location::Etcd(options) => Ok(options.lease + LEASE_END_MAX),
    }
}

/// Has the process that holds the store at `url` cancel a job, as
/// [`MetaManager::cancel_job`](copyseg_core::MetaManager::cancel_job) does. `Ok` means that the job is cancelled, durably.
///
/// # Errors
/// What that process answered; [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if it has not answered within `timeout`: look
/// at the job, or ask again, which does no harm; [`Unsupported`](ErrorKind::Unsupported) if the holder of such a store
/// cannot be asked; and those of [`open_catalog_read_only`].
#[cfg_attr(
    not(feature = "etcd"),
    expect(unused_variables, reason = "only etcd has a holder that can be asked")
)]
pub async fn request_cancel(url: &str, job: JobId, reason: &str, timeout: Duration) -> Result<()> {
    match Location::parse(url)? {
        #[cfg(feature = "etcd")]
        Location::Etcd(options) => open_etcd(*options).await?.request_cancel(job, reason, timeout).await,
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "job {job} can be cancelled only by the process that holds its store, or when that has ended"
            ),
        )),
    }
}

pub(crate) fn nothing_to_read() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "`memory:` opens a new store, so there is nothing to read: name a store that outlives its process",
    )
}

/// A store in etcd that is there: whoever only reads must not take a mistyped prefix for an empty store.
#[cfg(feature = "etcd")]
async fn open_etcd(options: EtcdOptions) -> Result<EtcdCatalog> {
    let url = options.store_url();
    let catalog = EtcdCatalog::open(options).await?;
    if catalog.head().await? == Head::default() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no store at {url}; check the prefix")));
    }
    Ok(catalog)
}
