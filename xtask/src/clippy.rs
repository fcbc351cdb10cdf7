//! `cargo xtask clippy`: lints are errors, in every combination of features a user is likely to build.

use crate::Outcome;
use crate::cargo::cargo;
use crate::etcd::provide_protoc;
use crate::workspace::members;

/// Lints the workspace as it is, then each package that has features with none, each alone, and all.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    lint(&["--workspace"])?;
    for member in members()? {
        if member.features.is_empty() {
            continue;
        }
        let package = ["--package", &member.name];
        lint(&[&package[..], &["--no-default-features"]].concat())?;
        for feature in &member.features {
            lint(&[&package[..], &["--no-default-features", "--features", feature]].concat())?;
        }
        if member.features.len() > 1 {
            lint(&[&package[..], &["--all-features"]].concat())?;
        }
    }
    Ok(())
}

fn lint(selection: &[&str]) -> Outcome {
    cargo(&[&["clippy", "--all-targets"], selection, &["--", "-D", "warnings"]].concat())
}
