//! `cargo xtask clippy`: lints are errors, in every combination of features a user is likely to build.

use crate::Outcome;
use crate::cargo::cargo;
use crate::etcd::provide_protoc;
use crate::workspace::members;

/// The package whose features others of the workspace switch on.
const FACADE: &str = "copyseg";

/// Lints the workspace as it is and with all features, then with each feature alone.
///
/// Most of the time goes into dependencies, which are looked at anew whenever one of them gets other features. So the
/// workspace is linted as a whole each time; only for the facade would that switch on what is to be off.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    lint(&["--workspace"])?;
    lint(&["--workspace", "--all-features"])?;
    for member in members()? {
        if member.name == FACADE {
            let package = ["--package", FACADE, "--no-default-features"];
            lint(&package)?;
            for feature in &member.features {
                lint(&[&package[..], &["--features", feature]].concat())?;
            }
        } else if member.features.len() > 1 {
            for feature in &member.features {
                lint(&["--workspace", "--features", &format!("{}/{feature}", member.name)])?;
            }
        }
    }
    Ok(())
}

fn lint(selection: &[&str]) -> Outcome {
    cargo(&[&["clippy", "--all-targets"], selection, &["--", "-D", "warnings"]].concat())
}
