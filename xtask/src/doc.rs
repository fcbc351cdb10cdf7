//! `cargo xtask doc`: documentation without a broken link or a warning, private items included.

use crate::Outcome;
use crate::cargo::cargo_with;

/// Documents the workspace.
pub(crate) fn run() -> Outcome {
    let args = ["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"];
    cargo_with(&args, &[("RUSTDOCFLAGS", "-D warnings")])
}
