//! `cargo xtask test`: every test, by nextest where it is installed (`.config/nextest.toml`), else by cargo.

use crate::Outcome;
use crate::cargo::{cargo, cargo_version_of};

/// Runs the examples in the documentation first, then the tests.
pub(crate) fn run() -> Outcome {
    cargo(&["test", "--workspace", "--doc", "--quiet"])?;
    if cargo_version_of("nextest").is_some() {
        cargo(&["nextest", "run", "--workspace"])
    } else {
        cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
    }
}
