//! An open sled database: the head and the records in it. Everything here runs on the writer thread.

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::sync::Arc;

use copyseg_core::{Batch, Error, ErrorKind, Head, Operation, Record, Result};
use copyseg_local::{HolderFile, Note, Place, Store as _, unknown_outcome};
use sled::Db;
use tempfile::TempDir;

use crate::error::failed;
use crate::file::Lock;
use crate::keys::{HEAD, record};
use crate::load::{Loads, Ticket};
use crate::wake::Wake;

/// Makes what sled has written to its file durable.
pub(crate) type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// An open database and what belongs to it, in the order in which it is let go of: first what other processes are
/// told, last what keeps them out.
pub(crate) struct Store {
    pub(crate) holder: Option<HolderFile>,
    pub(crate) wake: Wake,
    pub(crate) database: Db,
    pub(crate) loads: Loads,
    pub(crate) access: Access,
    pub(crate) lock: Lock,
    /// What messages call it.
    pub(crate) name: String,
}

/// What may be done with it.
pub(crate) enum Access {
    /// It is a copy of the catalog, only to be read.
    Read(TempDir),
    /// Everything.
    Write(Log),
}

/// sled's file of records, opened beside sled.
pub(crate) struct Log {
    pub(crate) file: File,
    pub(crate) place: Place,
    pub(crate) sync: SyncFile,
    pub(crate) note: Note,
}

impl Store {
    /// The head, and a load of the records as they are now.
    pub(crate) fn begin_load(&mut self) -> Result<(Head, Ticket)> {
        Ok((self.head()?, self.loads.begin()))
    }

    /// The next records of a load, none at its end; `None` if it began before the store was last opened.
    pub(crate) fn next_page(&mut self, ticket: &Ticket) -> Result<Option<Vec<Record>>> {
        self.loads.next_page(ticket, &self.database, &self.name)
    }

    /// Lets go of the folder. Every commit is durable already.
    pub(crate) fn close(self) {
        let Self { holder, wake, database, access, lock, name, .. } = self;
        drop(holder);
        drop(wake);
        drop(database);
        if let Access::Read(copy) = access
            && let Err(error) = copy.close()
        {
            tracing::warn!(%error, "cannot remove the copy of {name} that was read");
        }
        drop(lock);
    }
}

impl copyseg_local::Store for Store {
    fn head(&self) -> Result<Head> {
        let doing = || format!("cannot read {}", self.name);
        let damaged =
            || format!("the head of {} is damaged; keep the folder, and restore a copy of it", self.name);
        let bytes = self.database.get(HEAD).map_err(|error| failed(doing(), error))?;
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Corrupt, damaged()))?;
        Head::from_bytes(&bytes).map_err(|error| Error::with_source(ErrorKind::Corrupt, damaged(), error))
    }

    fn write(&mut self, decide: impl FnOnce(Head) -> Result<Head>, batch: &Batch) -> Result<Head> {
        let Access::Write(log) = &self.access else {
            let message = format!("{} was opened only to be read; open it for writing", self.name);
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let next = decide(self.head()?)?;
        let kept = self.loads.keep(&self.database, batch.operations());
        kept.map_err(|error| failed(format_args!("cannot write to {}", self.name), error))?;
        commit(&self.database, log, &next, batch).map_err(|error| unknown_outcome(&self.name, error))?;
        log.place.check(&self.name)?;
        log.note.write(&next);
        collect_garbage();
        Ok(next)
    }
}

/// Frees what commits have replaced. sled leaves that to the collector of crossbeam-epoch, which frees a little each
/// time that sled touches a page, and falls behind with batches: measured on half a million records, 2.2 GB of memory
/// instead of 0.14, a log of 480 MB instead of 290, and loads eight times slower.
fn collect_garbage() {
    /// One frees up to 512 pages, and two have to pass before a page of now is freed. Below 10 us when there is nothing.
    const ROUNDS: usize = 32;
    for _ in 0..ROUNDS {
        crossbeam_epoch::pin().flush();
    }
}

/// sled's flush hands its log to the operating system, and no further: it calls `sync_file_range`, which leaves the
/// length of the file and the cache of the disk alone (sled issue 1452). The sync does the rest.
fn commit(
    database: &Db,
    log: &Log,
    head: &Head,
    batch: &Batch,
) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut changes = sled::Batch::default();
    changes.insert(HEAD, head.to_bytes());
    for operation in batch.operations() {
        match operation {
            Operation::Put(key, bytes) => changes.insert(&record(*key), &**bytes),
            Operation::Delete(key) => changes.remove(&record(*key)),
        }
    }
    database.apply_batch(changes)?;
    database.flush()?;
    Ok((log.sync)(&log.file)?)
}
