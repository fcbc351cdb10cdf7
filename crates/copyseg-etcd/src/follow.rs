//! Reading a store beside its writer: a load, and then every commit as the cluster tells of it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use copyseg_core::{Batch, Committed, Error, ErrorKind, Following, Head, Operation, Result};
use etcd_client::{Event, EventType, WatchResponse, WatchStream};
use futures::future::{Either, select};
use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::catalog::Gate;
use crate::error::{Failure, Sending};
use crate::keys::Keys;
use crate::load;

/// Begins to follow: the watch starts at the revision after the load, before history can be removed in between.
pub(crate) async fn follow(gate: &Arc<Gate>) -> Result<Following> {
    let (loaded, found) = load::load(gate).await?;
    let store = gate.enter().await?;
    let changes = Changes {
        watch: store.watch(found.read_at + 1).await?,
        closed: store.closed(),
        gathering: Gathering { keys: store.keys.clone(), revision: 0, operations: Vec::new() },
        ready: VecDeque::new(),
    };
    let commits = stream::try_unfold(changes, |mut changes| async move {
        let committed = changes.next().await?;
        Ok(Some((committed, changes)))
    });
    Ok(Following { loaded, commits: commits.boxed() })
}

/// The commits of a store as they come.
struct Changes {
    watch: WatchStream,
    closed: watch::Receiver<()>,
    gathering: Gathering,
    ready: VecDeque<Committed>,
}

impl Changes {
    async fn next(&mut self) -> Result<Committed> {
        loop {
            if let Some(committed) = self.ready.pop_front() {
                return Ok(committed);
            }
            let message = {
                let (message, closed) = (pin!(self.watch.message()), pin!(self.closed.changed()));
                match select(message, closed).await {
                    Either::Left((message, _)) => message,
                    Either::Right(_) => {
                        return Err(Error::new(ErrorKind::Closed, "the followed store was closed"));
                    }
                }
            };
            match message {
                Ok(Some(message)) => self.take(&message)?,
                Ok(None) => return Err(ended("the member ended it")),
                Err(error) => return Err(Failure::new("cannot follow", Sending::Repeatable, &error).into()),
            }
        }
    }

    fn take(&mut self, message: &WatchResponse) -> Result<()> {
        if message.canceled() {
            // Among the reasons: the history at which to start is gone, or the login has expired.
            return Err(ended(message.cancel_reason()));
        }
        for event in message.events() {
            self.ready.extend(self.gathering.take(event)?);
        }
        Ok(())
    }
}

/// What is known of the commit of which events are coming. The event of the head is its last.
struct Gathering {
    keys: Keys,
    revision: i64,
    operations: Vec<Operation>,
}

impl Gathering {
    fn take(&mut self, event: &Event) -> Result<Option<Committed>> {
        let Some(record) = event.kv() else { return Ok(None) };
        let is_put = event.event_type() == EventType::Put;
        if record.key() == self.keys.head().as_bytes() {
            let head = if is_put { Head::from_bytes(record.value())? } else { Head::default() };
            let batch = Batch::from_iter(std::mem::take(&mut self.operations));
            return Ok(Some(Committed { head, batch }));
        }
        if !self.operations.is_empty() && self.revision != record.mod_revision() {
            return Err(Error::new(ErrorKind::Corrupt, "records were written to the store without its head"));
        }
        if let Some(key) = self.keys.parse(record.key()) {
            self.revision = record.mod_revision();
            self.operations.push(if is_put {
                Operation::Put(key, record.value().into())
            } else {
                Operation::Delete(key)
            });
        }
        Ok(None)
    }
}

fn ended(reason: &str) -> Error {
    Error::with_source(ErrorKind::Unavailable, "following the store was cut short; begin anew", reason)
}
