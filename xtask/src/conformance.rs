//! `cargo xtask conformance`: the contract of a catalog, held against every backend, as a table.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::etcd::{Members, provide_protoc};
use crate::workspace::root;

/// A backend, and the test that runs the suite on it.
struct Backend {
    name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
}

const BACKENDS: [Backend; 4] = [
    Backend { name: "memory", package: "copyseg-core", arguments: &[] },
    Backend { name: "redb", package: "copyseg-redb", arguments: &[] },
    Backend { name: "sled", package: "copyseg-sled", arguments: &[] },
    Backend { name: "etcd", package: "copyseg-etcd", arguments: &["--features", "etcd-tests"] },
];

/// How each test of a backend ended: by case, how many passed and how many there were.
type Results = BTreeMap<String, (usize, usize)>;

/// Runs the suite on the backends that the command line asks for.
pub(crate) fn run() -> Outcome {
    let (backends, members) = arguments(env::args().skip(2))?;
    show(&backends.iter().map(|backend| (backend.name, backend, members)).collect::<Vec<_>>())
}

/// Runs the suite on every backend, on clusters of one and of three members.
pub(crate) fn run_everywhere() -> Outcome {
    let mut columns: Vec<_> = BACKENDS.iter().map(|backend| (backend.name, backend, 1)).collect();
    columns
        .extend(BACKENDS.iter().filter(|backend| backend.name == "etcd").map(|etcd| ("3 x etcd", etcd, 3)));
    show(&columns)
}

/// A column of the table for each name, with the backend and how many members it runs on.
fn show(columns: &[(&str, &Backend, usize)]) -> Outcome {
    let mut results = Vec::new();
    for (_, backend, members) in columns {
        results.push(suite(backend, *members)?);
    }
    let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
    let (table, missed) = table(&names, &results);
    io::stdout().write_all(table.as_bytes()).map_err(|error| error.to_string())?;
    if missed == 0 { Ok(()) } else { Err(format!("{missed} cases failed or did not run")) }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<(Vec<Backend>, usize), String> {
    let (mut chosen, mut members) = ("all".to_owned(), 1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--backend", Some(name)) => chosen = name,
            ("--members", Some(count)) if count == "1" || count == "3" => {
                members = if count == "1" { 1 } else { 3 }
            }
            _ => {
                return Err(
                    "usage: cargo xtask conformance [--backend memory|redb|sled|etcd|all] [--members 1|3]"
                        .into(),
                );
            }
        }
    }
    let backends: Vec<Backend> =
        BACKENDS.into_iter().filter(|backend| chosen == "all" || chosen == backend.name).collect();
    if backends.is_empty() { Err(format!("there is no backend `{chosen}`")) } else { Ok((backends, members)) }
}

fn suite(backend: &Backend, members: usize) -> Result<Results, String> {
    let running = if backend.name == "etcd" {
        provide_protoc()?;
        Some(Members::start(members)?)
    } else {
        None
    };
    let endpoints = running.as_ref().map_or("", |members| &members.endpoints);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["test", "--package", backend.package, "--test", "conformance", "--no-fail-fast"])
        .args(backend.arguments)
        .current_dir(root())
        .env("COPYSEG_TEST_ETCD", endpoints)
        .stderr(Stdio::inherit());
    eprintln!("$ {command:?}");
    let output = command.output().map_err(|error| format!("cargo did not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let results = read(&text);
    if !output.status.success() {
        eprintln!("{text}");
    }
    if results.is_empty() {
        return Err(format!("the suite did not run on {}", backend.name));
    }
    Ok(results)
}

/// Reads what the test harness prints: `test topic::case::case_1_current_thread ... ok`.
fn read(output: &str) -> Results {
    let mut results = Results::new();
    for line in output.lines() {
        let Some((test, result)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        if let Some((case, _runtime)) = test.rsplit_once("::case_") {
            let (passed, total) = results.entry(case.to_owned()).or_default();
            *passed += usize::from(result == "ok");
            *total += 1;
        }
    }
    results
}

/// The cases by backend, and how many failed or are missing somewhere.
fn table(backends: &[&str], results: &[Results]) -> (String, usize) {
    let cases: BTreeMap<&String, usize> =
        results.iter().flatten().fold(BTreeMap::new(), |mut cases, (case, result)| {
            let most = cases.entry(case).or_default();
            *most = result.1.max(*most);
            cases
        });
    let width = cases.keys().map(|case| case.len()).max().unwrap_or_default();
    let row = |case: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:>9}")).collect();
        format!("{case:<width$}{cells}\n")
    };
    let mut missed = 0;
    let mut text = row("case", backends.iter().map(ToString::to_string).collect());
    for (case, most) in &cases {
        let cells = results.iter().map(|results| match results.get(*case) {
            Some((passed, total)) if passed == total && total == most => format!("{passed} ok"),
            other => {
                missed += 1;
                other.map_or("missing".into(), |(passed, total)| format!("{passed}/{total} FAIL"))
            }
        });
        text.push_str(&row(case, cells.collect()));
    }
    let totals = results
        .iter()
        .map(|results| format!("{} ok", results.values().map(|(passed, _)| passed).sum::<usize>()));
    text.push_str(&row(&format!("{} cases", cases.len()), totals.collect()));
    (text, missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "\nrunning 2 tests\ntest a::b::case_1_current_thread ... ok\n\
                          test a::b::case_2_multi_thread ... ok\n\ntest result: ok.\n";

    #[test]
    fn cases_that_pass_everywhere_miss_nothing() {
        let (table, missed) = table(&["x", "y"], &[read(PASSED), read(PASSED)]);
        assert_eq!(missed, 0, "{table}");
        assert!(table.contains("a::b") && table.contains("2 ok"), "{table}");
    }

    #[test]
    fn a_case_that_fails_is_ignored_or_is_not_there_is_missed() {
        let failed = PASSED.replacen("... ok", "... FAILED", 1);
        let skipped = PASSED.replacen("... ok", "... ignored", 1);
        for other in [failed.as_str(), &skipped, &PASSED[..50], ""] {
            let (table, missed) = table(&["x", "y"], &[read(PASSED), read(other)]);
            assert_eq!(missed, 1, "{table}");
        }
    }
}
