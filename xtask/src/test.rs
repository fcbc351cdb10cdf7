//! `cargo xtask test`: every test, by nextest where it is installed (`.config/nextest.toml`), else by cargo.

use crate::Outcome;
use crate::cargo::{cargo, cargo_version_of};
use crate::etcd::provide_protoc;

/// Runs the examples in the documentation, then the facade without its backends, then everything, the facade with all.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    // Asked for examples, cargo runs those of a library that has them switched off as well: the second build of core.
    cargo(&["test", "--workspace", "--exclude", "copyseg-shuttle-core", "--doc", "--quiet"])?;
    run_tests(&["--package", "copyseg", "--no-default-features"])?;
    // The tests that start the command build it themselves, so; the time that takes is not theirs.
    cargo(&["build", "--bin", "copyseg", "--features", "copyseg-cli/sled"])?;
    run_tests(&["--workspace", "--features", "copyseg/etcd,copyseg/sled"])
}

fn run_tests(selection: &[&str]) -> Outcome {
    let runner: &[&str] = if cargo_version_of("nextest").is_some() {
        &["nextest", "run"]
    } else {
        &["test", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]
    };
    cargo(&[runner, selection].concat())
}
