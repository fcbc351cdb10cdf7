//! Who holds the file: a small side file that lets a refused second process name the first.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The process that holds a catalog file, as written beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pid: u32,
    host: String,
    /// RFC 3339.
    since: String,
    command: String,
}

impl Holder {
    fn current() -> Self {
        // A third argument may be a URL with a password in it; the program and its subcommand are enough.
        let mut arguments = env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        let program = arguments.next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
        let command = [program.into_owned()].into_iter().chain(arguments.take(1)).collect::<Vec<_>>();
        Self {
            pid: process::id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            command: command.join(" "),
        }
    }

    /// Who holds `catalog`, as far as its holder said so.
    fn of(catalog: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(catalog)).ok()?).ok()
    }
}

/// Says who holds `catalog`, and what to do about it.
pub(crate) fn describe(catalog: &Path) -> String {
    match Holder::of(catalog) {
        Some(Holder { pid, host, since, command }) => format!(
            "it is held by process {pid} on {host} since {since} (`{command}`); wait until that ends, or stop it"
        ),
        None => "another process holds it, perhaps one that only reads it; wait until that ends, or stop it"
            .into(),
    }
}

/// The side file of a catalog that this process holds; removed when dropped, while the lock is still held.
#[derive(Debug)]
pub(crate) struct HolderFile(PathBuf);

impl HolderFile {
    /// Names this process as the holder, over what a killed one left. Only messages depend on it, so a failure
    /// is no reason not to go on.
    pub(crate) fn write(catalog: &Path) -> Option<Self> {
        let path = path(catalog);
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&serde_json::to_vec(&Holder::current())?)
        };
        match write() {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot say who holds the catalog");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }
}

impl Drop for HolderFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the note of who held the catalog");
        }
    }
}

fn path(catalog: &Path) -> PathBuf {
    let mut path = catalog.as_os_str().to_owned();
    path.push(".holder");
    path.into()
}
