//! How much memory the process has, over time.

use std::fs;
use std::time::Duration;

/// A load that is shorter than this is still growing to its full size.
const SHORTEST: Duration = Duration::from_secs(60);

/// What the process has in memory now, where the system says so.
pub(crate) fn resident_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// Asserts that the last quarter of a long load needed hardly more than the second. Says how much each did.
pub(crate) fn stays_flat(resident: &[u64], time: Duration) -> Vec<(&'static str, u64)> {
    let quarter = resident.len() / 4;
    if quarter == 0 || time < SHORTEST {
        return Vec::new();
    }
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let (early, late) = (median(&resident[quarter..2 * quarter]), median(&resident[3 * quarter..]));
    assert!(late <= early + early / 4 + 16, "memory grew from {early} MiB to {late} MiB: {resident:?}");
    vec![("MiB in the second quarter", early), ("MiB in the last quarter", late)]
}
