//! What sled has replaced is given back. A test by itself, since it looks at the memory of its process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fs;

use copyseg_core::{Batch, Catalog, Head, Operation, RecordKey, RecordKind, Revision};
use copyseg_sled::{SledCatalog, SledOptions};

#[tokio::test]
async fn large_commits_leave_no_more_in_memory_than_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let options = SledOptions { cache_size_bytes: 8 << 20, ..Default::default() };
    let catalog = SledCatalog::open(&path, options).await.unwrap();
    let mut head = catalog.acquire().await.unwrap();
    for revision in 1..=40 {
        let put = |id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, vec![7; 300].into());
        let ids = (0..4000).map(|id| revision as i64 * 4000 + id);
        let next = Head { batch: revision, revision: Revision(revision), ..head };
        catalog.commit(&head, &next, &Batch::from_iter(ids.map(put))).await.unwrap();
        head = next;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 250_000, "{kilobytes} kB at most, for 48 MB of records and a cache of 8");
}
