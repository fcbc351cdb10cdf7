//! Reading every record, a page at a time, on a thread of its own.

use std::{mem, thread};

use bytes::Bytes;
use copyseg_core::{Error, ErrorKind, Loaded, Record, RecordKey, RecordKind, Result};
use copyseg_local::{Storage, Writer, guard};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use redb::{ReadTransaction, ReadableTable, TableError};
use tokio::sync::mpsc;

use crate::error::failed;
use crate::keys::records;
use crate::source::Source;

/// A page is full with this many bytes, however few the records, so that large records need little memory too.
const PAGE_BYTES_MAX: usize = 4 << 20;

type Pages = mpsc::Sender<Result<Vec<Record>>>;

/// The records that `transaction` sees. One page is read ahead of the caller. The pages that it sees stay in the file
/// until the stream has ended or is dropped, and the catalog stays open unless it is closed.
pub(crate) fn pages(
    transaction: ReadTransaction,
    writer: Writer<Source>,
) -> Result<BoxStream<'static, Result<Vec<Record>>>> {
    let doing = format!("cannot load {}", writer.name());
    let (pages, mut receiver) = mpsc::channel(1);
    let read = {
        let doing = doing.clone();
        move || {
            let error =
                match guard(Source::ENGINE, ErrorKind::Corrupt, &doing, || Ok(send(&transaction, &pages))) {
                    Ok(Ok(())) => return,
                    Ok(Err(redb::Error::DatabaseClosed | redb::Error::PreviousIo)) => {
                        interrupted(&doing, &writer)
                    }
                    Ok(Err(error)) => failed(doing, error),
                    Err(panic) => panic,
                };
            // If nobody listens any more, nobody misses the rest.
            let _ = pages.blocking_send(Err(error));
        }
    };
    thread::Builder::new().name("copyseg-redb-load".into()).spawn(read).map_err(|error| {
        Error::with_source(
            ErrorKind::Unavailable,
            format!("{doing}: no thread could be started, try again"),
            error,
        )
    })?;
    Ok(stream::poll_fn(move |context| receiver.poll_recv(context)).boxed())
}

fn send(transaction: &ReadTransaction, pages: &Pages) -> Result<(), redb::Error> {
    let mut page = Page::default();
    for kind in RecordKind::ALL {
        let table = match transaction.open_table(records(kind)) {
            Err(TableError::TableDoesNotExist(_)) => continue,
            table => table?,
        };
        for entry in table.iter()? {
            let (id, bytes) = entry?;
            page.add(RecordKey { kind, id: id.value() }, bytes.value());
            if page.is_full() && pages.blocking_send(Ok(page.take())).is_err() {
                return Ok(());
            }
        }
    }
    if !page.keys.is_empty() {
        let _ = pages.blocking_send(Ok(page.take()));
    }
    Ok(())
}

/// Records that share one allocation, because millions of them are made on this thread and let go of on another.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    /// Each with where its bytes end.
    keys: Vec<(RecordKey, usize)>,
}

impl Page {
    fn add(&mut self, key: RecordKey, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.keys.push((key, self.bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.keys.len() == Loaded::PAGE_RECORDS_MAX || self.bytes.len() >= PAGE_BYTES_MAX
    }

    /// What is in it; the next page has as much room.
    fn take(&mut self) -> Vec<Record> {
        let next = (Vec::with_capacity(self.bytes.capacity()), Vec::with_capacity(self.keys.capacity()));
        let mut rest = Bytes::from(mem::replace(&mut self.bytes, next.0));
        let keys = mem::replace(&mut self.keys, next.1);
        let mut begin = 0;
        let record = |(key, end)| {
            let bytes = rest.split_to(end - begin);
            begin = end;
            Record { key, bytes }
        };
        keys.into_iter().map(record).collect()
    }
}

fn interrupted(doing: &str, writer: &Writer<Source>) -> Error {
    if writer.is_closed() {
        return Error::new(ErrorKind::Closed, format!("{doing}: it was closed meanwhile; open it again"));
    }
    Error::new(ErrorKind::Unavailable, format!("{doing}: its storage failed meanwhile; load it again"))
}
