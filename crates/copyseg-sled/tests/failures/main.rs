//! A failing disk: what a caller is told, and that memory never differs from storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod disk;
#[cfg(target_os = "linux")]
mod system_calls;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_conformance::FailingDisk;
use copyseg_conformance::disk::{commit_after, ids};
use copyseg_core::{Catalog, ErrorKind, Result};
use copyseg_sled::{SledCatalog, SledOptions};
use disk::Disk;
use rstest::rstest;

#[async_trait]
impl FailingDisk for Disk {
    async fn open(&self) -> Result<Arc<dyn Catalog>> {
        Ok(Arc::new(self.open_catalog().await?))
    }

    fn fail_next_sync(&self, reaches_the_disk: bool) {
        self.fail_sync_as(reaches_the_disk, io::ErrorKind::Other);
    }

    fn hang(&self, hangs: bool) {
        self.hang_sync(hangs);
    }
}

copyseg_conformance::disk_suite!(Disk::new());

/// A sync that found less in the file than the commit wrote would leave a copy without it.
#[tokio::test]
async fn a_commit_is_in_the_file_when_it_is_synced_and_is_synced_when_it_is_acknowledged() {
    let disk = Disk::new();
    let catalog = disk.open_catalog().await.unwrap();
    let copy = |revision: u64| disk.folder().join(format!("copy-{revision}"));
    disk.copy_at_next_sync(copy(0));
    let mut head = catalog.acquire().await.unwrap();
    let mut heads = vec![head];
    for revision in 1..=20 {
        let syncs = disk.syncs();
        disk.copy_at_next_sync(copy(revision));
        let (next, batch) = commit_after(head, revision);
        catalog.commit(&head, &next, &batch).await.unwrap();
        assert_eq!(disk.syncs(), syncs + 1);
        heads.push(next);
        head = next;
    }
    for (revision, head) in heads.into_iter().enumerate() {
        let copy = SledCatalog::open(copy(revision as u64), SledOptions::default()).await.unwrap();
        assert_eq!(copy.head().await.unwrap(), head);
        assert_eq!(ids(&copy).await.unwrap(), (1..=revision as i64).collect::<Vec<_>>());
    }
}

/// Sending it again would fail again, for as long as the disk is full.
#[rstest]
#[case::of_which_nothing_was_written(false, ErrorKind::Unavailable)]
#[case::that_was_written_all_the_same(true, ErrorKind::OutcomeUnknown)]
#[tokio::test]
async fn a_commit_on_a_full_disk_is_settled_by_looking(
    #[case] reached_the_disk: bool,
    #[case] kind: ErrorKind,
) {
    let disk = Disk::new();
    let catalog = disk.open_catalog().await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    disk.fail_sync_as(reached_the_disk, io::ErrorKind::StorageFull);
    let error = catalog.commit(&head, &next, &batch).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.to_string().contains("free some"), !reached_the_disk, "{error}");
    assert_eq!(catalog.head().await.unwrap(), if reached_the_disk { next } else { head });
}
