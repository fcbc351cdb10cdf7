//! Reading every record as it was at one instant, a page at a time, while commits go on.
//!
//! sled keeps no old versions. So a commit first hands what it is about to change, as far as a load has not yet passed
//! it, to that load.

use std::collections::BTreeMap;
use std::ops::Bound::Excluded;
use std::sync::{Arc, Weak};

use copyseg_core::{Error, ErrorKind, Loaded, Operation, Record, Result};
use copyseg_local::Writer;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sled::{IVec, Tree};

use crate::error::failed;
use crate::keys::{END, FIRST, parse, record};
use crate::source::Source;

/// A page is full with this many bytes, however few the records, so that large records need little memory too.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Whose load it is: the load ends when this is dropped.
pub(crate) type Ticket = Arc<()>;

/// The records of the load with this `ticket`. Each page is read when it is asked for, on the writer's thread. What
/// commits change meanwhile is kept in memory until the stream has passed it or is dropped, and the catalog stays
/// open unless it is closed.
pub(crate) fn pages(ticket: Ticket, writer: Writer<Source>) -> BoxStream<'static, Result<Vec<Record>>> {
    let next = |(ticket, writer): (Ticket, Writer<Source>)| async move {
        let of_load = Arc::clone(&ticket);
        let read =
            writer.call(move |owner| owner.with(ErrorKind::Corrupt, |store| store.next_page(&of_load)));
        let page = read.await?.ok_or_else(|| {
            let message =
                format!("cannot load {}: its storage failed meanwhile; load it again", writer.name());
            Error::new(ErrorKind::Unavailable, message)
        })?;
        Ok((!page.is_empty()).then_some((page, (ticket, writer))))
    };
    stream::try_unfold((ticket, writer), next).boxed()
}

/// The loads that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Loads(Vec<Load>);

#[derive(Debug)]
struct Load {
    ticket: Weak<()>,
    /// The last key that it has passed.
    passed: IVec,
    /// What commits have changed behind it, as it was when the load began.
    before: BTreeMap<IVec, Option<IVec>>,
}

impl Loads {
    /// A load of what the tree holds now.
    pub(crate) fn begin(&mut self) -> Ticket {
        self.forget_dropped();
        let ticket = Ticket::default();
        self.0.push(Load { ticket: Arc::downgrade(&ticket), passed: FIRST.into(), before: BTreeMap::new() });
        ticket
    }

    /// Keeps for every load what these operations are about to change.
    pub(crate) fn keep(&mut self, tree: &Tree, operations: &[Operation]) -> sled::Result<()> {
        self.forget_dropped();
        for load in &mut self.0 {
            for operation in operations {
                let key = IVec::from(&record(operation.key()));
                if key > load.passed && !load.before.contains_key(&key) {
                    let value = tree.get(&key)?;
                    load.before.insert(key, value);
                }
            }
        }
        Ok(())
    }

    /// The next records of a load, none at its end; `None` if there is no such load.
    pub(crate) fn next_page(
        &mut self,
        ticket: &Ticket,
        tree: &Tree,
        name: &str,
    ) -> Result<Option<Vec<Record>>> {
        let of_ticket = |load: &&mut Load| load.ticket.as_ptr() == Arc::as_ptr(ticket);
        self.0.iter_mut().find(of_ticket).map(|load| load.next_page(tree, name)).transpose()
    }

    fn forget_dropped(&mut self) {
        self.0.retain(|load| load.ticket.strong_count() > 0);
    }
}

impl Load {
    fn next_page(&mut self, tree: &Tree, name: &str) -> Result<Vec<Record>> {
        let doing = || format!("cannot load {name}");
        let mut stored = tree.range::<&[u8], _>((Excluded(&*self.passed), Excluded(END))).peekable();
        let (mut page, mut page_bytes) = (Vec::new(), 0);
        while page.len() < Loaded::PAGE_RECORDS_MAX && page_bytes < PAGE_BYTES_MAX {
            let next = match stored.peek() {
                Some(Ok((key, _))) => Some(key.clone()),
                Some(Err(error)) => return Err(failed(doing(), error.clone())),
                None => None,
            };
            let changed = self.before.keys().next().cloned();
            let Some(key) = next.clone().into_iter().chain(changed).min() else { break };
            let stored_value = if next.as_ref() == Some(&key) { stored.next() } else { None };
            let stored_value = stored_value.transpose().map_err(|error| failed(doing(), error))?;
            let value = match self.before.remove(&key) {
                Some(before) => before,
                None => stored_value.map(|(_, value)| value),
            };
            if let Some(value) = value {
                let key = parse(&key).ok_or_else(|| {
                    let message = format!("{}: it holds what is not a record; keep the files", doing());
                    Error::new(ErrorKind::Corrupt, message)
                })?;
                page_bytes += value.len();
                page.push(Record { key, bytes: value.to_vec().into() });
            }
            self.passed = key;
        }
        Ok(page)
    }
}
