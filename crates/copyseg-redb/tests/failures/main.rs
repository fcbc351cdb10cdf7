//! Failing storage: what a caller is told, and that memory never differs from storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod crash;
mod storage;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_conformance::FailingDisk;
use copyseg_conformance::disk::{commit_after, ids};
use copyseg_core::{Batch, Catalog, ErrorKind, Head, Operation, RecordKey, RecordKind, Result, Revision};
use copyseg_redb::{RedbCatalog, RedbOptions};
use storage::Storage;

#[async_trait]
impl FailingDisk for Storage {
    async fn open(&self) -> Result<Arc<dyn Catalog>> {
        // Without a lock on a file, nothing else keeps a second handle out.
        self.wait_until_closed();
        Ok(Arc::new(open(self).await?))
    }

    fn fail_next_sync(&self, reaches_the_disk: bool) {
        self.fail_sync(reaches_the_disk);
    }

    fn hang(&self, hangs: bool) {
        self.hang_sync(hangs);
    }
}

copyseg_conformance::disk_suite!(Storage::default());

async fn open(storage: &Storage) -> Result<RedbCatalog> {
    RedbCatalog::with_backend(
        storage.clone().opener(),
        RedbOptions { cache_size_bytes: 0, ..Default::default() },
    )
    .await
}

#[tokio::test]
async fn while_the_storage_cannot_be_reopened_nothing_is_done_and_then_all_works_again() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    storage.fail_sync(false);
    storage.refuse_opening(true);
    assert_eq!(catalog.commit(&head, &next, &batch).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    for _ in 0..2 {
        let unavailable = Some(ErrorKind::Unavailable);
        assert_eq!(catalog.commit(&head, &next, &batch).await.err().map(|error| error.kind()), unavailable);
        assert_eq!(catalog.head().await.err().map(|error| error.kind()), unavailable);
        assert_eq!(catalog.load().await.err().map(|error| error.kind()), unavailable);
        assert_eq!(catalog.acquire().await.err().map(|error| error.kind()), unavailable);
    }
    storage.refuse_opening(false);
    catalog.commit(&head, &next, &batch).await.unwrap();
    assert_eq!(ids(&catalog).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_writing_goes_on_once_there_is_space() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let mut head = catalog.acquire().await.unwrap();
    storage.limit(200_000);
    let mut revision = 0;
    let mut refusals = 0;
    while refusals < 3 {
        let key = RecordKey { kind: RecordKind::Task, id: revision };
        let batch = Batch::from_iter([Operation::Put(key, vec![7; 20_000].into())]);
        let next = Head { batch: revision as u64 + 1, revision: Revision(revision as u64 + 1), ..head };
        match catalog.commit(&head, &next, &batch).await {
            Ok(()) => {
                revision += 1;
                head = next;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert!(error.chain().contains("full"), "{}", error.chain());
                refusals += 1;
                if refusals == 3 {
                    storage.limit(u64::MAX);
                    assert_eq!(catalog.head().await.unwrap(), head, "a full disk takes no part of a commit");
                    catalog.commit(&head, &next, &batch).await.unwrap();
                }
            }
        }
    }
    assert!(revision > 1, "some fitted");
    assert_eq!(ids(&catalog).await.unwrap(), (0..=revision).collect::<Vec<_>>());
}

/// Were it unknown, a manager would ask again for as long as the disk is full.
#[tokio::test]
async fn a_commit_for_which_the_disk_is_full_certainly_changed_nothing() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    storage.be_full_at_next_sync();
    let error = catalog.commit(&head, &next, &batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("free some and try again"), "{error}");
    assert_eq!(catalog.head().await.unwrap(), head);
    catalog.commit(&head, &next, &batch).await.unwrap();
    assert_eq!(ids(&catalog).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_says_so() {
    let storage = Storage::default();
    storage.limit(10_000);
    let error = open(&storage).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("free some"), "{error}");
}

#[tokio::test]
async fn a_catalog_is_not_checked_during_a_load() {
    let catalog = open(&Storage::default()).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let put = |id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, vec![7; 300].into());
    catalog.commit(&head, &head, &(0..10_000).map(put).collect()).await.unwrap();
    let pages = catalog.load().await.unwrap().pages;
    let busy = catalog.check_integrity().await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Unavailable);
    assert!(busy.to_string().contains("finish or drop it"), "{busy}");
    drop(pages);
}

#[tokio::test]
async fn a_storage_that_cannot_be_opened_says_why() {
    let nowhere = || Err::<Storage, _>(io::Error::from(io::ErrorKind::PermissionDenied));
    let error = RedbCatalog::with_backend(nowhere, RedbOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("permission"), "{error}");
}
