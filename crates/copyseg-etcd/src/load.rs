//! Reading a whole store: several bounded ranges at once, all of one revision.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use copyseg_core::{Error, ErrorKind, Loaded, Record, RecordKind, Result};
use etcd_client::KeyValue;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, future, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::catalog::Gate;
use crate::error::Cause;
use crate::store::{Found, Store};

/// Ranges under way at once; more gain nothing on one member.
const RANGES_AT_ONCE: usize = 4;

/// So many records of the largest size fit into an answer.
const RECORDS_ALWAYS: usize = 1000;

/// More records in an answer gain nothing.
const RECORDS_MAX: usize = 10_000;

/// How large an answer should be.
const ANSWER_BYTES: usize = 8 << 20;

/// Pages that wait for the caller, beside those of the answer that each reader has in hand.
const PAGES_WAITING: usize = 2 * RANGES_AT_ONCE;

/// A load under way.
struct Load {
    gate: Arc<Gate>,
    found: Found,
    /// The revision of etcd to read at.
    revision: AtomicI64,
    /// Records asked for at once, so that their sizes, as far as seen, make a handy answer.
    limit: AtomicUsize,
}

/// Begins a load: reads the head, and prepares to read the records at the same revision. Says too how the head was
/// found.
pub(crate) async fn load(gate: &Arc<Gate>) -> Result<(Loaded, Found)> {
    let (found, ranges) = {
        let store = gate.enter().await?;
        let found = store.head().await?;
        (found, RecordKind::ALL.map(|kind| store.keys.ranges(kind, &found.head.counts)))
    };
    let load = Arc::new(Load {
        gate: Arc::clone(gate),
        found,
        revision: AtomicI64::new(found.read_at),
        limit: AtomicUsize::new(RECORDS_ALWAYS),
    });
    let [store, jobs, tasks] = ranges;
    let others = jobs.into_iter().chain(tasks).collect();
    let pages = Arc::clone(&load).pages(store).chain(load.pages(others));
    Ok((Loaded { head: found.head, pages: ending_with_the_first_error(pages) }, found))
}

fn ending_with_the_first_error<T: Send + 'static>(
    pages: impl Stream<Item = Result<T>> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let ended = pages.scan(false, |failed, page| {
        let page = (!*failed).then_some(page);
        *failed = matches!(page, Some(Err(_)));
        future::ready(page)
    });
    ended.boxed()
}

impl Load {
    /// The records in the ranges, in pages of the size that the contract allows.
    ///
    /// Tasks of their own read ahead, so that the next answers come in while the caller is busy with a page. They begin
    /// when the first page is asked for, and end when the stream is dropped.
    fn pages(self: Arc<Self>, ranges: Vec<Range<String>>) -> impl Stream<Item = Result<Vec<Record>>> + Send {
        stream::once(async move {
            let (pages, received) = mpsc::channel(PAGES_WAITING);
            let readers = 0..RANGES_AT_ONCE.min(ranges.len());
            let ranges = Arc::new(Mutex::new(ranges));
            let readers: JoinSet<()> =
                readers.map(|_| Arc::clone(&self).read(Arc::clone(&ranges), pages.clone())).collect();
            stream::unfold((received, readers), |(mut received, mut readers)| async move {
                if let Some(page) = received.recv().await {
                    return Some((page, (received, readers)));
                }
                // Nothing is missing if every reader came to its own end.
                while let Some(ended) = readers.join_next().await {
                    if let Err(error) = ended {
                        return Some((Err(cut_short(error)), (received, readers)));
                    }
                }
                None
            })
        })
        .flatten()
    }

    /// Reads one range after the other, until none is left or nobody wants more.
    async fn read(
        self: Arc<Self>,
        ranges: Arc<Mutex<Vec<Range<String>>>>,
        pages: mpsc::Sender<Result<Vec<Record>>>,
    ) {
        loop {
            let Some(range) = ranges.lock().pop() else { return };
            let (read, rest) = match self.read_once(range).await {
                Ok(read) => read,
                Err(error) => return drop(pages.send(Err(error)).await),
            };
            ranges.lock().extend(rest);
            for page in read {
                if pages.send(Ok(page)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The records at the beginning of the range, and what is left of it.
    async fn read_once(&self, range: Range<String>) -> Result<(Vec<Vec<Record>>, Option<Range<String>>)> {
        let store = self.gate.enter().await?;
        let (records, more) = self.answer(&store, &range).await?;
        let rest = match records.last() {
            Some(last) if more => Some(format!("{}\0", last.key_str().map_err(not_text)?)..range.end),
            _ => None,
        };
        Ok((pages(records, &store), rest))
    }

    /// One answer from the beginning of the range.
    async fn answer(&self, store: &Store, range: &Range<String>) -> Result<(Vec<KeyValue>, bool)> {
        loop {
            let (limit, revision) =
                (self.limit.load(Ordering::Relaxed), self.revision.load(Ordering::Relaxed));
            match store.range(&range.start, &range.end, limit, revision).await {
                Ok((records, more)) => {
                    self.learn(&records);
                    return Ok((records, more));
                }
                Err(failure) if failure.cause == Cause::Compacted => {
                    self.pin_again(store, failure.error).await?
                }
                Err(failure) if failure.cause == Cause::AnswerTooLarge && limit > RECORDS_ALWAYS => {
                    self.limit.store(RECORDS_ALWAYS, Ordering::Relaxed);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Chooses how many records to ask for next.
    fn learn(&self, records: &[KeyValue]) {
        let bytes: usize = records.iter().map(|record| record.key().len() + record.value().len()).sum();
        if let Some(average) = bytes.checked_div(records.len()) {
            let limit = (ANSWER_BYTES / average.max(1)).clamp(RECORDS_ALWAYS, RECORDS_MAX);
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// Goes on at the newest revision, after the history was removed beneath this load. Nothing is lost or mixed as
    /// long as the head is the same: every write moves it.
    async fn pin_again(&self, store: &Store, compacted: Error) -> Result<()> {
        let now = store.head().await?;
        if (now.head, now.written_at) != (self.found.head, self.found.written_at) {
            return Err(Error::with_source(
                ErrorKind::Unavailable,
                "the store was written to, and its history removed, while it was loaded; load it again",
                compacted,
            ));
        }
        self.revision.fetch_max(now.read_at, Ordering::Relaxed);
        Ok(())
    }
}

/// Cuts an answer into pages. What lies below the prefix and is no record was not put there by a catalog.
fn pages(records: Vec<KeyValue>, store: &Store) -> Vec<Vec<Record>> {
    let mut records = records.into_iter();
    let mut pages = Vec::new();
    while records.len() > 0 {
        let page = records.by_ref().take(Loaded::PAGE_RECORDS_MAX);
        let page = page.filter_map(|record| {
            let (key, bytes) = record.into_key_value();
            let parsed = store.keys.parse(&key);
            if parsed.is_none() {
                tracing::warn!("`{}` in etcd is not copyseg's; it was passed over", key.escape_ascii());
            }
            Some(Record { key: parsed?, bytes: bytes.into() })
        });
        pages.push(page.collect());
    }
    pages
}

fn cut_short(error: JoinError) -> Error {
    let message = "a reader of the store in etcd was stopped before its end; load it again";
    Error::with_source(ErrorKind::Unavailable, message, error)
}

fn not_text(error: etcd_client::Error) -> Error {
    Error::with_source(
        ErrorKind::Corrupt,
        "a key below the prefix of the store is not text; remove it",
        error,
    )
}
