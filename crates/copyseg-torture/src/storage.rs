//! Storages that trials run on: empty at first, opened by the same call whatever the backend.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::{Batch, Catalog, Head, Limits, Loaded, MemoryCatalog, Operation, Result};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_sled::{SledCatalog, SledOptions};
use futures::future::BoxFuture;
use tempfile::TempDir;

use crate::visible::records;

#[cfg(feature = "etcd-tests")]
use crate::etcd_member::EtcdMember;

/// So few that a job of a handful of tasks takes several batches. Two of them at once, whatever the backend does by itself,
/// for there is more to go wrong.
pub const TINY: Limits = Limits { operations_max: 6, bytes_max: 128 << 10, commits_max: 2 };

/// Where a trial stores.
#[derive(Debug, Clone)]
pub enum Backend {
    /// In memory.
    Memory,
    /// In a redb file.
    Redb,
    /// In a sled folder.
    Sled,
    /// In an etcd member.
    #[cfg(feature = "etcd-tests")]
    Etcd(Arc<EtcdMember>),
}

/// One storage, which holds what was committed until it is dropped.
#[derive(Debug)]
pub struct Storage {
    place: Place,
    limits: Limits,
}

#[derive(Debug)]
enum Place {
    Memory(MemoryCatalog),
    Redb(TempDir),
    Sled(TempDir),
    #[cfg(feature = "etcd-tests")]
    Etcd(copyseg_etcd::EtcdOptions, Arc<EtcdMember>),
}

impl Storage {
    /// An empty storage that takes no more than `limits` at once.
    pub fn new(backend: &Backend, limits: Limits) -> Self {
        let place = match backend {
            Backend::Memory => Place::Memory(MemoryCatalog::new()),
            Backend::Redb => Place::Redb(tempfile::tempdir().unwrap()),
            Backend::Sled => Place::Sled(tempfile::tempdir().unwrap()),
            #[cfg(feature = "etcd-tests")]
            Backend::Etcd(member) => Place::Etcd(member.store_of_its_own(), Arc::clone(member)),
        };
        Self { place, limits }
    }

    /// Opens it. In a file or folder it has to be closed before it can be opened again.
    pub async fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(Tight { inner: self.open_without_limits().await, limits: self.limits })
    }

    /// Puts what another storage holds into this new one.
    pub async fn copy_from(&self, other: &Self) {
        let (from, to) = (other.open_without_limits().await, self.open_without_limits().await);
        let batch =
            records(&*from).await.into_iter().map(|(key, bytes)| Operation::Put(key, bytes)).collect();
        let (copied, head) = (from.head().await.unwrap(), to.acquire().await.unwrap());
        to.commit(&head, &Head { revision: copied.revision, counts: copied.counts, ..head }, &batch)
            .await
            .unwrap();
        from.close().await.unwrap();
        to.close().await.unwrap();
    }

    async fn open_without_limits(&self) -> Arc<dyn Catalog> {
        match &self.place {
            Place::Memory(store) => Arc::new(store.clone()),
            Place::Redb(folder) => {
                Arc::new(RedbCatalog::open(folder.path().join("redb"), RedbOptions::default()).await.unwrap())
            }
            Place::Sled(folder) => {
                Arc::new(SledCatalog::open(folder.path().join("sled"), SledOptions::default()).await.unwrap())
            }
            #[cfg(feature = "etcd-tests")]
            Place::Etcd(options, _member) => {
                Arc::new(copyseg_etcd::EtcdCatalog::open(options.clone()).await.unwrap())
            }
        }
    }

    /// Whether it can be opened while it is open, as another process would that takes it over. The others refuse that
    /// while their owner lives.
    pub fn can_be_taken_over(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }
}

/// Takes less at once than the catalog in it.
#[derive(Debug)]
struct Tight {
    inner: Arc<dyn Catalog>,
    limits: Limits,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Catalog for Tight {
    async fn acquire(&self) -> Result<Head> {
        self.inner.acquire().await
    }

    async fn load(&self) -> Result<Loaded> {
        self.inner.load().await
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        self.limits.check(batch)?;
        self.inner.commit(expected, next, batch).await
    }

    async fn head(&self) -> Result<Head> {
        self.inner.head().await
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        self.inner.spawn_committer(committer);
    }
}
