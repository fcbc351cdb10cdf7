//! `cargo xtask tree`: an embedder who switches a backend off does not compile it.

use crate::Outcome;
use crate::cargo::cargo_output;
use crate::workspace::members;

/// Crates that do storage or talk to it.
const STORAGE: &[&str] = &["redb", "sled", "etcd-client", "tonic", "object_store", "reqwest"];

/// What a user may choose, and the storage crates that must not come with it.
const TREES: &[(&str, &[&str], &[&str])] = &[
    ("copyseg-core", &[], STORAGE),
    ("copyseg", &["--no-default-features"], STORAGE),
    ("copyseg", &[], &["sled", "etcd-client", "tonic"]),
    ("copyseg", &["--no-default-features", "--features", "etcd"], &["redb", "sled"]),
    ("copyseg-cli", &[], &["sled", "etcd-client", "tonic"]),
];

/// Looks at the trees that a user would get, tests left out.
pub(crate) fn run() -> Outcome {
    let members = members()?;
    for (package, features, unwanted) in TREES {
        if !members.iter().any(|member| member.name == *package) {
            return Err(format!("the workspace has no package `{package}`"));
        }
        let args = ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none"];
        let args = [&args[..], *features].concat();
        eprintln!("$ cargo {}", args.join(" "));
        let tree = cargo_output(&args)?;
        let names = tree.lines().filter_map(|line| line.split_whitespace().next());
        let found: Vec<&str> = names.filter(|name| unwanted.contains(name)).collect();
        if !found.is_empty() {
            return Err(format!("{package} {} needs {}", features.join(" "), found.join(", ")));
        }
    }
    Ok(())
}
