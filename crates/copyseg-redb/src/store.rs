//! An open redb database: the head and the records in it. Everything here runs on the writer thread.

use copyseg_core::{Batch, Error, ErrorKind, Head, Operation, RecordKind, Result};
use copyseg_local::{HolderFile, Note, Place, unknown_outcome};
use redb::{
    Database, DatabaseError, Durability, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError, WriteTransaction,
};

use crate::error::failed;
use crate::keys::{HEAD, META, records};

/// An open database and what belongs to it.
pub(crate) struct Store {
    // Before the database, so that it is dropped before another process can take the lock.
    pub(crate) holder: Option<HolderFile>,
    /// Where the head of every commit is noted, if it is a file to be written.
    pub(crate) note: Option<Note>,
    pub(crate) database: Handle,
    /// The file as it was when opened, if it is one.
    pub(crate) place: Option<Place>,
    /// What messages call it.
    pub(crate) name: String,
}

/// The database, as it was opened.
pub(crate) enum Handle {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

impl Store {
    /// The head, and a view of the records as they are now.
    pub(crate) fn read(&self) -> Result<(Head, ReadTransaction)> {
        let begin = || -> Result<_, redb::Error> {
            let transaction = match &self.database {
                Handle::Writable(database) => database.begin_read()?,
                Handle::ReadOnly(database) => database.begin_read()?,
            };
            let head = head_bytes(&transaction.open_table(META)?)?;
            Ok((head, transaction))
        };
        let (head, transaction) =
            begin().map_err(|error| failed(format!("cannot read {}", self.name), error))?;
        Ok((self.decode_head(head)?, transaction))
    }

    /// Whether redb finds its file sound; `None` if records are being read from it.
    pub(crate) fn check_integrity(&mut self) -> Result<Option<bool>> {
        let doing = format!("cannot check {}", self.name);
        match self.writable()?.check_integrity() {
            Err(redb::DatabaseError::TransactionInProgress) => Ok(None),
            result => result.map(Some).map_err(|error| failed(doing, error)),
        }
    }

    /// Lets go of the file. Every commit is durable already; what fails here costs a repair at the next open.
    pub(crate) fn close(self) {
        let Self { holder, database, name, .. } = self;
        drop(holder);
        let closed = match database {
            Handle::Writable(database) => database.close(),
            Handle::ReadOnly(database) => database.close(),
        };
        match closed {
            // It is closed because of that failure, which its caller was told.
            Ok(()) | Err(DatabaseError::Storage(StorageError::PreviousIo)) => {}
            // So is the damage by whoever met it, and no open repairs it.
            Err(error @ DatabaseError::Storage(StorageError::Corrupted(_))) => {
                tracing::debug!(%error, "could not close {name} cleanly");
            }
            Err(error) => {
                tracing::warn!(%error, "could not close {name} cleanly; the next open repairs it");
            }
        }
    }

    fn writable(&mut self) -> Result<&mut Database> {
        match &mut self.database {
            Handle::Writable(database) => Ok(database),
            Handle::ReadOnly(_) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} was opened only to be read; open it for writing", self.name),
            )),
        }
    }

    fn decode_head(&self, bytes: Option<Vec<u8>>) -> Result<Head> {
        let damaged = |source: Option<Error>| {
            let message =
                format!("the head of {} is damaged; keep the file, and restore a copy of it", self.name);
            match source {
                Some(source) => Error::with_source(ErrorKind::Corrupt, message, source),
                None => Error::new(ErrorKind::Corrupt, message),
            }
        };
        Head::from_bytes(&bytes.ok_or_else(|| damaged(None))?).map_err(|error| damaged(Some(error)))
    }
}

impl copyseg_local::Store for Store {
    fn head(&self) -> Result<Head> {
        Ok(self.read()?.0)
    }

    fn write(&mut self, decide: impl FnOnce(Head) -> Result<Head>, batch: &Batch) -> Result<Head> {
        let doing = format!("cannot write to {}", self.name);
        let database = self.writable()?;
        let begin = || -> Result<_, redb::Error> {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let head = head_bytes(&transaction.open_table(META)?)?;
            Ok((head, transaction))
        };
        let (head, transaction) = begin().map_err(|error| failed(&doing, error))?;
        let next = decide(self.decode_head(head)?)?;
        apply(&transaction, &next, batch).map_err(|error| failed(&doing, error))?;
        transaction.commit().map_err(|error| unknown_outcome(&self.name, error))?;
        if let Some(place) = &self.place {
            place.check(&self.name)?;
        }
        if let Some(note) = &self.note {
            note.write(&next);
        }
        Ok(next)
    }
}

/// Writes the head of a new catalog, unless there are tables already.
pub(crate) fn initialise(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    if transaction.list_tables()?.next().is_some() {
        return Ok(transaction.abort()?);
    }
    apply(&transaction, &Head::default(), &Batch::from_iter([]))?;
    Ok(transaction.commit()?)
}

fn head_bytes(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<Vec<u8>>, redb::Error> {
    Ok(meta.get(HEAD)?.map(|bytes| bytes.value().to_vec()))
}

fn apply(transaction: &WriteTransaction, head: &Head, batch: &Batch) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(HEAD, head.to_bytes().as_slice())?;
    for kind in RecordKind::ALL {
        let mut operations =
            batch.operations().iter().filter(|operation| operation.key().kind == kind).peekable();
        if operations.peek().is_none() {
            continue;
        }
        let mut table = transaction.open_table(records(kind))?;
        for operation in operations {
            match operation {
                Operation::Put(key, bytes) => table.insert(key.id, &**bytes)?,
                Operation::Delete(key) => table.remove(key.id)?,
            };
        }
    }
    Ok(())
}
