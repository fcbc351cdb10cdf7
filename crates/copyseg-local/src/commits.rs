//! What every local catalog does with the head of its store: looks at it, takes it over, and moves it by a commit.

use copyseg_core::{Batch, Error, ErrorKind, Head, Result};

use crate::error::Lasting;
use crate::writer::{Owner, Storage, Store, Writer};

impl<S: Storage> Writer<S> {
    /// As [`Catalog::head`](copyseg_core::Catalog::head).
    ///
    /// # Errors
    /// Those documented there.
    pub async fn head(&self) -> Result<Head> {
        self.call(|owner| owner.with(ErrorKind::Corrupt, |store| store.head())).await
    }

    /// As [`Catalog::acquire`](copyseg_core::Catalog::acquire).
    ///
    /// # Errors
    /// Those documented there.
    pub async fn acquire(&self) -> Result<Head> {
        self.call(|owner| {
            let head = owner.with(ErrorKind::Corrupt, |store| store.head())?;
            owner.commit(head, |head| head.acquired(), &Batch::from_iter([]))
        })
        .await
    }

    /// As [`Catalog::commit`](copyseg_core::Catalog::commit), for a batch within the limits.
    ///
    /// # Errors
    /// Those documented there.
    pub async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        let (expected, next, batch) = (*expected, *next, batch.clone());
        let name = self.name().to_owned();
        let decide = move |head| if head == expected { Ok(next) } else { Err(fenced(&name, head, expected)) };
        self.call(move |owner| owner.commit(expected, decide, &batch)).await.map(drop)
    }
}

impl<S: Storage> Owner<S> {
    /// Commits on the `expected` head, and says of a failure that would come again what is known, by the head of the store
    /// opened again. Sending it again cures most failures, but not a full disk or damage: it must not be asked for ever.
    /// Nothing of the commit can come later, so a head that has not moved says that nothing was changed.
    fn commit(
        &mut self,
        expected: Head,
        decide: impl FnOnce(Head) -> Result<Head>,
        batch: &Batch,
    ) -> Result<Head> {
        self.with(ErrorKind::OutcomeUnknown, |store| store.write(decide, batch)).map_err(|error| {
            let (kind, message) = match S::lasting(&error) {
                Some(Lasting::Full) => (
                    ErrorKind::Unavailable,
                    "nothing was changed, since no space is left on the disk; free some and try again",
                ),
                Some(Lasting::Damaged) => (
                    ErrorKind::Corrupt,
                    "nothing was changed, since the catalog is damaged; keep its files, and restore a copy of them",
                ),
                Some(Lasting::ReadOnly) | None => return error,
            };
            let is_unchanged = error.kind() == ErrorKind::OutcomeUnknown
                && self.with(ErrorKind::Corrupt, |store| store.head()).is_ok_and(|head| head == expected);
            if is_unchanged { Error::with_source(kind, message, error) } else { error }
        })
    }
}

fn fenced(name: &str, head: Head, expected: Head) -> Error {
    let message = format!(
        "{name} is at revision {} of epoch {}, not at revision {} of epoch {}: another writer has moved it",
        head.revision, head.epoch, expected.revision, expected.epoch
    );
    Error::new(ErrorKind::Fenced, message)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use tokio::sync::oneshot;

    use super::*;
    use crate::error::is_panic;
    use crate::writer::Closed;

    /// A storage that holds a head, and whose engine panics when it has to write.
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
        fn lasting(error: &Error) -> Option<Lasting> {
            is_panic(error).then_some(Lasting::Damaged)
        }
    }

    impl Store for Head {
        fn head(&self) -> Result<Head> {
            Ok(*self)
        }
        fn write(&mut self, _: impl FnOnce(Head) -> Result<Head>, _: &Batch) -> Result<Head> {
            panic!("page 7 is gone")
        }
    }

    /// Whoever sends a call while the thread ends would wait for ever if nobody received it any more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn calls_beside_a_close_are_answered() {
        for _ in 0..200 {
            let writer = Writer::start(|| Ok(Memory(Head::default()))).await.unwrap();
            let callers = [(); 8].map(|()| {
                let writer = writer.clone();
                tokio::spawn(async move { while writer.head().await.is_ok() {} })
            });
            writer.close().await.unwrap();
            for caller in callers {
                caller.await.unwrap();
            }
        }
    }

    /// What became durable is shown before others have the thread, who may need it for long.
    #[tokio::test]
    async fn a_committer_goes_on_before_the_calls_that_came_during_its_commit() {
        let writer = Writer::start(|| Ok(Memory(Head::default()))).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |who: &'static str| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(who)
        };
        let (started, has_started) = oneshot::channel();
        let (finish, may_finish) = mpsc::channel::<()>();
        let (committing, published) = (writer.clone(), note("committer"));
        writer.spawn_committer(Box::pin(async move {
            let commit = committing.call(move |_| {
                started.send(()).unwrap();
                may_finish.recv().unwrap();
                Ok(())
            });
            commit.await.unwrap();
            published();
        }));
        has_started.await.unwrap();
        let called = note("call");
        let mut call = std::pin::pin!(writer.call(move |_| {
            called();
            Ok(())
        }));
        assert!(futures::poll!(&mut call).is_pending(), "it is queued");
        finish.send(()).unwrap();
        call.await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["committer", "call"]);
    }

    /// Sent again, such a commit would panic again, and its callers would wait for ever.
    #[test]
    fn a_commit_that_panics_is_settled_by_looking() {
        let mut owner = Owner::open(Memory(Head::default()), Closed::default()).unwrap();
        let mut commit = |expected| owner.commit(expected, Ok, &Batch::from_iter([])).unwrap_err();
        let unchanged = commit(Head::default());
        assert_eq!(unchanged.kind(), ErrorKind::Corrupt);
        assert!(unchanged.chain().contains("page 7 is gone"), "{}", unchanged.chain());
        let moved = commit(Head { batch: 7, ..Head::default() });
        assert!(is_panic(&moved));
        assert_eq!(moved.kind(), ErrorKind::OutcomeUnknown, "the commit may have been made");
    }
}
