//! `cargo xtask fmt`: is every source file formatted?

use crate::Outcome;
use crate::cargo::cargo;

/// Compares; `cargo fmt --all` formats.
pub(crate) fn run() -> Outcome {
    cargo(&["fmt", "--all", "--check"])
}
