//! Rules for the manifests of the workspace: shared settings, dependencies that point one way, lock files that are up to date,
//! and every check in every CI.

use std::fs;

use crate::CHECKS;
use crate::cargo::cargo;
use crate::workspace::{Member, members, root};

/// Which packages of this workspace each may depend on, besides those for tests.
const MAY_DEPEND_ON: [(&str, &[&str]); 19] = [
    ("copyseg-core", &[]),
    ("copyseg-conformance", &["copyseg-core"]),
    ("copyseg-test-etcd", &[]),
    ("copyseg-local", &["copyseg-core"]),
    ("copyseg-redb", &["copyseg-core", "copyseg-local"]),
    ("copyseg-sled", &["copyseg-core", "copyseg-local"]),
    ("copyseg-etcd", &["copyseg-core"]),
    ("copyseg", &["copyseg-core", "copyseg-redb", "copyseg-sled", "copyseg-etcd"]),
    ("copyseg-restore", &["copyseg-core"]),
    ("copyseg-cli", &["copyseg", "copyseg-restore"]),
    ("copyseg-tests", &["copyseg"]),
    ("copyseg-shuttle", &[]),
    ("copyseg-shuttle-parking-lot", &["copyseg-shuttle"]),
    ("copyseg-shuttle-arc-swap", &["copyseg-shuttle"]),
    ("copyseg-shuttle-core", &["copyseg-shuttle", "copyseg-shuttle-parking-lot", "copyseg-shuttle-arc-swap"]),
    (
        "copyseg-torture",
        &[
            "copyseg-core",
            "copyseg-conformance",
            "copyseg-redb",
            "copyseg-sled",
            "copyseg-etcd",
            "copyseg",
            "copyseg-restore",
            "copyseg-shuttle",
            "copyseg-shuttle-core",
            "copyseg-test-etcd",
            "copyseg-tests",
        ],
    ),
    ("copyseg-bench", &["copyseg-core", "copyseg-redb", "copyseg-etcd", "copyseg-restore"]),
    ("copyseg-instructions", &["copyseg-core"]),
    ("xtask", &["copyseg-test-etcd"]),
];

/// What any package may use in its tests.
const FOR_TESTS: [&str; 2] = ["copyseg-conformance", "copyseg-test-etcd"];

/// What is wrong with the manifests.
pub(super) fn check() -> Result<Vec<String>, String> {
    let mut violations = Vec::new();
    for member in members()? {
        let manifest = fs::read_to_string(&member.manifest).map_err(|error| error.to_string())?;
        let broken = directions(&member).into_iter().chain(inheritance(&manifest));
        violations.extend(broken.map(|violation| format!("{}: {violation}", member.name)));
    }
    violations.extend(changelog()?);
    violations.extend(workflow()?);
    violations.extend(lock_of_fuzz_targets());
    Ok(violations)
}

fn directions(member: &Member) -> Vec<String> {
    let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(name, _)| *name == member.name) else {
        return vec!["is not in the table of dependencies of `cargo xtask tidy`".into()];
    };
    let is_ours = |name: &str| MAY_DEPEND_ON.iter().any(|(ours, _)| *ours == name);
    let is_allowed = |(name, is_for_tests): &&(String, bool)| {
        allowed.contains(&name.as_str()) || (*is_for_tests && FOR_TESTS.contains(&name.as_str()))
    };
    let ours = member.dependencies.iter().filter(|(name, _)| is_ours(name));
    ours.filter(|dependency| !is_allowed(dependency))
        .map(|(name, _)| format!("must not depend on `{name}`: dependencies point one way"))
        .collect()
}

/// Lints, versions and features of dependencies have one place: the manifest of the workspace. A bare path is for
/// tests whose package depends on this one, which could not be published with a version.
fn inheritance(manifest: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if !manifest.contains("[lints]\nworkspace = true") {
        violations.push("does not have `[lints] workspace = true`".into());
    }
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') && !is_inherited(line) {
            violations.push(format!("`{line}`: give the version in the manifest of the workspace"));
        }
    }
    violations
}

fn is_inherited(dependency: &str) -> bool {
    dependency.contains("workspace = true")
        || (dependency.contains("{ path = ") && !dependency.contains("version"))
}

/// The newest entry of the changelog is the version of the workspace.
fn changelog() -> Result<Option<String>, String> {
    let text =
        fs::read_to_string(root().join("CHANGELOG.md")).map_err(|error| format!("CHANGELOG.md: {error}"))?;
    let newest = text.lines().find(|line| line.starts_with("## ")).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let is_current = newest.split_whitespace().any(|word| word == version);
    Ok((!is_current).then(|| format!("CHANGELOG.md: its newest entry `{newest}` is not about {version}")))
}

/// The workflow runs each check as a job of its own.
fn workflow() -> Result<Vec<String>, String> {
    const WORKFLOW: &str = ".github/workflows/ci.yml";
    let text = fs::read_to_string(root().join(WORKFLOW)).map_err(|error| format!("{WORKFLOW}: {error}"))?;
    let jobs = text.lines().find_map(|line| line.trim().strip_prefix("command: ")).unwrap_or_default();
    let runs = |check: &str| jobs.split(['[', ']', ',', ' ']).any(|job| job == check);
    let missing = CHECKS.iter().map(|(check, ..)| *check).filter(|check| !runs(check));
    Ok(missing.map(|check| format!("{WORKFLOW}: does not run `{check}`")).collect())
}

/// The fuzz targets are a workspace of their own, which nothing else here builds.
fn lock_of_fuzz_targets() -> Option<String> {
    const UPDATE: [&str; 4] = ["update", "--workspace", "--manifest-path", "fuzz/Cargo.toml"];
    let outcome = cargo(&[&UPDATE[..], &["--quiet", "--locked"]].concat());
    outcome
        .err()
        .map(|error| format!("fuzz/Cargo.lock: {error}; if it is stale, run `cargo {}`", UPDATE.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependency: &str, is_for_tests: bool) -> Member {
        Member {
            name: name.into(),
            manifest: "Cargo.toml".into(),
            features: Vec::new(),
            dependencies: vec![(dependency.into(), is_for_tests)],
            examples: Vec::new(),
        }
    }

    #[test]
    fn dependencies_point_one_way() {
        assert_eq!(directions(&member("copyseg-redb", "copyseg-core", false)).len(), 0);
        assert_eq!(directions(&member("copyseg-redb", "copyseg", false)).len(), 1);
        assert_eq!(directions(&member("copyseg-redb", "copyseg-conformance", true)).len(), 0);
        assert_eq!(directions(&member("copyseg-redb", "copyseg-conformance", false)).len(), 1);
        assert_eq!(directions(&member("copyseg-unknown", "bytes", false)).len(), 1);
    }

    #[test]
    fn versions_and_lints_have_one_place() {
        let tidy = "[lints]\nworkspace = true\n[dependencies]\nbytes.workspace = true\n[features]\na = []\n";
        assert_eq!(inheritance(tidy).len(), 0);
        assert_eq!(inheritance("[dependencies]\nbytes = \"1\"\n").len(), 2);
    }
}
