//! What a store takes in memory: measured in a process of its own, whose allocator counts.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::workload::Workload;

/// The program that measures, beside this one.
const PROGRAM: &str = "copyseg-bench-memory";

/// Whose memory is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A manager of copyseg.
    Copyseg,
    /// The design that it replaces.
    Reference,
}

impl Holder {
    /// As the program is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copyseg => "copyseg",
            Self::Reference => "reference",
        }
    }
}

/// What a store takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// What it asked the allocator for and did not give back.
    pub allocated: u64,
    /// By how much the memory of the process grew.
    pub resident: u64,
}

/// Opens a store with `workload` in a new process. `records` are those of the workload in a flat file.
///
/// # Errors
/// If the process fails, or was not built.
pub fn measure_in_child(holder: Holder, records: &Path, workload: Workload) -> Result<Footprint> {
    let program = std::env::current_exe()?.with_file_name(PROGRAM);
    let output = Command::new(&program)
        .arg(holder.as_str())
        .arg(records)
        .args([workload.tasks.to_string(), workload.jobs.to_string()])
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut figures = text.split_whitespace().map(str::parse);
    match (figures.next(), figures.next()) {
        (Some(Ok(allocated)), Some(Ok(resident))) => Ok(Footprint { allocated, resident }),
        _ => Err(format!("{PROGRAM}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The memory of this process, in bytes.
///
/// # Errors
/// If `/proc` does not say.
pub fn resident() -> Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("statm is short")?.parse()?;
    Ok(pages * PAGE_BYTES)
}
