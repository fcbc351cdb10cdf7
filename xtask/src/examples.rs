//! `cargo xtask examples`: an example that is not run is not an example.

use crate::Outcome;
use crate::cargo::cargo;
use crate::etcd::provide_protoc;
use crate::workspace::members;

/// Runs every example of every package; each must end by itself and successfully.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    for member in members()? {
        for example in &member.examples {
            cargo(&["run", "--quiet", "--package", &member.name, "--example", example])?;
        }
    }
    Ok(())
}
