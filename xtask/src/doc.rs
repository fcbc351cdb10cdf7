//! `cargo xtask doc`: documentation without a broken link or a warning, private items included.

use crate::Outcome;
use crate::cargo::cargo_with;
use crate::etcd::provide_protoc;

/// Documents the workspace.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    let args = ["doc", "--workspace", "--no-deps", "--all-features", "--document-private-items"];
    cargo_with(&args, &[("RUSTDOCFLAGS", "-D warnings")])
}
