//! `cargo xtask torture`: every trial of `copyseg-torture`, each for an equal share of the time.

use std::env;
use std::fs;

use copyseg_test_etcd::Server;

use crate::Outcome;
use crate::cargo::{cargo_output, cargo_with};
use crate::etcd::{provide_killable, provide_protoc};

const PACKAGE: [&str; 5] = ["--package", "copyseg-torture", "--all-features", "--release", "--tests"];

struct Arguments {
    minutes: u64,
    seed: Option<String>,
    only: String,
}

/// Runs the trials whose names contain what `--only` says, one after the other, and prints what each counted.
pub(crate) fn run() -> Outcome {
    let arguments = arguments(env::args().skip(2))?;
    provide_protoc()?;
    let server = provide_killable()?;
    let server = server.program().to_string_lossy();
    let trials = list(&arguments.only)?;
    let report = env::temp_dir().join(format!("copyseg-torture-{}", std::process::id()));
    let seconds = (arguments.minutes * 60 / trials.len() as u64).to_string();
    let report_path = report.display().to_string();
    let mut variables = vec![(Server::VARIABLE, server.as_ref()), ("COPYSEG_TORTURE_REPORT", &report_path)];
    match &arguments.seed {
        // A seed asks for the one round that it stands for.
        Some(seed) => {
            variables.extend([("COPYSEG_TORTURE_SEED", seed.as_str()), ("COPYSEG_TORTURE_SECONDS", "0")])
        }
        None => variables.push(("COPYSEG_TORTURE_SECONDS", &seconds)),
    }
    let mut failed = Vec::new();
    for trial in &trials {
        let selection = ["--", "--exact", trial, "--nocapture"];
        if let Err(error) = cargo_with(&[&["test"], &PACKAGE[..], &selection].concat(), &variables) {
            eprintln!("{error}");
            failed.push(trial.as_str());
        }
    }
    eprint!("\n{}", fs::read_to_string(&report).unwrap_or_default());
    // It may not be there, when every trial failed.
    let _ = fs::remove_file(&report);
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn list(only: &str) -> Result<Vec<String>, String> {
    let output = cargo_output(&[&["test"], &PACKAGE[..], &["--", "--list", "--format", "terse"]].concat())?;
    let names = output.lines().filter_map(|line| line.strip_suffix(": test"));
    let trials: Vec<String> = names.filter(|name| name.contains(only)).map(str::to_owned).collect();
    if trials.is_empty() { Err(format!("no trial has `{only}` in its name")) } else { Ok(trials) }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    const USAGE: &str = "usage: cargo xtask torture [--minutes N] [--seed S] [--only NAME]";
    let mut parsed = Arguments { minutes: 30, seed: None, only: String::new() };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match argument.as_str() {
            "--minutes" => parsed.minutes = value.parse().map_err(|_| USAGE)?,
            "--seed" => parsed.seed = Some(value.parse::<u32>().map_err(|_| USAGE)?.to_string()),
            "--only" => parsed.only = value,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(parsed)
}
