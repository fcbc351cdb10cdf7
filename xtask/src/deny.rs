//! `cargo xtask deny`: what may be depended on, by the rules in `deny.toml`.

use crate::Outcome;
use crate::cargo::{cargo, cargo_version_of};

/// The version the rules are written for.
const VERSION: &str = "0.20.2";

/// Checks everything that needs no network.
pub(crate) fn run() -> Outcome {
    check(&["bans", "licenses", "sources"])
}

/// Checks against the RustSec database, which is fetched from where `cargo deny` keeps it.
pub(crate) fn advisories() -> Outcome {
    check(&["advisories"])
}

fn check(what: &[&str]) -> Outcome {
    if cargo_version_of("deny").is_none() {
        cargo(&["install", "--locked", &format!("cargo-deny@{VERSION}")])?;
    }
    cargo(&[&["deny", "--all-features", "check", "--hide-inclusion-graph"], what].concat())
}
