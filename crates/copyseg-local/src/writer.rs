//! The thread that owns a storage, and the handle through which calls reach it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;

use copyseg_core::{Batch, Error, ErrorKind, Head, Result};
use futures::future::BoxFuture;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Lasting, guard};

/// Calls that may wait for the thread before further ones wait for a place.
const QUEUE_MAX: usize = 64;

/// Where a store is opened, and opened again after a failure. Every call runs on the thread that owns the store.
pub trait Storage: Send + 'static {
    /// What is open.
    type Store: Store;

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

    /// Why what failed with this error would fail again, if it would.
    fn lasting(error: &Error) -> Option<Lasting>;
}

/// An open store: a head, and records that change with it.
pub trait Store {
    /// The head.
    ///
    /// # Errors
    /// As [`Catalog::head`](copyseg_core::Catalog::head) documents them.
    fn head(&self) -> Result<Head>;

    /// Replaces the head by what `decide` makes of it and applies `batch`, together and durably.
    ///
    /// # Errors
    /// That of `decide`, and those of [`Catalog::commit`](copyseg_core::Catalog::commit).
    fn write(&mut self, decide: impl FnOnce(Head) -> Result<Head>, batch: &Batch) -> Result<Head>;
}

/// A handle on the thread that owns a store. The thread lets go of the store when it is told to close, or when the
/// last handle is dropped.
pub struct Writer<S: Storage> {
    calls: mpsc::Sender<Call<S>>,
    /// Of the thread, which runs what is spawned on it between calls.
    runtime: runtime::Handle,
    name: Arc<str>,
    closed: Closed,
}

/// What every call is answered once it is closed.
pub(crate) type Closed = Arc<OnceLock<Error>>;

type Call<S> = Box<dyn FnOnce(&mut Owner<S>) + Send>;

impl<S: Storage> Writer<S> {
    /// Starts the thread, and on it finds and opens the store.
    ///
    /// # Errors
    /// Those of `storage` and of [`Storage::open`], and [`Unavailable`](ErrorKind::Unavailable) if no thread starts.
    pub async fn start(storage: impl FnOnce() -> Result<S> + Send + 'static) -> Result<Self> {
        let (calls, receiver) = mpsc::channel(QUEUE_MAX);
        let (opened, answer) = oneshot::channel();
        let closed = Closed::default();
        let closing = Arc::clone(&closed);
        let run = move || match runtime().and_then(|runtime| Ok((runtime, Owner::open(storage()?, closing)?)))
        {
            Ok((runtime, mut owner)) => {
                if opened.send(Ok((owner.storage.name(), runtime.handle().clone()))).is_ok() {
                    owner.run(&runtime, receiver);
                }
                owner.let_go();
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        thread::Builder::new().name(format!("copyseg-{}", S::ENGINE)).spawn(run).map_err(not_started)?;
        let (name, runtime) = answer.await.map_err(not_started)??;
        Ok(Self { calls, runtime, name: name.into(), closed })
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

    /// As [`Catalog::spawn_committer`](copyseg_core::Catalog::spawn_committer): on the thread, between calls.
    pub fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        drop(self.runtime.spawn(committer));
    }

    /// Lets go of the store, after the calls before this one. The thread ends with the last handle. Closing twice is fine.
    ///
    /// # Errors
    /// None today.
    pub async fn close(&self) -> Result<()> {
        let done = self.call(|owner| {
            owner.close(closed(&owner.storage.name()));
            Ok(())
        });
        match done.await {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            result => result,
        }
    }

    /// Whether it was told to close, or can be of no more use.
    pub fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// What messages call the catalog.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn closed(&self) -> Error {
        self.closed.get().cloned().unwrap_or_else(|| closed(&self.name))
    }
}

impl<S: Storage> Clone for Writer<S> {
    fn clone(&self) -> Self {
        let Self { calls, runtime, name, closed } = self;
        Self {
            calls: calls.clone(),
            runtime: runtime.clone(),
            name: Arc::clone(name),
            closed: Arc::clone(closed),
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
    closed: Closed,
}

impl<S: Storage> Owner<S> {
    /// Runs `work` on the store, opened again if an earlier call failed on it: what an engine keeps in memory after
    /// an error may not be what is on disk. Closes the handle if the file system has become read-only: whether the last
    /// commit was made is told by the next one who can write.
    ///
    /// `panic` says what is known about the work if the engine panics.
    ///
    /// # Errors
    /// Those of `work` and of [`Storage::reopen`].
    pub fn with<T>(&mut self, panic: ErrorKind, work: impl FnOnce(&mut S::Store) -> Result<T>) -> Result<T> {
        self.try_with(panic, work).map_err(|error| match S::lasting(&error) {
            Some(Lasting::ReadOnly) => self.close_read_only(error),
            _ => error,
        })
    }

    fn try_with<T>(&mut self, panic: ErrorKind, work: impl FnOnce(&mut S::Store) -> Result<T>) -> Result<T> {
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

    pub(crate) fn open(storage: S, closed: Closed) -> Result<Self> {
        let store = guarded(&storage, S::open)?;
        Ok(Self { storage, store: Some(store), closed })
    }

    /// Goes on after a close, as long as there is a handle: a call has to find out that it is closed, and a committer has
    /// to come to its end.
    fn run(&mut self, runtime: &Runtime, mut calls: mpsc::Receiver<Call<S>>) {
        let mut next = || {
            runtime.block_on(async {
                // A committer that has just been answered goes before the next call.
                tokio::task::yield_now().await;
                calls.recv().await
            })
        };
        // Not on the runtime, where an engine could not block as it likes.
        while let Some(call) = next() {
            if self.closed.get().is_none() {
                call(self);
            }
        }
    }

    /// Lets go of the store for good.
    fn close(&mut self, answer: Error) {
        // The first reason stays.
        let _ = self.closed.set(answer);
        self.let_go();
    }

    /// What failed because nothing can be written any more, and may have been made all the same, or not been made.
    fn close_read_only(&mut self, error: Error) -> Error {
        let message = format!(
            "{} was closed, because its file system has become read-only: make it writable, then open it again",
            self.storage.name()
        );
        let is_unknown = error.kind() == ErrorKind::OutcomeUnknown;
        let answer = Error::with_source(ErrorKind::Closed, message.clone(), error.clone());
        self.close(answer.clone());
        if is_unknown { Error::with_source(ErrorKind::OutcomeUnknown, message, error) } else { answer }
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

/// For the thread that it is made on.
fn runtime() -> Result<Runtime> {
    runtime::Builder::new_current_thread().enable_time().build().map_err(not_started)
}

fn not_started(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = "cannot open the catalog: no thread could be started for it, try again";
    Error::with_source(ErrorKind::Unavailable, message, error)
}

fn closed(name: &str) -> Error {
    Error::new(ErrorKind::Closed, format!("{name} is closed; open it again"))
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
