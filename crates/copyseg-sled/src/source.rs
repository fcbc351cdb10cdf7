//! Where a database is opened, and opened again after a failure.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{Error, ErrorKind, Head, Result};
use copyseg_local::{
    HolderFile, Lasting, Note, Place, Storage, Store as _, check_note, describe_holder, forget_cached,
    io_failed, sync_folder_of,
};
use sled::{Config, Db};

use crate::error::{failed, is_locked, lasting};
use crate::file::{self, Found, LOG, Lock, NOTE, SEGMENT_BYTES};
use crate::keys::HEAD;
use crate::load::Loads;
use crate::options::SledOptions;
use crate::store::{self, Log, Store, SyncFile};
use crate::wake::Wake;

/// How long sled's own lock may outlive the database it was for: threads that finish their work hold it. Who
/// has the folder's lock meets nobody else's.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a database is opened.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) options: SledOptions,
    pub(crate) access: Access,
}

/// What it is opened for.
pub(crate) enum Access {
    /// To be read, in a copy.
    Read,
    /// To be written, and made durable by this.
    Write(SyncFile),
}

impl Storage for Source {
    type Store = Store;

    const ENGINE: &'static str = "sled";

    fn name(&self) -> String {
        format!("the catalog {}", self.path.display())
    }

    fn open(&self) -> Result<Store> {
        match &self.access {
            Access::Read => self.open_copy(),
            Access::Write(sync) => self.open_folder(sync, self.options.create),
        }
    }

    fn reopen(&self) -> Result<Store> {
        match &self.access {
            Access::Read => self.open_copy(),
            Access::Write(sync) => {
                forget_cached(&self.log());
                self.open_folder(sync, false)
            }
        }
    }

    fn close(store: Store) {
        store.close();
    }

    fn lasting(error: &Error) -> Option<Lasting> {
        lasting(error)
    }
}

impl Source {
    fn open_folder(&self, sync: &SyncFile, create: bool) -> Result<Store> {
        let io_failed = |error| io_failed(self.doing(), error);
        if create && !self.path.exists() {
            file::create(&self.path).map_err(io_failed)?;
        }
        let lock = Lock::exclusive(&self.path).map_err(|error| self.not_locked(error))?;
        let found = file::inspect(&self.path)?;
        if found == Found::Nothing {
            if !create {
                return Err(io_failed(io::ErrorKind::NotFound.into()));
            }
            file::start(&self.path).map_err(io_failed)?;
        }
        let file = File::open(self.log()).map_err(io_failed)?;
        // What a killed process left in the system's cache: sled builds on it, in other files, as if it were durable.
        file.sync_all().map_err(io_failed)?;
        let place = Place::new(self.log(), &file.metadata().map_err(io_failed)?);
        let config = self.config(&self.path);
        let database = self.open_sled(&config)?;
        if found == Found::Nothing {
            self.initialise(&database)?;
        }
        let note = Note::open(&self.path.join(NOTE)).map_err(io_failed)?;
        let log = Log { file, place, sync: sync.clone(), note };
        let mut store = self.store(config, database, lock, store::Access::Write(log))?;
        store.holder = HolderFile::write(&self.log());
        file::sync(&self.path).and_then(|()| sync_folder_of(&self.path)).map_err(io_failed)?;
        Ok(store)
    }

    fn open_copy(&self) -> Result<Store> {
        let lock = Lock::shared(&self.path).map_err(|error| self.not_locked(error))?;
        if file::inspect(&self.path)? == Found::Nothing {
            return Err(io_failed(self.doing(), io::ErrorKind::NotFound.into()));
        }
        let doing =
            |folder: &Path| format!("cannot copy {} to {}, to read it", self.name(), folder.display());
        let copy = tempfile::Builder::new().prefix("copyseg-").tempdir();
        let copy = copy.map_err(|error| io_failed(doing(&std::env::temp_dir()), error))?;
        let copied = self.wait_for_sled().and_then(|_locked| file::copy(&self.path, copy.path()));
        copied.map_err(|error| io_failed(doing(copy.path()), error))?;
        let config = self.config(copy.path());
        let database = self.open_sled(&config)?;
        self.store(config, database, lock, store::Access::Read(copy))
    }

    /// Waits until no thread of a database that was closed has sled's lock.
    fn wait_for_sled(&self) -> io::Result<Lock> {
        let is_late = |result: &Result<_, _>| matches!(result, Err(TryLockError::WouldBlock));
        retry(|| Lock::shared(&self.log()), is_late).map_err(io::Error::from)
    }

    fn open_sled(&self, config: &Config) -> Result<Db> {
        let opened = retry(|| config.open(), |result| result.as_ref().is_err_and(is_locked));
        opened.map_err(|error| match is_locked(&error) {
            true => Error::with_source(ErrorKind::Held, self.held(), error),
            false => failed(self.doing(), error),
        })
    }

    fn initialise(&self, database: &Db) -> Result<()> {
        let doing = || format!("cannot create {}", self.name());
        let create = || {
            database.insert(HEAD, Head::default().to_bytes())?;
            database.flush()
        };
        create().map_err(|error| failed(doing(), error))?;
        file::finish(&self.path).map_err(|error| io_failed(doing(), error))
    }

    /// A database without a head is not a catalog, and one before the head that was noted has lost commits; both are
    /// refused.
    fn store(&self, config: Config, database: Db, lock: Lock, access: store::Access) -> Result<Store> {
        let wake = Wake::start(config, database.clone())?;
        let loads = Loads::default();
        let store = Store { holder: None, wake, database, loads, access, lock, name: self.name() };
        check_note(&self.path.join(NOTE), &store.head()?, || self.doing())?;
        Ok(store)
    }

    fn not_locked(&self, error: TryLockError) -> Error {
        match error {
            TryLockError::WouldBlock => Error::new(ErrorKind::Held, self.held()),
            TryLockError::Error(error) => io_failed(self.doing(), error),
        }
    }

    fn held(&self) -> String {
        format!("{}: {}", self.doing(), describe_holder(&self.log()))
    }

    /// sled's own thread for flushing is not wanted: every commit flushes.
    fn config(&self, path: &Path) -> Config {
        Config::new()
            .path(path)
            .cache_capacity(self.options.cache_size_bytes as u64)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None)
    }

    fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    fn doing(&self) -> String {
        format!("cannot open {}", self.name())
    }
}

/// Tries again while `is_late` says so, for as long as sled's threads may take to end.
fn retry<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_late: impl Fn(&Result<T, E>) -> bool,
) -> Result<T, E> {
    let start = Instant::now();
    loop {
        let result = attempt();
        if !is_late(&result) || start.elapsed() > UNLOCK_TIMEOUT {
            return result;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
