//! What a store takes in memory: measured in a process of its own, whose allocator counts.

use std::path::Path;

use crate::workload::Workload;
use crate::{Result, child};

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
    let (tasks, jobs) = (workload.tasks.to_string(), workload.jobs.to_string());
    match figures(&[holder.as_str(), &records.to_string_lossy(), &tasks, &jobs])?.as_slice() {
        [allocated, resident] => Ok(Footprint { allocated: *allocated, resident: *resident }),
        figures => Err(format!("{PROGRAM} said {figures:?}").into()),
    }
}

/// What a snapshot keeps that is held while updates pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What the store takes without it, in bytes.
    pub store: u64,
    /// So many updates that have passed, and the bytes that are there for the snapshot alone.
    pub kept: Vec<(u64, u64)>,
    /// What is left when the snapshot is let go, in bytes.
    pub left: u64,
}

/// Holds a snapshot of a million tasks in a new process, while each of them is changed.
///
/// # Errors
/// If the process fails, or was not built.
pub fn measure_held() -> Result<Held> {
    let figures = figures(&["held"])?;
    let [store, kept @ .., left] = figures.as_slice() else {
        return Err(format!("{PROGRAM} said {figures:?}").into());
    };
    let kept = kept.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Ok(Held { store: *store, kept, left: *left })
}

/// The numbers that the program says.
fn figures(arguments: &[&str]) -> Result<Vec<u64>> {
    child::figures(&std::env::current_exe()?.with_file_name(PROGRAM), arguments)
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
