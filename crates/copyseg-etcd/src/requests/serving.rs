//! The leader's side of requests: it carries them out in the order in which they came, and answers.

use std::sync::{Arc, Weak};

use copyseg_core::{Error, ErrorKind, Result, WeakManager};
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchStream,
};
use futures::future::select;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Answer, RETRY, Request, wait_for_put};
use crate::catalog::Gate;
use crate::cluster::kv;
use crate::error::Sending;
use crate::leader::State;
use crate::store::Store;

/// Carries out what is asked for, until the store is closed or the manager has ended. While it waits it keeps neither
/// of them alive.
pub(crate) async fn serve(gate: Weak<Gate>, leader: Arc<Mutex<State>>, manager: WeakManager) {
    loop {
        let turn = {
            let Some(gate) = gate.upgrade() else { return };
            turn(&gate, &leader, &manager).await
        };
        match turn {
            Ok((mut watch, mut closed)) => {
                let (put, closed) =
                    (std::pin::pin!(wait_for_put(&mut watch)), std::pin::pin!(closed.changed()));
                select(put, closed).await;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Fenced) => return,
            Err(error) => {
                tracing::debug!("cannot see what is asked for, trying again: {}", error.chain());
                sleep(RETRY).await;
            }
        }
    }
}

/// Answers what has been asked for, and begins to watch for more. Nothing of the store is held while the manager works:
/// its commits go through the same gate.
async fn turn(
    gate: &Gate,
    leader: &Mutex<State>,
    manager: &WeakManager,
) -> Result<(WatchStream, watch::Receiver<()>)> {
    let (requests, read_at) = gate.enter().await?.requests().await?;
    for request in requests {
        let result = carry_out(manager, request.value()).await;
        if let Err(error) = &result
            && matches!(error.kind(), ErrorKind::Closed | ErrorKind::Fenced)
        {
            // The next leader's to answer.
            return Err(error.clone());
        }
        let lease = leader.lock().lease;
        gate.enter().await?.reply(&request, lease, &Answer::new(&result)).await?;
    }
    let store = gate.enter().await?;
    let watch = store.watch_puts(&store.keys.request(""), read_at + 1).await?;
    Ok((watch, store.closed()))
}

async fn carry_out(manager: &WeakManager, request: &[u8]) -> Result<()> {
    let request = serde_json::from_slice(request).map_err(|error| {
        Error::with_source(ErrorKind::Unsupported, "the leader's version does not know this request", error)
    })?;
    let manager = manager.upgrade().ok_or_else(|| Error::new(ErrorKind::Closed, "the manager has ended"))?;
    match request {
        Request::CancelJob { job, reason } => manager.cancel_job(job, &reason).await.map(drop),
    }
}

impl Store {
    /// What is asked for, the oldest first, and the revision of etcd at which it was read.
    async fn requests(&self) -> Result<(Vec<KeyValue>, i64)> {
        let answer = self.cluster.request("read requests", Sending::Repeatable, |client| {
            let (mut kv, key) = (kv(client), self.keys.request(""));
            let options = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend);
            async move { kv.get(key, Some(options)).await }
        });
        let mut answer = answer.await?;
        let read_at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok((answer.take_kvs(), read_at))
    }

    /// Replaces a request by its answer, if it is still there and this process leads: what a former leader knows may be
    /// outdated.
    async fn reply(&self, request: &KeyValue, lease: Option<i64>, answer: &Answer) -> Result<()> {
        let again = |message| Err(Error::new(ErrorKind::Unavailable, message));
        let Some(lease) = lease else { return again("this process does not lead now") };
        let answer = serde_json::to_vec(answer).map_err(|error| {
            Error::with_source(ErrorKind::InvalidArgument, "the answer cannot be written", error)
        })?;
        let key = request.key();
        let name = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let answer_key = self.keys.answer(&String::from_utf8_lossy(name));
        let replied = self.cluster.request("answer a request", Sending::Once, |client| {
            let mut kv = kv(client);
            let under = PutOptions::new().with_lease(request.lease());
            let txn = Txn::new()
                .when([
                    Compare::create_revision(key, CompareOp::Equal, request.create_revision()),
                    Compare::lease(self.keys.leader(), CompareOp::Equal, lease),
                ])
                .and_then([
                    TxnOp::put(answer_key.as_str(), answer.as_slice(), Some(under)),
                    TxnOp::delete(key, None),
                ]);
            async move { kv.txn(txn).await }
        });
        // One that went meanwhile is not found the next time.
        if replied.await?.succeeded() { Ok(()) } else { again("the request could not be answered") }
    }
}
