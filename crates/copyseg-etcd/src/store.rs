//! A store on an open cluster: its head, and the transactions that move it.

use std::time::Duration;

use copyseg_core::{Batch, Error, ErrorKind, Head, Operation, Result};
use etcd_client::{
    Compare, CompareOp, Error as ClientError, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchStream,
};
use tokio::sync::watch;

use crate::cluster::{Cluster, changes, kv};
use crate::error::{Cause, Failure, Sending};
use crate::keys::{Keys, head_value};

/// How often an acquire gives way to another one at the same moment.
const ACQUIRE_ATTEMPTS: u32 = 32;

/// The keys of one store and the cluster they lie in.
pub(crate) struct Store {
    pub(crate) cluster: Cluster,
    pub(crate) keys: Keys,
    /// Dropped with the store, which whoever follows it notices.
    open: watch::Sender<()>,
}

/// A head as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) head: Head,
    /// The revision of etcd that wrote it.
    pub(crate) written_at: i64,
    /// The revision of etcd at which it was read.
    pub(crate) read_at: i64,
}

/// What came of claiming the lead.
pub(crate) enum Claim {
    Made,
    /// Another leads; what its key says.
    Held(KeyValue),
}

/// How a transaction ended.
enum Outcome {
    /// It was applied, at this revision of etcd.
    Applied(i64),
    /// It was not, since the head is another one.
    Moved(Head),
}

impl Store {
    pub(crate) fn new(cluster: Cluster, keys: Keys) -> Self {
        Self { cluster, keys, open: watch::Sender::new(()) }
    }

    /// Reads the head, as the majority of the members has it.
    pub(crate) async fn head(&self) -> Result<Found> {
        let answer = self.cluster.request("read the head", Sending::Repeatable, |client| {
            let mut kv = kv(client);
            let key = self.keys.head();
            async move { kv.get(key, None).await }
        });
        let answer = answer.await?;
        let read_at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let found = answer.kvs().first();
        let written_at = found.map_or(0, KeyValue::mod_revision);
        Ok(Found { head: head_in(answer.kvs())?, written_at, read_at })
    }

    /// Replaces the head by the one that an acquire writes over it, whatever it is.
    pub(crate) async fn acquire(&self) -> Result<Head> {
        let mut head = self.head().await?.head;
        for _ in 0..ACQUIRE_ATTEMPTS {
            let next = head.acquired()?;
            match self.replace("acquire the store", &head, &next, &Batch::from_iter([])).await? {
                Outcome::Applied(_) => return Ok(next),
                Outcome::Moved(other) => head = other,
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "others acquired the store {ACQUIRE_ATTEMPTS} times meanwhile; let one process try at a time"
            ),
        ))
    }

    /// Applies `batch` if the head is `expected`; returns the revision of etcd at which it was applied.
    pub(crate) async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<i64> {
        match self.replace("commit", expected, next, batch).await? {
            Outcome::Applied(revision) => Ok(revision),
            Outcome::Moved(head) => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "the store in etcd is at revision {} of epoch {}, not at revision {} of epoch {}: another writer \
                     has moved it",
                    head.revision, head.epoch, expected.revision, expected.epoch
                ),
            )),
        }
    }

    async fn replace(&self, doing: &str, expected: &Head, next: &Head, batch: &Batch) -> Result<Outcome> {
        let answer = self.cluster.request(doing, Sending::Once, |client| {
            let mut kv = kv(client);
            let txn = self.transaction(expected, next, batch);
            async move { kv.txn(txn).await }
        });
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(failure) if failure.cause == Cause::NoSpace => {
                return self.outcome_without_space(expected, next, failure).await;
            }
            Err(failure) => return Err(failure.into()),
        };
        if answer.succeeded() {
            return Ok(Outcome::Applied(answer.header().map_or(0, etcd_client::ResponseHeader::revision)));
        }
        match answer.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => Ok(Outcome::Moved(head_in(found.kvs())?)),
            _ => Err(Error::new(
                ErrorKind::Corrupt,
                "etcd refused a transaction without saying what the head is",
            )),
        }
    }

    /// Whether a transaction answered by "no space" was applied: the member that finds the quota used up while it
    /// applies a transaction says so and applies it (`quotaApplierV3` in etcd). It has answered, so the head tells.
    async fn outcome_without_space(&self, expected: &Head, next: &Head, failure: Failure) -> Result<Outcome> {
        match self.head().await {
            Ok(found) if found.head == *next => Ok(Outcome::Applied(found.written_at)),
            Ok(found) if found.head == *expected => Err(failure.into()),
            // One behind it may be applied by now, or another writer may have come.
            Ok(found) => Err(Error::with_source(
                ErrorKind::OutcomeUnknown,
                format!("whether the last write was done cannot be told at revision {}", found.head.revision),
                failure.error,
            )),
            Err(error) => {
                tracing::warn!("cannot see whether the last write was done: {}", error.chain());
                Err(Error::with_source(
                    ErrorKind::OutcomeUnknown,
                    "whether the last write was done cannot be told, since the head cannot be read",
                    failure.error,
                ))
            }
        }
    }

    fn transaction(&self, expected: &Head, next: &Head, batch: &Batch) -> Txn {
        let head = self.keys.head();
        let unmoved = match head_value(expected) {
            Some(value) => Compare::value(head.as_str(), CompareOp::Equal, value),
            None => Compare::create_revision(head.as_str(), CompareOp::Equal, 0),
        };
        let records = batch.operations().iter().map(|operation| match operation {
            Operation::Put(key, bytes) => TxnOp::put(self.keys.record(*key), &**bytes, None),
            Operation::Delete(key) => TxnOp::delete(self.keys.record(*key), None),
        });
        let moving = match head_value(next) {
            Some(value) => TxnOp::put(head.as_str(), value, None),
            None => TxnOp::delete(head.as_str(), None),
        };
        Txn::new()
            .when([unmoved])
            .and_then(records.chain([moving]).collect::<Vec<_>>())
            .or_else([TxnOp::get(head, None)])
    }

    /// Reads up to `limit` records from `start` to `end` as they were at `revision`, and whether there are more.
    pub(crate) async fn range(
        &self,
        start: &str,
        end: &str,
        limit: usize,
        revision: i64,
    ) -> Result<(Vec<KeyValue>, bool), Failure> {
        let answer = self.cluster.request("load", Sending::Repeatable, |client| {
            let mut kv = kv(client);
            let options = GetOptions::new().with_range(end).with_revision(revision).with_limit(limit as i64);
            async move { kv.get(start, Some(options)).await }
        });
        let mut answer = answer.await?;
        let more = answer.more();
        Ok((answer.take_kvs(), more))
    }

    /// Makes a lease of so long. One whose answer is lost ends by itself.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<i64> {
        let answer = self.cluster.request("lead", Sending::Repeatable, |client| {
            let mut leases = client.lease_client();
            async move { leases.grant(ttl.as_secs().max(1) as i64, None).await }
        });
        Ok(answer.await?.id())
    }

    /// Names a leader under this lease, if there is none. To ask twice does no harm: the lease tells whose the key is.
    pub(crate) async fn claim(&self, lease: i64, leader: &[u8]) -> Result<Claim> {
        let answer = self.cluster.request("lead", Sending::Repeatable, |client| {
            let (mut kv, key) = (kv(client), self.keys.leader());
            let put = TxnOp::put(key.as_str(), leader, Some(PutOptions::new().with_lease(lease)));
            let txn = Txn::new()
                .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
                .and_then([put])
                .or_else([TxnOp::get(key, None)]);
            async move { kv.txn(txn).await }
        });
        let answer = answer.await?;
        match answer.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => match found.kvs().first() {
                Some(leader) if leader.lease() != lease => Ok(Claim::Held(leader.clone())),
                _ => Ok(Claim::Made),
            },
            _ => Ok(Claim::Made),
        }
    }

    /// The key that names the leader, if there is one.
    pub(crate) async fn leader(&self) -> Result<Option<KeyValue>> {
        let answer = self.cluster.request("look for the leader", Sending::Repeatable, |client| {
            let (mut kv, key) = (kv(client), self.keys.leader());
            async move { kv.get(key, None).await }
        });
        Ok(answer.await?.take_kvs().pop())
    }

    /// Whether the leader is named under this lease.
    pub(crate) async fn leads(&self, lease: i64) -> Result<bool> {
        Ok(self.leader().await?.is_some_and(|leader| leader.lease() == lease))
    }

    /// Renews a lease; whether it was still there.
    pub(crate) async fn renew(&self, lease: i64) -> Result<bool> {
        let answer = self.cluster.request("lead", Sending::Repeatable, |client| {
            let mut leases = client.lease_client();
            // Opening a stream of renewals makes the first, and one is all that is wanted.
            async move {
                match leases.keep_alive(lease).await {
                    Ok(_) => Ok(true),
                    Err(ClientError::LeaseKeepAliveError(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        });
        Ok(answer.await?)
    }

    /// Ends a lease, and with it what was named under it.
    pub(crate) async fn revoke(&self, lease: i64) -> Result<()> {
        let answer = self.cluster.request("stop leading", Sending::Repeatable, |client| {
            let mut leases = client.lease_client();
            async move { leases.revoke(lease).await }
        });
        answer.await?;
        Ok(())
    }

    /// Begins to watch all that is written from `revision` on.
    pub(crate) async fn watch(&self, revision: i64) -> Result<WatchStream> {
        let answer = self.cluster.request("follow", Sending::Repeatable, |client| {
            let mut changes = changes(client);
            // A large revision may come in several messages; its last event is that of the head.
            let options = WatchOptions::new().with_prefix().with_start_revision(revision).with_fragment();
            let everything = self.keys.everything();
            async move { changes.watch(everything, Some(options)).await }
        });
        Ok(answer.await?)
    }

    /// Ends with an error once the store is closed, and tells nothing before.
    pub(crate) fn closed(&self) -> watch::Receiver<()> {
        self.open.subscribe()
    }

    /// Lets the cluster forget its history before `revision`.
    pub(crate) async fn compact(&self, revision: i64) -> Result<()> {
        let answer = self.cluster.request("compact", Sending::Repeatable, |client| {
            let mut kv = kv(client);
            async move { kv.compact(revision, None).await }
        });
        match answer.await {
            Err(failure) if failure.cause != Cause::Compacted => Err(failure.into()),
            _ => Ok(()),
        }
    }
}

/// The head in an answer about its key; a store that nobody has acquired has none.
pub(crate) fn head_in(found: &[KeyValue]) -> Result<Head> {
    found.first().map_or_else(|| Ok(Head::default()), |record| Head::from_bytes(record.value()))
}
