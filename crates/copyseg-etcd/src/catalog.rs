//! The catalog on etcd: opening it, its calls, and letting go.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::{
    Batch, Catalog, Error, ErrorKind, Follow, Following, Head, JobId, Limits, Loaded, MetaManager, Result,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::follow;
use crate::history::History;
use crate::keys::Keys;
use crate::leader::{self, Leadership};
use crate::load;
use crate::options::EtcdOptions;
use crate::requests::{self, Request};
use crate::store::Store;

/// A store in an etcd cluster, below a prefix of its own.
///
/// Any number of handles may be open at once, in any number of processes, and load and follow the store. One at a
/// time can acquire it: others are told who leads, as [`Held`](ErrorKind::Held), until that one closes or has not been
/// heard of for the time of its lease.
pub struct EtcdCatalog {
    gate: Arc<Gate>,
    leadership: Leadership,
    history: Option<Mutex<History>>,
    limits: Limits,
    /// For messages: no secret is in it.
    place: String,
}

/// Lets calls through to the store until it is closed.
pub(crate) struct Gate(RwLock<Option<Store>>);

impl Gate {
    /// The store, which stays open at least until the guard is dropped. Entering again while holding a guard may
    /// wait for ever.
    pub(crate) async fn enter(&self) -> Result<RwLockReadGuard<'_, Store>> {
        RwLockReadGuard::try_map(self.0.read().await, Option::as_ref).map_err(|_| {
            Error::new(ErrorKind::Closed, "this handle on the store in etcd is closed; open it again")
        })
    }
}

impl EtcdCatalog {
    /// Connects to the cluster, and makes sure that it answers.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the options cannot work or name a file that cannot be read,
    /// [`Unavailable`](ErrorKind::Unavailable) if no member answers or the login is refused,
    /// [`Unsupported`](ErrorKind::Unsupported) if what answers is not etcd,
    /// [`Corrupt`](ErrorKind::Corrupt) if the head is damaged.
    pub async fn open(options: EtcdOptions) -> Result<Self> {
        options.check()?;
        let store = Store::new(Cluster::new(&options)?, Keys::new(&options.prefix));
        store.head().await?;
        Ok(Self {
            gate: Arc::new(Gate(RwLock::new(Some(store)))),
            leadership: Leadership::new(options.lease),
            history: options.compact.then(Mutex::default),
            limits: options.limits(),
            place: format!("{}/{}", options.endpoints.join(","), options.prefix),
        })
    }

    /// The process that leads now, if there is one, for people: its id, its host and since when.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the cluster does not answer; [`Closed`](ErrorKind::Closed).
    pub async fn leader(&self) -> Result<Option<String>> {
        let leader = self.gate.enter().await?.leader().await?;
        Ok(leader.map(|leader| leader::name(leader.value())))
    }

    /// Has `manager`, which must have been opened on this handle, carry out what other processes
    /// [ask for](Self::request_cancel), until it ends. It works in the background and does not keep the manager running.
    pub fn serve(&self, manager: &MetaManager) {
        let (gate, state) = (Arc::downgrade(&self.gate), Arc::clone(&self.leadership.state));
        tokio::spawn(requests::serve(gate, state, manager.downgrade()));
    }

    /// Has the leader cancel a job, as [`MetaManager::cancel_job`] does, without acquiring the store. If another process
    /// takes the lead meanwhile, that one does it. `Ok` means that the job is cancelled, durably.
    ///
    /// # Errors
    /// What the leader answered, which are the errors of [`MetaManager::cancel_job`];
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if it has not answered within `timeout`: look at the job, or ask
    /// again, which does no harm; [`Unavailable`](ErrorKind::Unavailable) if the cluster cannot be asked.
    pub async fn request_cancel(&self, job: JobId, reason: &str, timeout: Duration) -> Result<()> {
        let request = Request::CancelJob { job, reason: reason.to_owned() };
        requests::ask(&*self.gate.enter().await?, &request, timeout).await
    }

    /// Notes what was written, and removes old history when there is enough of it; no commit waits for that.
    fn note(&self, revision: i64, bytes: usize) {
        let due =
            self.history.as_ref().and_then(|history| history.lock().note(Instant::now(), revision, bytes));
        if let Some(revision) = due {
            let gate = Arc::clone(&self.gate);
            tokio::spawn(async move {
                let compacted = match gate.enter().await {
                    Ok(store) => store.compact(revision).await,
                    Err(_closed) => return,
                };
                match compacted {
                    Ok(()) => tracing::debug!(revision, "removed old history from etcd"),
                    Err(error) => tracing::warn!(revision, "cannot remove old history: {}", error.chain()),
                }
            });
        }
    }
}

impl fmt::Debug for EtcdCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdCatalog").field("place", &self.place).finish_non_exhaustive()
    }
}

#[async_trait]
impl Catalog for EtcdCatalog {
    async fn acquire(&self) -> Result<Head> {
        let store = self.gate.enter().await?;
        self.leadership.acquire(&store, &self.gate).await
    }

    async fn load(&self) -> Result<Loaded> {
        Ok(load::load(&self.gate).await?.0)
    }

    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        self.limits.check(batch)?;
        let revision = self.gate.enter().await?.commit(expected, next, batch).await?;
        self.note(revision, batch.size());
        Ok(())
    }

    async fn head(&self) -> Result<Head> {
        Ok(self.gate.enter().await?.head().await?.head)
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn close(&self) -> Result<()> {
        if let Ok(store) = self.gate.enter().await {
            self.leadership.resign(&store).await;
        }
        self.gate.0.write().await.take();
        Ok(())
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        drop(tokio::spawn(committer));
    }
}

#[async_trait]
impl Follow for EtcdCatalog {
    async fn follow(&self) -> Result<Following> {
        follow::follow(&self.gate).await
    }
}
