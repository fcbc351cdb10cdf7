//! `cargo xtask instructions`: what the hot read and the hot update cost, counted by callgrind: the same however busy the
//! machine is.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::cargo::{cargo, target_folder};
use crate::programs::{install, runs};

const PACKAGE: &str = "copyseg-instructions";

/// What is counted, how often the program is told to read and to update, and the most instructions that each call may take:
/// half as many again as the 182 and 57,700 of an x86-64 on the day when this was written.
const GUARDS: [(&str, [u64; 2], u64); 2] = [
    ("a read of a random task", [10_000, 0], 280),
    ("a claim and a release of a random task, each in a commit of its own", [0, 1_000], 87_000),
];

/// Counts each of [`GUARDS`]; what the program does without any call is taken off.
pub(crate) fn run() -> Outcome {
    if !runs("valgrind", &["--version"]) {
        install(&["valgrind"]).map_err(|error| format!("valgrind is missing: install it ({error})"))?;
    }
    cargo(&["build", "--release", "--package", PACKAGE])?;
    let program = target_folder()?.join("release").join(PACKAGE);
    let nothing = count(&program, [0, 0])?;
    for (what, calls, most) in GUARDS {
        let each = count(&program, calls)?.saturating_sub(nothing) / calls.iter().sum::<u64>();
        eprintln!("{what}: {each} instructions, of at most {most}");
        if each == 0 {
            return Err(format!("{what} took no instruction: the calls were not made"));
        }
        if each > most {
            return Err(format!("{what} takes {each} instructions, and {most} are the most"));
        }
    }
    Ok(())
}

fn count(program: &Path, calls: [u64; 2]) -> Result<u64, String> {
    let mut valgrind = Command::new("valgrind");
    // Nobody reads the profile.
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    valgrind.args(calls.map(|calls| calls.to_string()));
    eprintln!("$ {valgrind:?}");
    let output = valgrind.output().map_err(|error| format!("{valgrind:?} did not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    match collected(&text) {
        Some(instructions) if output.status.success() => Ok(instructions),
        _ => Err(format!("{valgrind:?} ended with {} and counted nothing:\n{text}", output.status)),
    }
}

/// The total, from what callgrind says at its end: `==17== Collected : 235746649`.
fn collected(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_among_what_callgrind_says() {
        let said = "==17== Callgrind\n==17== Events    : Ir\n==17== Collected : 235746649\n==17==\n";
        assert_eq!(collected(said), Some(235_746_649));
        assert_eq!(collected("==17== Callgrind\n"), None);
    }
}
