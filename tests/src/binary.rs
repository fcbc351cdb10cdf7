//! The built command, started as a user would start it.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

use crate::scratch::{build_directory, profile_directory};

/// The path of the `copyseg` executable, built once with the profile of the running test.
///
/// # Panics
/// If it does not build.
pub fn copyseg() -> &'static Path {
    static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let directory = profile_directory();
        let profile = match directory.file_name().and_then(OsStr::to_str) {
            Some("debug") => "dev",
            Some(profile) => profile,
            None => panic!("{} names no profile", directory.display()),
        };
        let features = match cfg!(feature = "etcd-tests") {
            true => "copyseg-cli/sled,copyseg-cli/etcd",
            false => "copyseg-cli/sled",
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = process::Command::new(cargo)
            // As the README has it run, so that the crates it needs are built only once.
            .args(["build", "--quiet", "--bin", "copyseg", "--profile", profile, "--features", features])
            .arg("--target-dir")
            .arg(build_directory())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("cargo can be started");
        assert!(built.success(), "copyseg does not build");
        directory.join(format!("copyseg{}", std::env::consts::EXE_SUFFIX))
    })
}

/// What an operator may ask of a catalog, one of each kind.
pub const OPERATOR_COMMANDS: [&str; 9] =
    ["job list", "job get 1", "job cancel 1", "job rm 1", "job wait 1", "job watch", "stats", "gc", "check"];

/// How often a command is run that finds its catalog held.
const RUNS_MAX: u32 = 200;

/// One run of the command to be started.
#[derive(Debug)]
pub struct Command(process::Command);

impl Command {
    /// A run with these arguments, in `directory`, without any of the variables that change what it does.
    pub fn new<A: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = process::Command::new(copyseg());
        command.args(arguments).current_dir(directory).stdin(Stdio::null());
        for variable in ["COPYSEG_CATALOG", "COPYSEG_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        Self(command)
    }

    /// Sets a variable for it.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Has a shell do `script` first, in the process that it then becomes.
    pub fn after(self, script: &str) -> Self {
        self.through("sh", &["-c", &format!("{script} && exec \"$0\" \"$@\"")])
    }

    /// Has another program start it, whose arguments come before its own.
    pub fn through(self, program: &str, arguments: &[&str]) -> Self {
        let mut command = process::Command::new(program);
        command.args(arguments).arg(self.0.get_program()).args(self.0.get_args()).stdin(Stdio::null());
        for (name, value) in self.0.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = self.0.get_current_dir() {
            command.current_dir(directory);
        }
        Self(command)
    }

    /// Sends its stdout elsewhere.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.0.stdout(to);
        self
    }

    /// Sends its stderr elsewhere.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.0.stderr(to);
        self
    }

    /// Starts it, writing to wherever it was sent.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut self) -> Running {
        self.spawn()
    }

    fn spawn(&mut self) -> Running {
        let mut process = self.0.spawn().expect("copyseg can be started");
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        Running { process, stdout: stdout.map(Written::to), stderr: stderr.map(Written::to) }
    }

    /// Starts it with nobody listening.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_quietly(self) -> Running {
        self.stdout(Stdio::null()).stderr(Stdio::null()).start()
    }

    /// Starts it, keeping what it writes until it is [finished](Running::finish).
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_listening(self) -> Running {
        self.stdout(Stdio::piped()).stderr(Stdio::piped()).start()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(self) -> Finished {
        self.start_listening().finish()
    }

    /// Runs it to its end beside commands that read the same local catalog now and then. It waits for a reader, but not as
    /// long as one may take on a busy machine; then it is run again, as it advises.
    ///
    /// # Panics
    /// If it cannot be started, or the catalog is never free.
    pub fn run_beside_readers(mut self) -> Finished {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut runs = (0..RUNS_MAX).map(|_| self.spawn().finish());
        let is_held = |run: &Finished| run.stderr.contains("wait until that ends, or stop it");
        runs.find(|run| !is_held(run)).expect("the catalog is free now and then")
    }
}

/// A run under way; killed when dropped.
#[derive(Debug)]
pub struct Running {
    process: Child,
    stdout: Option<Written>,
    stderr: Option<Written>,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has ended by itself. Its id stays its own also then, so that a signal reaches nobody else.
    ///
    /// # Panics
    /// If its status cannot be asked for.
    pub fn has_ended(&self) -> bool {
        let events = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(Pid::from_child(&self.process)), events);
        ended.expect("the process can be asked").is_some()
    }

    /// What it has written to stderr, if it was started to be listened to.
    pub fn stderr(&self) -> String {
        self.stderr.as_ref().map(Written::so_far).unwrap_or_default()
    }

    /// Ends it with SIGKILL and waits until it is gone. Says whether the signal came before its own end.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn kill(mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.process.kill().expect("the process can be killed");
        self.process.wait().expect("the process can be waited for").signal() == Some(Signal::KILL.as_raw())
    }

    /// Sends it a signal; after one that stops it, waits until it stands still.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.process);
        kill_process(id, signal).expect("the signal can be sent");
        if signal == Signal::STOP {
            // If it has ended instead, that is left to be found.
            let events = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(id), events).expect("the process can be waited for");
        }
    }

    /// Waits until the file that it writes to says this, and gives all that is there.
    ///
    /// # Panics
    /// If it ends before.
    pub fn wait_for_note(&self, file: &Path, expected: &str) -> String {
        loop {
            let has_ended = self.has_ended();
            let notes = std::fs::read_to_string(file).expect("the file can be read");
            if notes.contains(expected) {
                return notes;
            }
            assert!(!has_ended, "it has ended without `{expected}`: {notes}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it cannot be waited for, or was ended by a signal that it does not handle.
    pub fn finish(mut self) -> Finished {
        let status = self.process.wait().expect("the process can be waited for");
        let stdout = self.stdout.take().map(Written::whole).unwrap_or_default();
        let stderr = self.stderr.take().map(Written::whole).unwrap_or_default();
        Finished { code: status.code().unwrap_or_else(|| panic!("{status}: {stderr}")), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process writes to a pipe. It is read as it comes: a process whose pipe is full stands still.
#[derive(Debug)]
struct Written {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Written {
    fn to(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let read = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let count @ 1.. = pipe.read(&mut buffer).expect("the output can be read") {
                read.lock().expect("nobody panics who holds it").extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics who holds it")).into_owned()
    }

    fn whole(self) -> String {
        self.reader.join().expect("the output can be read");
        let bytes = std::mem::take(&mut *self.bytes.lock().expect("nobody panics who holds it"));
        String::from_utf8(bytes).expect("the output is text")
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// Checks the exit code.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The JSON document on stdout.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in: {self:?}"))
    }

    /// The error object at the end of stderr, where warnings of the log may come before it.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in: {self:?}"));
        error["error"].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stage;

    #[test]
    fn a_run_that_writes_more_than_a_pipe_holds_ends_before_anyone_asks_for_it() {
        const BYTES: usize = 1_000_000;
        let script = format!("head -c {BYTES} /dev/zero >&2");
        let run = Stage::small().command("--version").after(&script).start_listening();
        while !run.has_ended() {
            thread::sleep(std::time::Duration::from_millis(10));
        }
        let finished = run.finish().exits(0);
        assert!(finished.stdout.starts_with("copyseg"), "{}", finished.stdout);
        assert_eq!(finished.stderr.len(), BYTES);
    }
}
