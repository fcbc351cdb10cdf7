//! Where a case has its catalog, and the other processes that it starts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::LocalCatalog;
use super::child::{PATH, Role, SAID};

/// A user without any rights.
const NOBODY: u32 = 65534;

/// A temporary folder for one catalog.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    /// The name of the test that is the child.
    child: String,
    /// Where the catalog is to be: in a folder of its own, which may be taken away or made read-only.
    pub(crate) path: PathBuf,
}

impl Place {
    pub(super) fn new<L: LocalCatalog>(module: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let below = folder.path().join("below");
        fs::create_dir(&below).expect("a folder can be created");
        // The name of a test has no crate before its modules.
        let modules = module.split_once("::").map(|(_, modules)| format!("{modules}::"));
        let child = format!("{}child", modules.unwrap_or_default());
        let place = Self { child, path: below.join(L::NAME), folder };
        allow(place.folder(), 0o755);
        place
    }

    /// The temporary folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that the catalog is in.
    pub(crate) fn below(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Starts another process.
    pub(crate) fn start(&self, role: Role) -> Other {
        let program = std::env::current_exe().expect("a test knows its executable");
        Other::start(self.arguments(Command::new(program), role))
    }

    /// Starts another process as a user without any rights. Root may do everything, so it becomes somebody else.
    pub(crate) fn start_unprivileged(&self, role: Role) -> Other {
        let program = self.folder().join("program");
        // By another process: a file that any process still has open to be written cannot be run.
        let original = std::env::current_exe().expect("a test knows its executable");
        let copied = Command::new("cp").arg(original).arg(&program).status();
        assert!(copied.is_ok_and(|status| status.success()), "the executable can be copied");
        let mut command = self.arguments(Command::new(&program), role);
        if fs::metadata(self.folder()).expect("it was just created").uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        Other::start(command)
    }

    /// Starts another process for which the folder of the catalog is a small disk of its own. `None` where this user
    /// may not have one.
    pub(crate) fn start_on_small_disk(&self, role: Role, size: &str) -> Option<Other> {
        const UNSHARE: [&str; 2] = ["--mount", "--map-root-user"];
        let mount = "mount -t tmpfs -o size=$1 tmpfs $2";
        let run = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(UNSHARE).args(["sh", "-c", script, "sh", size]).arg(self.below());
            command
        };
        if !run(mount).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            eprintln!("not tried: this user may not mount a disk, not even by `unshare`");
            return None;
        }
        let mut command = run(&format!("{mount} && shift 2 && exec \"$@\""));
        command.arg(std::env::current_exe().expect("a test knows its executable"));
        Some(Other::start(self.arguments(command, role)))
    }

    fn arguments(&self, mut command: Command, role: Role) -> Command {
        command.args([&self.child, "--exact", "--ignored", "--nocapture"]);
        command.env(PATH, &self.path).env(Role::VARIABLE, role.as_str());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }
}

/// Another process; killed when dropped.
pub(crate) struct Other(Child);

impl Other {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().expect("a process can be started"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// The lines that it says, as they come.
    pub(crate) fn said(&mut self) -> impl Iterator<Item = String> + use<> {
        let stdout = self.0.stdout.take().expect("it is asked for once");
        let lines = BufReader::new(stdout).lines().map(|line| line.expect("it is text"));
        lines.filter_map(|line| line.strip_prefix(SAID).map(str::to_owned))
    }

    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// What it said until it ended, having found what it was to find.
    pub(crate) fn succeeds(mut self) -> Vec<String> {
        let said = self.said().collect();
        let status = self.0.wait().expect("it can be waited for");
        assert!(status.success(), "it ended with {status}, after {said:?}");
        said
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sets the mode of a file or folder.
pub(crate) fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its owner may set its mode");
}
