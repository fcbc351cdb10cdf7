//! Every check that CI runs, as commands of one program: `cargo xtask ci` runs them all but `advisories`, whose answer
//! changes from day to day.

mod bench;
mod cargo;
mod ci;
mod clippy;
mod conformance;
mod deny;
mod doc;
mod etcd;
mod examples;
mod fmt;
mod instructions;
mod programs;
mod test;
mod tidy;
mod torture;
mod tree;
mod workspace;

use std::process::ExitCode;

/// What a command answers: nothing, or what to tell the person who ran it.
type Outcome = Result<(), String>;

/// A command: its name, what it does, and the function that does it.
type Command = (&'static str, &'static str, fn() -> Outcome);

/// The commands, in the order in which `ci` runs its checks: the quick ones first, the tests last.
const CHECKS: [Command; 11] = [
    ("fmt", "formatting of every source file", fmt::run),
    ("tidy", "the rules of this repository that no other tool knows", tidy::run),
    ("tree", "which crates must not appear in which dependency trees", tree::run),
    ("deny", "licences, sources and banned versions of dependencies", deny::run),
    ("clippy", "lints of every target, with each feature alone, all and none", clippy::run),
    ("doc", "documentation, private items included", doc::run),
    ("examples", "every example, run to its end", examples::run),
    ("instructions", "what the hot read and the hot update cost, counted by callgrind", instructions::run),
    ("test", "every test that needs no etcd", test::run),
    (
        "suite",
        "the contract of a catalog on every backend, with 1 and 3 members of two versions of etcd",
        conformance::run_everywhere,
    ),
    ("etcd", "etcd members and leaders that die, freeze and run full; starts them", etcd::run),
];

/// Commands that `ci` does not run.
const OTHERS: [Command; 5] = [
    ("ci", "every check above, in this order", ci::run),
    ("bench", "copyseg beside the design it replaces: [--only P1,P6] [--growth] [--write]", bench::run),
    (
        "conformance",
        "the same contract: [--backend memory|redb|sled|etcd|all] [--members 1|3]",
        conformance::run,
    ),
    ("torture", "attacks on the promises, for long: [--minutes N] [--seed S] [--only NAME]", torture::run),
    ("advisories", "known vulnerabilities of dependencies; fetches the RustSec database", deny::advisories),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let command = CHECKS.iter().chain(&OTHERS).find(|command| command.0 == name);
    let Some((_, _, run)) = command else {
        return usage(&name);
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn usage(name: &str) -> ExitCode {
    if !name.is_empty() {
        eprintln!("xtask: there is no command `{name}`\n");
    }
    eprintln!("usage: cargo xtask COMMAND\n");
    for (name, purpose, _) in CHECKS.iter().chain(&OTHERS) {
        eprintln!("  {name:<12} {purpose}");
    }
    ExitCode::from(2)
}
