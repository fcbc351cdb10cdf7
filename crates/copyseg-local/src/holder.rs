//! Who holds a catalog: a small side file that lets a refused second process name the first.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The process that holds a catalog, as written beside its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
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

    /// Who holds the catalog in `file`, as far as its holder said so.
    fn of(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(file)).ok()?).ok()
    }
}

/// Says who holds the catalog in `file`, and what to do about it.
pub fn describe_holder(file: &Path) -> String {
    match Holder::of(file) {
        Some(Holder { pid, host, since, command }) => format!(
            "it is held by process {pid} on {host} since {since} (`{command}`); wait until that ends, or stop it"
        ),
        None => "another process holds it, perhaps one that only reads it; wait until that ends, or stop it"
            .into(),
    }
}

/// The side file of a catalog that this process holds, named like the catalog's file with `.holder` after it. It is
/// removed when dropped, which has to be while the lock is still held.
#[derive(Debug)]
pub struct HolderFile(PathBuf);

impl HolderFile {
    /// Names this process as the holder, over what a killed one left. Only messages depend on it, so a failure
    /// is no reason not to go on.
    pub fn write(file: &Path) -> Option<Self> {
        let path = path(file);
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

fn path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".holder");
    path.into()
}
