//! `cargo xtask ci`: every check, and how long each took.

use std::time::Instant;

use crate::{CHECKS, Outcome};

/// Runs every check and stops at the first that fails.
pub(crate) fn run() -> Outcome {
    let mut seconds = Vec::new();
    for (name, purpose, check) in CHECKS {
        eprintln!("\n== {name}: {purpose}");
        let start = Instant::now();
        check().map_err(|message| format!("{name}: {message}"))?;
        seconds.push(format!("{name} {} s", start.elapsed().as_secs()));
    }
    eprintln!("\nAll checks passed: {}.", seconds.join(", "));
    Ok(())
}
