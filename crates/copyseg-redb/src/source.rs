//! Where a database is opened, and opened again after a failure.

use std::io;
use std::path::{Path, PathBuf};

use copyseg_core::{Error, ErrorKind, Head, Result};
use copyseg_local::{
    HolderFile, Lasting, Place, Storage, check_note, describe_holder, forget_cached, io_failed,
    sync_folder_of,
};
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use crate::error::{failed, lasting};
use crate::file;
use crate::options::RedbOptions;
use crate::store::{Handle, Store, initialise};

/// Where a database is opened.
pub(crate) enum Source {
    /// A file, to be written.
    File(PathBuf, RedbOptions),
    /// A file, only to be read.
    ReadOnly(PathBuf, RedbOptions),
    /// A storage that the embedder brought.
    Backend(Box<dyn Fn() -> Result<Database, redb::Error> + Send>),
}

impl Source {
    pub(crate) fn backend<B: StorageBackend>(
        backend: impl Fn() -> io::Result<B> + Send + 'static,
        options: RedbOptions,
    ) -> Self {
        Self::Backend(Box::new(move || {
            let database = builder(options).create_with_backend(backend()?)?;
            initialise(&database)?;
            Ok(database)
        }))
    }

    fn open_file(&self, path: &Path, options: RedbOptions, create: bool) -> Result<Store> {
        let mut store = match file::inspect(path)? {
            Some(place) => self.open_existing(path, options, place)?,
            None if create => match self.create(path, options)? {
                Some(store) => store,
                None => return self.open_file(path, options, false),
            },
            None => return Err(io_failed(self.doing(), io::ErrorKind::NotFound.into())),
        };
        store.holder = HolderFile::write(path);
        store.note = file::note(path);
        sync_folder_of(path).map_err(|error| io_failed(self.doing(), error))?;
        Ok(store)
    }

    fn open_existing(&self, path: &Path, options: RedbOptions, place: Place) -> Result<Store> {
        let database = builder(options).open(path).map_err(|error| self.refused(path, error))?;
        self.store(Handle::Writable(database), Some(place))
    }

    /// `None` if another process created it meanwhile.
    fn create(&self, path: &Path, options: RedbOptions) -> Result<Option<Store>> {
        let doing = || format!("cannot create {}", self.name());
        let (file, unnamed) = file::start(path).map_err(|error| io_failed(doing(), error))?;
        let metadata = file.metadata().map_err(|error| io_failed(doing(), error))?;
        let create = || -> Result<Database, redb::Error> {
            let database = builder(options).create_with_backend(FileBackend::new(file)?)?;
            initialise(&database)?;
            Ok(database)
        };
        let database = create().map_err(|error| failed(doing(), error))?;
        if let Some(note) = file::note(path) {
            // Over that of an earlier catalog in the same place. Before the file is there: were this process killed in
            // between, that note would refuse a file that lacks nothing.
            note.write(&Head::default());
        }
        let is_first = file::finish(unnamed, path).map_err(|error| io_failed(doing(), error))?;
        is_first
            .then(|| self.store(Handle::Writable(database), Some(Place::new(path, &metadata))))
            .transpose()
    }

    fn open_read_only(&self, path: &Path, options: RedbOptions) -> Result<Store> {
        let missing = || io_failed(self.doing(), io::ErrorKind::NotFound.into());
        file::inspect(path)?.ok_or_else(missing)?;
        let database = match builder(options).open_read_only(path) {
            Err(DatabaseError::RepairAborted) => {
                // Its writer was killed. Opening it to be written repairs it.
                let repair = || -> Result<(), DatabaseError> {
                    let database = builder(options).open(path)?;
                    // Removes the note that the killed process left.
                    drop(HolderFile::write(path));
                    database.close()
                };
                repair().map_err(|error| self.not_repaired(path, error))?;
                builder(options).open_read_only(path)
            }
            result => result,
        };
        let database = database.map_err(|error| self.refused(path, error))?;
        self.store(Handle::ReadOnly(database), None)
    }

    fn not_repaired(&self, path: &Path, error: DatabaseError) -> Error {
        use io::ErrorKind as Io;
        match error {
            DatabaseError::Storage(StorageError::Io(error))
                if matches!(error.kind(), Io::PermissionDenied | Io::ReadOnlyFilesystem) =>
            {
                let message = format!(
                    "{}: it was not closed cleanly, and repairing it needs permission to write; open it, or a copy of \
                     it, where it can be written",
                    self.doing()
                );
                Error::with_source(ErrorKind::Unavailable, message, error)
            }
            error => self.refused(path, error),
        }
    }

    fn refused(&self, path: &Path, error: DatabaseError) -> Error {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Error::with_source(
                ErrorKind::Held,
                format!("{}: {}", self.doing(), describe_holder(path)),
                error,
            ),
            error => failed(self.doing(), error),
        }
    }

    /// A file before the head that was noted has lost commits, and is refused.
    fn noted(&self, path: &Path, store: Store) -> Result<Store> {
        check_note(&file::note_path(path), &store.read()?.0, || self.doing())?;
        Ok(store)
    }

    fn doing(&self) -> String {
        format!("cannot open {}", self.name())
    }

    /// A redb database without a head is not a catalog, and is refused.
    fn store(&self, database: Handle, place: Option<Place>) -> Result<Store> {
        let store = Store { holder: None, note: None, database, place, name: self.name() };
        store.read()?;
        Ok(store)
    }
}

impl Storage for Source {
    type Store = Store;

    const ENGINE: &'static str = "redb";

    fn name(&self) -> String {
        match self {
            Self::File(path, _) | Self::ReadOnly(path, _) => format!("the catalog {}", path.display()),
            Self::Backend(_) => "the catalog in a storage of its own".into(),
        }
    }

    fn open(&self) -> Result<Store> {
        match self {
            Self::File(path, options) => self.noted(path, self.open_file(path, *options, options.create)?),
            Self::ReadOnly(path, options) => self.noted(path, self.open_read_only(path, *options)?),
            Self::Backend(open) => {
                let database = open().map_err(|error| failed(self.doing(), error))?;
                self.store(Handle::Writable(database), None)
            }
        }
    }

    fn reopen(&self) -> Result<Store> {
        match self {
            Self::File(path, options) => {
                forget_cached(path);
                self.noted(path, self.open_file(path, *options, false)?)
            }
            Self::ReadOnly(..) | Self::Backend(_) => self.open(),
        }
    }

    fn close(store: Store) {
        store.close();
    }

    fn lasting(error: &Error) -> Option<Lasting> {
        lasting(error)
    }
}

fn builder(options: RedbOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_size_bytes).set_repair_callback(|repair| {
        tracing::info!(
            progress = repair.progress(),
            "a catalog was not closed cleanly and is being repaired"
        );
    });
    builder
}
