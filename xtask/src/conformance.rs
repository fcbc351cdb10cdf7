//! `cargo xtask conformance`: the contract of a catalog, held against every backend, as a table.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use copyseg_test_etcd::{Member, Server};

use crate::Outcome;
use crate::cargo::build_tests;
use crate::etcd::{provide_protoc, servers};
use crate::workspace::root;

/// A backend, and the package with the test that runs the suite on it.
struct Backend {
    name: &'static str,
    package: &'static str,
}

/// The name of that test.
const TEST: &str = "conformance";

const BACKENDS: [Backend; 4] = [
    Backend { name: "memory", package: "copyseg-core" },
    Backend { name: "redb", package: "copyseg-redb" },
    Backend { name: "sled", package: "copyseg-sled" },
    Backend { name: "etcd", package: "copyseg-etcd" },
];

/// How each test of a backend ended: by case, how many passed and how many there were.
type Results = BTreeMap<String, (usize, usize)>;

/// A column of the table: a backend, and the cluster it runs on if it is etcd.
struct Column {
    backend: &'static Backend,
    cluster: Option<(Server, usize)>,
}

/// Runs the suite on the backends that the command line asks for.
pub(crate) fn run() -> Outcome {
    let (backend, members) = arguments(env::args().skip(2))?;
    show(&columns(&backend, &[members])?)
}

/// Runs the suite on every backend, on clusters of one and of three members.
pub(crate) fn run_everywhere() -> Outcome {
    show(&columns("all", &[1, 3])?)
}

/// A column for each backend; for etcd one for each version and number of members.
fn columns(chosen: &str, members: &[usize]) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for backend in BACKENDS.iter().filter(|backend| chosen == "all" || chosen == backend.name) {
        if backend.name != "etcd" {
            columns.push(Column { backend, cluster: None });
            continue;
        }
        for server in servers()? {
            let clusters = members.iter().map(|members| Some((server.clone(), *members)));
            columns.extend(clusters.map(|cluster| Column { backend, cluster }));
        }
    }
    Ok(columns)
}

fn show(columns: &[Column]) -> Outcome {
    provide_protoc()?;
    let tests = build_tests(&[TEST])?;
    let mut results = Vec::new();
    for column in columns {
        let test = tests.iter().find(|(package, ..)| package == column.backend.package);
        let (.., test) = test.ok_or_else(|| format!("{} has no test `{TEST}`", column.backend.package))?;
        results.push(suite(column, test)?);
    }
    let names: Vec<String> = columns.iter().map(Column::name).collect();
    let (table, missed) = table(&names, &results);
    io::stdout().write_all(table.as_bytes()).map_err(|error| error.to_string())?;
    if missed == 0 { Ok(()) } else { Err(format!("{missed} cases failed or did not run")) }
}

impl Column {
    fn name(&self) -> String {
        match &self.cluster {
            None => self.backend.name.into(),
            Some((server, 1)) => server.to_string(),
            Some((server, members)) => format!("{members} x {server}"),
        }
    }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<(String, usize), String> {
    let (mut chosen, mut members) = ("all".to_owned(), 1);
    let exists = |name: &str| name == "all" || BACKENDS.iter().any(|backend| backend.name == name);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--backend", Some(name)) if exists(&name) => chosen = name,
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
    Ok((chosen, members))
}

fn suite(column: &Column, test: &Path) -> Result<Results, String> {
    let mut members = match &column.cluster {
        Some((server, count)) => Member::cluster(server, *count, &[]),
        None => Vec::new(),
    };
    members.iter_mut().for_each(Member::serves);
    let endpoints: Vec<_> = members.iter().map(|member| member.endpoint.as_str()).collect();
    let endpoints = endpoints.join(",");
    eprintln!("{}\n$ COPYSEG_TEST_ETCD='{endpoints}' {}", column.name(), test.display());
    let output = Command::new(test)
        .current_dir(root())
        .env("COPYSEG_TEST_ETCD", endpoints)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} did not start: {error}", test.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let results = read(&text);
    if !output.status.success() {
        eprintln!("{text}");
    }
    if results.is_empty() {
        return Err(format!("the suite did not run on {}", column.name()));
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

/// The cases by column, and how many failed or are missing somewhere.
fn table(columns: &[String], results: &[Results]) -> (String, usize) {
    let cases: BTreeMap<&String, usize> =
        results.iter().flatten().fold(BTreeMap::new(), |mut cases, (case, result)| {
            let most = cases.entry(case).or_default();
            *most = result.1.max(*most);
            cases
        });
    let width = cases.keys().map(|case| case.len()).max().unwrap_or_default();
    let row = |case: &str, cells: Vec<String>| {
        let widths = columns.iter().map(|name| name.len().max(9));
        let cells: String =
            cells.iter().zip(widths).map(|(cell, width)| format!("  {cell:>width$}")).collect();
        format!("{case:<width$}{cells}\n")
    };
    let mut missed = 0;
    let mut text = row("case", columns.to_vec());
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
        let (table, missed) = table(&["x".into(), "y".into()], &[read(PASSED), read(PASSED)]);
        assert_eq!(missed, 0, "{table}");
        assert!(table.contains("a::b") && table.contains("2 ok"), "{table}");
    }

    #[test]
    fn a_case_that_fails_is_ignored_or_is_not_there_is_missed() {
        let failed = PASSED.replacen("... ok", "... FAILED", 1);
        let skipped = PASSED.replacen("... ok", "... ignored", 1);
        for other in [failed.as_str(), &skipped, &PASSED[..50], ""] {
            let (table, missed) = table(&["x".into(), "y".into()], &[read(PASSED), read(other)]);
            assert_eq!(missed, 1, "{table}");
        }
    }
}
