//! `cargo xtask tree`: an embedder who switches a backend off does not compile it.

use crate::Outcome;
use crate::cargo::cargo_output;
use crate::workspace::members;

/// Crates that do storage or talk to it.
const STORAGE: [&str; 6] = ["redb", "sled", "etcd-client", "tonic", "object_store", "reqwest"];

/// Dependency trees that must hold none of them.
const TREES: [(&str, &[&str]); 2] = [("copyseg-core", &[]), ("copyseg", &["--no-default-features"])];

/// Looks at the trees that a user would get, tests left out.
pub(crate) fn run() -> Outcome {
    let members = members()?;
    for (package, features) in TREES {
        if !members.iter().any(|member| member.name == package) {
            return Err(format!("the workspace has no package `{package}`"));
        }
        let args = ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none"];
        let args = [&args[..], features].concat();
        eprintln!("$ cargo {}", args.join(" "));
        let tree = cargo_output(&args)?;
        let names = tree.lines().filter_map(|line| line.split_whitespace().next());
        let found: Vec<&str> = names.filter(|name| STORAGE.contains(name)).collect();
        if !found.is_empty() {
            return Err(format!("{package} {} needs {}", features.join(" "), found.join(", ")));
        }
    }
    Ok(())
}
