//! The thread that owns a storage, and the handle through which calls reach it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use copyseg_core::{Error, ErrorKind, Head, Result};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Lasting, guard};

/// Calls that may wait for the thread before further ones wait for a place.
const QUEUE_MAX: usize = 64;

/// Where a store is opened, and opened again after a failure. Every call runs on the thread that owns the store.
pub trait Storage: Send + 'static {
    /// What is open.
    type Store;

    /// The name of the storage engine, for threads and messages.
    const ENGINE: &'static str;

    /// What messages call the catalog.
    fn name(&self) -> String;

    /// Opens it for the first time, creating it if that is wanted.
    ///
    /// # Errors
    /// As the catalog's own `open` documents them.
    fn open(&self) -> Result<Self::Store>;

    /// Opens it after a failure, never creating anything.
    ///
    /// # Errors
    /// As the catalog's own `open` documents them.
    fn reopen(&self) -> Result<Self::Store>;

    /// Lets go of the store. Every commit is durable already, so a failure is only worth a warning.
    fn close(store: Self::Store);
}

/// A handle on the thread that owns a store. The thread lets go of the store when it is told to close, or when the
/// last handle is dropped.
pub struct Writer<S: Storage> {
    calls: mpsc::Sender<Call<S>>,
    name: Arc<str>,
    is_closed: Arc<AtomicBool>,
}

type Call<S> = Box<dyn FnOnce(&mut Owner<S>) + Send>;

impl<S: Storage> Writer<S> {
    /// Starts the thread, and on it finds and opens the store.
    ///
    /// # Errors
    /// Those of `storage` and of [`Storage::open`], and [`Unavailable`](ErrorKind::Unavailable) if no thread starts.
    pub async fn start(storage: impl FnOnce() -> Result<S> + Send + 'static) -> Result<Self> {
        let (calls, receiver) = mpsc::channel(QUEUE_MAX);
        let (opened, answer) = oneshot::channel();
        let is_closed = Arc::<AtomicBool>::default();
        let closed = Arc::clone(&is_closed);
        let run = move || match storage().and_then(|storage| Owner::open(storage, closed)) {
            Ok(mut owner) => {
                if opened.send(Ok(owner.storage.name())).is_ok() {
                    owner.run(receiver);
                }
                owner.let_go();
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        let failed = "cannot open the catalog: no thread could be started for it, try again";
        thread::Builder::new()
            .name(format!("copyseg-{}", S::ENGINE))
            .spawn(run)
            .map_err(|error| Error::with_source(ErrorKind::Unavailable, failed, error))?;
        let name =
            answer.await.map_err(|error| Error::with_source(ErrorKind::Unavailable, failed, error))??;
        Ok(Self { calls, name: name.into(), is_closed })
    }

    /// Runs `work` on the thread. Once the thread has taken it, it runs whether or not anybody waits for the answer.
    ///
    /// # Errors
    /// Those of `work`, and [`Closed`](ErrorKind::Closed) after [`close`](Self::close).
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Owner<S>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let call: Call<S> = Box::new(move |owner| {
            // A caller that went away needs no answer.
            let _ = answer.send(work(owner));
        });
        self.calls.send(call).await.map_err(|_| self.closed())?;
        answered.await.map_err(|_| self.closed())?
    }

    /// Lets go of the store, after the calls before this one, and ends the thread. Closing twice is fine.
    ///
    /// # Errors
    /// None today.
    pub async fn close(&self) -> Result<()> {
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

    /// Whether it was told to close.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// What messages call the catalog.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("{} is closed; open it again", self.name))
    }
}

impl<S: Storage> Clone for Writer<S> {
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
            name: Arc::clone(&self.name),
            is_closed: Arc::clone(&self.is_closed),
        }
    }
}

impl<S: Storage> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("name", &self.name).field("is_closed", &self.is_closed()).finish()
    }
}

/// What the thread owns.
pub struct Owner<S: Storage> {
    storage: S,
    /// `None` after a failure, until the next call opens it again.
    store: Option<S::Store>,
    is_closed: Arc<AtomicBool>,
}

impl<S: Storage> Owner<S> {
    /// Runs `work` on the store, opened again if an earlier call failed on it: what an engine keeps in memory after
    /// an error may not be what is on disk.
    ///
    /// `panic` says what is known about the work if the engine panics.
    ///
    /// # Errors
    /// Those of `work` and of [`Storage::reopen`].
    pub fn with<T>(&mut self, panic: ErrorKind, work: impl FnOnce(&mut S::Store) -> Result<T>) -> Result<T> {
        let name = self.storage.name();
        let mut store = match self.store.take() {
            Some(store) => store,
            None => guarded(&self.storage, S::reopen).map_err(unavailable)?,
        };
        let result = guard(S::ENGINE, panic, format_args!("cannot use {name}"), || work(&mut store));
        self.store = Some(store);
        if result.as_ref().is_err_and(|error| !is_refusal(error.kind())) {
            self.let_go();
        }
        result
    }

    /// What is known of a commit on `expected` that failed with `error`, once the store is opened again. Sending it
    /// again cures most failures, but not a full disk or damage: it must not be asked for ever. Nothing of the commit can
    /// come later, so a `head` that has not moved says that nothing was changed.
    pub fn settle(
        &mut self,
        error: Error,
        why: Lasting,
        expected: Head,
        head: impl FnOnce(&mut S::Store) -> Result<Head>,
    ) -> Error {
        if error.kind() != ErrorKind::OutcomeUnknown {
            return error;
        }
        match self.with(ErrorKind::Corrupt, head) {
            Ok(head) if head == expected => match why {
                Lasting::Full => Error::with_source(
                    ErrorKind::Unavailable,
                    "nothing was changed, since no space is left on the disk; free some and try again",
                    error,
                ),
                Lasting::Damaged => Error::with_source(
                    ErrorKind::Corrupt,
                    "nothing was changed, since the catalog is damaged; keep its files, and restore a copy of them",
                    error,
                ),
            },
            _ => error,
        }
    }

    fn open(storage: S, is_closed: Arc<AtomicBool>) -> Result<Self> {
        let store = guarded(&storage, S::open)?;
        Ok(Self { storage, store: Some(store), is_closed })
    }

    fn run(&mut self, mut calls: mpsc::Receiver<Call<S>>) {
        while let Some(call) = calls.blocking_recv() {
            call(self);
            if self.is_closed.load(Ordering::Acquire) {
                break;
            }
        }
    }

    fn let_go(&mut self) {
        let Some(store) = self.store.take() else { return };
        let name = self.storage.name();
        let doing = format_args!("cannot close {name}");
        let closed = guard(S::ENGINE, ErrorKind::Unavailable, doing, || {
            S::close(store);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!("{}", error.chain());
        }
    }
}

fn guarded<S: Storage>(storage: &S, open: impl FnOnce(&S) -> Result<S::Store>) -> Result<S::Store> {
    guard(S::ENGINE, ErrorKind::Corrupt, format_args!("cannot open {}", storage.name()), || open(storage))
}

/// Whether an error of this kind says nothing against the store.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_panic;

    /// A store that is only a head.
    struct Memory(Head);

    impl Storage for Memory {
        type Store = Head;
        const ENGINE: &'static str = "memory";

        fn name(&self) -> String {
            "the catalog in memory".into()
        }
        fn open(&self) -> Result<Head> {
            Ok(self.0)
        }
        fn reopen(&self) -> Result<Head> {
            self.open()
        }
        fn close(_: Head) {}
    }

    /// Sent again, such a commit would panic again, and its callers would wait for ever.
    #[test]
    fn a_commit_that_panics_is_settled_by_looking() {
        let mut owner = Owner::open(Memory(Head::default()), Arc::default()).unwrap();
        let panics = |_: &mut Head| -> Result<()> { panic!("page 7 is gone") };
        let error = owner.with(ErrorKind::OutcomeUnknown, panics).unwrap_err();
        assert!(is_panic(&error));
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        let look = |head: &mut Head| Ok(*head);
        let settled = owner.settle(error.clone(), Lasting::Damaged, Head::default(), look);
        assert_eq!(settled.kind(), ErrorKind::Corrupt);
        assert!(settled.chain().contains("page 7 is gone"), "{}", settled.chain());
        let moved = owner.settle(error, Lasting::Damaged, Head { batch: 7, ..Head::default() }, look);
        assert_eq!(moved.kind(), ErrorKind::OutcomeUnknown, "the commit may have been made");
    }
}
