//! The thread that owns the database, and the handle through which calls reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use copyseg_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};

use crate::error::guard;
use crate::source::Source;
use crate::store::Store;

/// Calls that may wait for the thread before further ones wait for a place.
const QUEUE_MAX: usize = 64;

type Call = Box<dyn FnOnce(&mut Owner) + Send>;

/// A handle on the thread that owns the database. The thread lets go of the database when it is told to close,
/// or when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    calls: mpsc::Sender<Call>,
    name: Arc<str>,
    is_closed: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread, and on it finds and opens the database.
    pub(crate) async fn start(source: impl FnOnce() -> Result<Source> + Send + 'static) -> Result<Self> {
        let (calls, receiver) = mpsc::channel(QUEUE_MAX);
        let (opened, answer) = oneshot::channel();
        let is_closed = Arc::<AtomicBool>::default();
        let closed = Arc::clone(&is_closed);
        let run = move || match source().and_then(|source| Owner::open(source, closed)) {
            Ok(mut owner) => {
                if opened.send(Ok(owner.source.name())).is_ok() {
                    owner.run(receiver);
                }
                owner.let_go();
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        let failed = "cannot open the catalog: no thread could be started for it, try again";
        thread::Builder::new()
            .name("copyseg-redb".into())
            .spawn(run)
            .map_err(|error| Error::with_source(ErrorKind::Unavailable, failed, error))?;
        let name =
            answer.await.map_err(|error| Error::with_source(ErrorKind::Unavailable, failed, error))??;
        Ok(Self { calls, name: name.into(), is_closed })
    }

    /// Runs `work` on the thread. Once the thread has taken it, it runs whether or not anybody waits for the answer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Owner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move |owner| {
            // A caller that went away needs no answer.
            let _ = answer.send(work(owner));
        });
        self.calls.send(call).await.map_err(|_| self.closed())?;
        answered.await.map_err(|_| self.closed())?
    }

    /// Lets go of the database, after the calls before this one, and ends the thread.
    pub(crate) async fn close(&self) -> Result<()> {
        let closed = self.call(|owner| {
            owner.is_closed.store(true, Ordering::Release);
            owner.let_go();
            Ok(())
        });
        match closed.await {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            result => result,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// What messages call the catalog.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("{} is closed; open it again", self.name))
    }
}

/// What the thread owns.
pub(crate) struct Owner {
    source: Source,
    /// `None` after a failure, until the next call opens it again.
    store: Option<Store>,
    is_closed: Arc<AtomicBool>,
}

impl Owner {
    /// Runs `work` on the database, opened again if an earlier call failed on it. redb asks for that after any I/O
    /// error, and what it keeps in memory may not be what is on disk.
    ///
    /// `panic` says what is known about the work if redb panics.
    pub(crate) fn with<T>(
        &mut self,
        panic: ErrorKind,
        work: impl FnOnce(&mut Store) -> Result<T>,
    ) -> Result<T> {
        let name = self.source.name();
        let mut store = match self.store.take() {
            Some(store) => store,
            None => guarded(&self.source, Source::reopen).map_err(unavailable)?,
        };
        let result = guard(panic, format_args!("cannot use {name}"), || work(&mut store));
        self.store = Some(store);
        if result.as_ref().is_err_and(|error| !is_refusal(error.kind())) {
            self.let_go();
        }
        result
    }

    fn open(source: Source, is_closed: Arc<AtomicBool>) -> Result<Self> {
        let store = guarded(&source, Source::open)?;
        Ok(Self { source, store: Some(store), is_closed })
    }

    fn run(&mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = calls.blocking_recv() {
            call(self);
            if self.is_closed.load(Ordering::Acquire) {
                break;
            }
        }
    }

    fn let_go(&mut self) {
        let Some(store) = self.store.take() else { return };
        let name = self.source.name();
        let closed = guard(ErrorKind::Unavailable, format_args!("cannot close {name}"), || {
            store.close();
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!("{}", error.chain());
        }
    }
}

fn guarded(source: &Source, open: impl FnOnce(&Source) -> Result<Store>) -> Result<Store> {
    guard(ErrorKind::Corrupt, format_args!("cannot open {}", source.name()), || open(source))
}

/// Whether an error of this kind says nothing against the database.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Fenced | ErrorKind::Unsupported)
}

/// A store that was there when the handle was opened is not missing for the caller, but out of reach.
fn unavailable(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::with_source(
            ErrorKind::Unavailable,
            "the catalog was removed while it was open; put it back",
            error,
        ),
        _ => error,
    }
}
