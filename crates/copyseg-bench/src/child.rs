//! What is measured in a process of its own, because what a process did before changes the figure.

use std::path::Path;
use std::process::Command;

use crate::Result;

/// The numbers that `program` says on its standard output.
pub(crate) fn figures(program: &Path, arguments: &[&str]) -> Result<Vec<u64>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
}
