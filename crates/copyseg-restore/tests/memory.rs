//! Memory stays bounded whatever the size of a file. Alone in its process, so that nothing else counts.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use copyseg_core::{ManagerOptions, MemoryCatalog, MetaManager};
use copyseg_restore::{CancellationToken, Outcome, RestoreProgress, RestoreRequest, restore};
use tokio::sync::watch;

const FILE_BYTES: u64 = 128 << 20;
const GROWTH_BYTES_MAX: u64 = 32 << 20;

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_copied_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("nightly"), folder.path().join("restored"));
    std::fs::create_dir_all(source.join("7")).unwrap();
    for name in ["vectors.npy", "more.npy"] {
        std::fs::File::create(source.join("7").join(name)).unwrap().set_len(FILE_BYTES).unwrap();
    }
    let manager = MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await.unwrap();
    let request = RestoreRequest::new(source.to_str().unwrap(), target.to_str().unwrap()).unwrap();
    let progress = watch::Sender::new(RestoreProgress::default());
    let before = peak_bytes();
    let outcome = restore(&manager, "memory:", &request, &progress, &CancellationToken::new()).await.unwrap();
    let growth = peak_bytes() - before;
    assert!(matches!(outcome, Outcome::Completed { bytes, .. } if bytes == 2 * FILE_BYTES), "{outcome:?}");
    assert!(growth <= GROWTH_BYTES_MAX, "memory grew by {growth} bytes");
}
