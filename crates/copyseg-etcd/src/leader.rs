//! The leader: the one process that may own the store, named in a key that goes when its lease is not renewed.
//!
//! It keeps two processes from fighting over a store, and tells a standby when to take over. What is written safely
//! does not depend on it, but on the head alone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Head, Result};
use etcd_client::KeyValue;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::catalog::Gate;
use crate::store::{Claim, Store};

/// How this handle holds the leader's key of its store.
pub(crate) struct Leadership {
    ttl: Duration,
    pub(crate) state: Arc<Mutex<State>>,
    /// Serializes claims of this handle.
    claiming: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) lease: Option<i64>,
    /// What this handle acquired last.
    head: Option<Head>,
    renewing: Option<AbortHandle>,
}

/// The process that leads, as the key says.
#[derive(Debug, Serialize, Deserialize)]
struct Leader {
    host: String,
    pid: u32,
    /// RFC 3339.
    since: String,
}

impl Leader {
    fn current() -> Self {
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

impl Leadership {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, state: Arc::default(), claiming: tokio::sync::Mutex::default() }
    }

    /// Becomes the leader, unless it is one, and acquires the store.
    ///
    /// # Errors
    /// [`Held`](ErrorKind::Held) if another handle leads.
    pub(crate) async fn acquire(&self, store: &Store, gate: &Arc<Gate>) -> Result<Head> {
        let _one_at_a_time = self.claiming.lock().await;
        let lease = self.state.lock().lease;
        let still_leads = match lease {
            Some(lease) => store.leads(lease).await?,
            None => false,
        };
        if !still_leads {
            let lease = claim(store, self.ttl).await?;
            let mut state = self.state.lock();
            state.lease = Some(lease);
            let renewing = tokio::spawn(renew(Arc::downgrade(gate), Arc::clone(&self.state), self.ttl));
            state.replace_renewing(Some(renewing.abort_handle()));
        }
        let head = store.acquire().await?;
        self.state.lock().head = Some(head);
        Ok(head)
    }

    /// Stops leading, so that another process can at once. If that cannot be told now, the lease will.
    pub(crate) async fn resign(&self, store: &Store) {
        let lease = {
            let mut state = self.state.lock();
            state.replace_renewing(None);
            state.lease.take()
        };
        if let Some(lease) = lease
            && let Err(error) = store.revoke(lease).await
        {
            tracing::warn!(
                "cannot give up the lead now, it ends by itself in {} s: {}",
                self.ttl.as_secs(),
                error.chain()
            );
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.state.lock().replace_renewing(None);
    }
}

impl State {
    fn replace_renewing(&mut self, renewing: Option<AbortHandle>) {
        if let Some(old) = std::mem::replace(&mut self.renewing, renewing) {
            old.abort();
        }
    }
}

/// Writes the leader's key under a new lease; returns the lease.
async fn claim(store: &Store, ttl: Duration) -> Result<i64> {
    let leader = serde_json::to_vec(&Leader::current())
        .map_err(|error| Error::with_source(ErrorKind::InvalidArgument, "cannot name this process", error))?;
    let lease = store.grant(ttl).await?;
    match store.claim(lease, &leader).await {
        Ok(Claim::Made) => Ok(lease),
        Ok(Claim::Held(by)) => {
            // Without it the lease ends by itself.
            let _ = store.revoke(lease).await;
            Err(held(&by, ttl))
        }
        Err(error) => {
            let _ = store.revoke(lease).await;
            Err(error)
        }
    }
}

/// What people are told of the leader that a key names.
pub(crate) fn name(leader: &[u8]) -> String {
    match serde_json::from_slice(leader) {
        Ok(Leader { host, pid, since }) => format!("process {pid} on {host} since {since}"),
        Err(_) => "another process".into(),
    }
}

fn held(leader: &KeyValue, ttl: Duration) -> Error {
    let by = name(leader.value());
    let message = match leader.lease() {
        // Not written by a leader: put right by hand, or copied from another cluster.
        0 => format!(
            "the store in etcd is held by {by}, and without a lease, so that it stays held whether that lives or not. \
             If it is gone, remove the key `{}`",
            leader.key().escape_ascii()
        ),
        _ => format!(
            "the store in etcd is held by {by}; wait until that ends, or stop it. If it is dead, the store is free \
             soon after {} s",
            ttl.as_secs()
        ),
    };
    Error::new(ErrorKind::Held, message)
}

/// Renews the lease until the handle is gone. A lease that was lost is claimed anew as long as the head says that
/// nobody has taken over.
async fn renew(gate: Weak<Gate>, state: Arc<Mutex<State>>, ttl: Duration) {
    loop {
        sleep(ttl / 3).await;
        let Some(gate) = gate.upgrade() else { return };
        let Ok(store) = gate.enter().await else { return };
        let (lease, acquired) = {
            let state = state.lock();
            (state.lease, state.head)
        };
        let Some(lease) = lease else { return };
        let lost = match store.renew(lease).await {
            Ok(alive) => !alive,
            Err(error) => {
                tracing::warn!("cannot renew the lead, trying again: {}", error.chain());
                continue;
            }
        };
        if !lost {
            continue;
        }
        match claim_again(&store, acquired, ttl).await {
            Ok(Some(lease)) => state.lock().lease = Some(lease),
            Ok(None) => {
                state.lock().lease = None;
                return tracing::warn!("another process leads now; this one can write no more");
            }
            Err(error) => tracing::warn!("cannot lead again, trying again: {}", error.chain()),
        }
    }
}

/// A new lease; none if another has taken over.
async fn claim_again(store: &Store, acquired: Option<Head>, ttl: Duration) -> Result<Option<i64>> {
    let head = store.head().await?.head;
    if acquired.is_some_and(|acquired| acquired.writer != head.writer) {
        return Ok(None);
    }
    match claim(store, ttl).await {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.kind() == ErrorKind::Held => Ok(None),
        Err(error) => Err(error),
    }
}
