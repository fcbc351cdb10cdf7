//! A disk that fails, hangs or is looked at when a commit is made durable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use copyseg_core::Result;
use copyseg_sled::{SledCatalog, SledOptions};
use tempfile::TempDir;

/// A folder on such a disk. Clones are handles on the same one.
#[derive(Clone)]
pub(crate) struct Disk(Arc<(Mutex<State>, Condvar)>, PathBuf, Arc<TempDir>);

#[derive(Default)]
struct State {
    syncs: usize,
    /// The file as it was synced last.
    synced: Vec<u8>,
    /// Whether what the next, failing sync was for reaches the disk all the same, and its error.
    failing_sync: Option<(bool, io::ErrorKind)>,
    /// Where the next sync copies the folder to.
    copy_to: Option<PathBuf>,
    hangs: bool,
}

/// After this long a hanging disk fails, so that a test that waits for it in vain ends.
const PATIENCE: Duration = Duration::from_secs(300);

impl Disk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sled");
        Self(Arc::default(), path, Arc::new(folder))
    }

    pub(crate) async fn open_catalog(&self) -> Result<SledCatalog> {
        let disk = self.clone();
        SledCatalog::with_sync(&self.1, SledOptions::default(), move |file| disk.sync(file)).await
    }

    pub(crate) fn folder(&self) -> &Path {
        self.2.path()
    }

    pub(crate) fn syncs(&self) -> usize {
        self.state(|state| state.syncs)
    }

    pub(crate) fn fail_sync_as(&self, reaches_the_disk: bool, error: io::ErrorKind) {
        self.state(|state| state.failing_sync = Some((reaches_the_disk, error)));
    }

    pub(crate) fn copy_at_next_sync(&self, to: PathBuf) {
        self.state(|state| state.copy_to = Some(to));
    }

    /// While it hangs, a sync waits.
    pub(crate) fn hang_sync(&self, hangs: bool) {
        self.state(|state| state.hangs = hangs);
        self.0.1.notify_all();
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let state = self.0.0.lock().unwrap();
        let (mut state, waited) = self.0.1.wait_timeout_while(state, PATIENCE, |state| state.hangs).unwrap();
        assert!(!waited.timed_out(), "nobody lets the disk go on");
        let log = self.1.join("db");
        match state.failing_sync.take() {
            None => {
                file.sync_data()?;
                state.synced = fs::read(log)?;
                state.syncs += 1;
                if let Some(to) = state.copy_to.take() {
                    copy(&self.1, &to)?;
                }
                Ok(())
            }
            Some((reaches_the_disk, error)) => {
                if !reaches_the_disk {
                    OpenOptions::new().write(true).truncate(true).open(log)?.write_all(&state.synced)?;
                }
                Err(io::Error::new(error, "the disk failed to sync"))
            }
        }
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.0.lock().unwrap())
    }
}

/// Copies a folder of sled's as a killed process would leave it.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.join("blobs"))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
