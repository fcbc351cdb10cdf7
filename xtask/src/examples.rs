//! `cargo xtask examples`: an example that is not run is not an example. The README's first command is one.

use std::env;
use std::fs;

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
    first_command_of_the_readme()
}

/// It names no package: what it runs depends on the programs of the whole workspace.
fn first_command_of_the_readme() -> Outcome {
    let folder = env::temp_dir().join(format!("copyseg-readme-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let restored = folder.join("restored").display().to_string();
    let outcome = cargo(&["run", "--quiet", "--", "restore", "examples/digits", &restored]);
    fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    outcome
}
