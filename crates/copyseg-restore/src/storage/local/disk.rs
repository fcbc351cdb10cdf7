//! The calls to the file system that change something or look for what is there, so that a test can watch them and let them
//! fail. What is read of an open file is not among them.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
#[cfg(feature = "faults")]
use std::sync::Arc;

use tempfile::TempPath;

/// The file system below a local location.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    #[cfg(feature = "faults")]
    pub(crate) hook: Option<Arc<DiskHook>>,
}

/// What a test does at a call to the file system. It is told of the call before and after its effect, with `false`
/// and `true`; an error becomes the call's.
#[cfg(feature = "faults")]
pub type DiskHook = dyn Fn(&DiskCall<'_>, bool) -> io::Result<()> + Send + Sync;

/// A call to the file system.
#[cfg(feature = "faults")]
#[derive(Debug, Clone, Copy)]
pub struct DiskCall<'a> {
    /// What it does: `create`, `write`, `sync`, `rename`, `sync folder` and so on.
    pub operation: &'static str,
    /// The file or folder; of a renaming the old name.
    pub path: &'a Path,
    /// The new name, of a renaming.
    pub to: Option<&'a Path>,
}

impl Disk {
    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.call("metadata", path, || fs::symlink_metadata(path))
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call("read", path, || fs::read(path))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<fs::File> {
        self.call("open", path, || fs::File::open(path))
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<fs::ReadDir> {
        self.call("list", folder, || fs::read_dir(folder))
    }

    /// Creates a file that is not there. Others may do no more with it than with a file of this mode.
    pub(super) fn create(&self, path: &Path, mode: Option<u32>) -> io::Result<fs::File> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        if let Some(mode) = mode {
            // This user reads what was written, and may replace it; nobody is to run it.
            options.mode(mode & 0o666 | 0o600);
        }
        self.call("create", path, || options.open(path))
    }

    pub(super) fn write(&self, mut file: &fs::File, path: &Path, content: &[u8]) -> io::Result<()> {
        self.call("write", path, || file.write_all(content))
    }

    pub(super) fn sync(&self, file: &fs::File, path: &Path) -> io::Result<()> {
        self.call("sync", path, || file.sync_all())
    }

    /// Syncs the entries of a folder.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Elsewhere a directory cannot be opened, and the file system orders its entries by itself.
        let sync = || if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) };
        self.call("sync folder", path, sync)
    }

    /// Gives a file another name, over whatever has that name.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call_between("rename", from, Some(to), || fs::rename(from, to))
    }

    /// Gives a file another name that nothing has.
    pub(super) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call_between("rename new", from, Some(to), || {
            TempPath::try_from_path(from)?.persist_noclobber(to).map_err(|error| error.error)
        })
    }

    /// Creates a folder and those above it.
    pub(super) fn create_folders(&self, path: &Path) -> io::Result<()> {
        self.call("create folders", path, || fs::create_dir_all(path))
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, || fs::remove_file(path))
    }

    /// Removes a folder that is empty.
    pub(super) fn remove_empty_folder(&self, path: &Path) -> io::Result<()> {
        self.call("remove folder", path, || fs::remove_dir(path))
    }

    /// Removes a folder and all below it.
    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call("remove folder", path, || fs::remove_dir_all(path))
    }

    fn call<T>(
        &self,
        operation: &'static str,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.call_between(operation, path, None, work)
    }

    #[cfg(feature = "faults")]
    fn call_between<T>(
        &self,
        operation: &'static str,
        path: &Path,
        to: Option<&Path>,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(hook) = &self.hook else { return work() };
        let call = DiskCall { operation, path, to };
        hook(&call, false)?;
        let done = work()?;
        hook(&call, true)?;
        Ok(done)
    }

    #[cfg(not(feature = "faults"))]
    fn call_between<T>(
        &self,
        _operation: &'static str,
        _path: &Path,
        _to: Option<&Path>,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        work()
    }
}
