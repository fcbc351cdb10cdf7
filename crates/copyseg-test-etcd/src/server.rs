//! The etcd program that members are started from.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::process::Command;

/// An etcd program of this machine.
#[derive(Debug, Clone)]
pub struct Server {
    program: OsString,
    version: String,
}

impl Server {
    /// The environment variable that names the program for tests.
    pub const VARIABLE: &str = "COPYSEG_TEST_ETCD_SERVER";

    /// The server with this path, or with this name on `PATH`; none if it does not run.
    pub fn at(program: impl Into<OsString>) -> Option<Self> {
        let program = program.into();
        let output = Command::new(&program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "))?.trim().to_owned();
        Some(Self { program, version })
    }

    /// The server that [`VARIABLE`](Self::VARIABLE) names, else the one on `PATH`.
    ///
    /// # Panics
    /// If there is none.
    pub fn of_test() -> Self {
        let program = env::var_os(Self::VARIABLE).unwrap_or_else(|| "etcd".into());
        Self::at(&program)
            .unwrap_or_else(|| panic!("{program:?} is no etcd that runs; `cargo xtask etcd` provides one"))
    }

    /// Its path or name.
    pub fn program(&self) -> &OsString {
        &self.program
    }

    /// Its version, such as `3.4.23`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether its members may be killed. Those of 3.5.0 to 3.5.2 may come back with other data than the rest of their
    /// cluster (etcd issue 13766), which says nothing about whoever uses them.
    pub fn survives_kills(&self) -> bool {
        !["3.5.0", "3.5.1", "3.5.2"].contains(&self.version.as_str())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd {}", self.version)
    }
}
