//! Programs that are not cargo's: whether they are there, how they end, and Debian's packages for those that are missing.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;

/// A network that fails for a moment fails no check; cargo and pip try again by themselves.
const RETRIES: [&str; 2] = ["-o", "Acquire::Retries=5"];

/// Installs packages, as root or through sudo.
pub(crate) fn install(packages: &[&str]) -> Outcome {
    let install = ["install", "--yes", "--no-install-recommends"];
    apt_get(&["update"]).and_then(|()| apt_get(&[&install, packages].concat()))
}

/// Puts the file of a package into `folder` and installs nothing.
pub(crate) fn download(package: &str, folder: &Path) -> Outcome {
    apt_get(&["update"])?;
    succeed(Command::new("apt-get").args(RETRIES).args(["download", package]).current_dir(folder))
}

/// Runs a command of which only the end matters, and says so in the log.
pub(crate) fn succeed(command: &mut Command) -> Outcome {
    eprintln!("$ {command:?}");
    match command.stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?} did not start: {error}")),
    }
}

/// Whether a program is there and succeeds.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn apt_get(arguments: &[&str]) -> Outcome {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let (program, first): (&str, &[&str]) = if is_root { ("apt-get", &[]) } else { ("sudo", &["apt-get"]) };
    succeed(Command::new(program).args(first).args(RETRIES).args(arguments))
}
