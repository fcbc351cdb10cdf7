//! Failing storage: what a caller is told, and that memory never differs from storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod crash;
mod storage;

use std::io;
use std::sync::Arc;

use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, ManagerOptions, MetaManager, Operation, RecordKey, RecordKind, Result,
    Revision,
};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::TryStreamExt;
use rstest::rstest;
use storage::Storage;

async fn open(storage: &Storage) -> Result<RedbCatalog> {
    RedbCatalog::with_backend(
        storage.clone().opener(),
        RedbOptions { cache_size_bytes: 0, ..Default::default() },
    )
    .await
}

/// The head after `head`, and a batch that puts one job, both unlike those of any other `revision`.
fn commit_after(head: Head, revision: u64) -> (Head, Batch) {
    let key = RecordKey { kind: RecordKind::Job, id: revision as i64 };
    let put = Operation::Put(key, revision.to_be_bytes().as_slice().into());
    (Head { batch: revision, revision: Revision(revision), ..head }, Batch::from_iter([put]))
}

async fn ids(catalog: &dyn Catalog) -> Result<Vec<i64>> {
    let pages: Vec<_> = catalog.load().await?.pages.try_collect().await?;
    Ok(pages.into_iter().flatten().map(|record| record.key.id).collect())
}

#[rstest]
#[tokio::test]
async fn a_commit_whose_sync_failed_is_unknown_and_sending_it_again_settles_it(
    #[values(true, false)] reached_the_disk: bool,
) {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (first, batch) = commit_after(head, 1);
    catalog.commit(&head, &first, &batch).await.unwrap();

    let (second, batch) = commit_after(first, 2);
    storage.fail_next_sync(reached_the_disk);
    let error = catalog.commit(&first, &second, &batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    match catalog.commit(&first, &second, &batch).await {
        Ok(()) => assert!(!reached_the_disk),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
            assert!(reached_the_disk);
        }
    }
    assert_eq!(catalog.head().await.unwrap(), second);
    let (third, batch) = commit_after(second, 3);
    catalog.commit(&second, &third, &batch).await.unwrap();
    assert_eq!(ids(&catalog).await.unwrap(), [1, 2, 3]);
    catalog.close().await.unwrap();
    assert_eq!(ids(&open(&storage).await.unwrap()).await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn an_acquire_whose_sync_failed_is_unknown_and_the_next_one_owns_the_store() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    storage.fail_next_sync(true);
    assert_eq!(catalog.acquire().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let head = catalog.acquire().await.unwrap();
    assert_eq!(head.epoch, 2, "the first had reached the disk");
    let (next, batch) = commit_after(head, 1);
    catalog.commit(&head, &next, &batch).await.unwrap();
}

#[tokio::test]
async fn while_the_storage_cannot_be_reopened_nothing_is_done_and_then_all_works_again() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    storage.fail_next_sync(false);
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
async fn a_load_cut_off_by_a_failed_commit_ends_with_an_error() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, _) = commit_after(head, 1);
    let put = |id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, vec![7; 300].into());
    catalog.commit(&head, &next, &Batch::from_iter((0..10_000).map(put))).await.unwrap();

    let mut pages = catalog.load().await.unwrap().pages;
    assert_eq!(pages.try_next().await.unwrap().map(|page| page.len()), Some(1024));
    let busy = catalog.check_integrity().await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Unavailable);
    assert!(busy.to_string().contains("finish or drop it"), "{busy}");

    let (last, batch) = commit_after(next, 2);
    storage.fail_next_sync(true);
    catalog.commit(&next, &last, &batch).await.unwrap_err();
    let error = pages.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("load it again"), "{error}");
    assert_eq!(ids(&catalog).await.unwrap().len(), 10_001);
}

#[tokio::test]
async fn a_load_cut_off_by_a_close_ends_with_an_error() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let put = |id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, vec![7; 300].into());
    catalog.commit(&head, &head, &Batch::from_iter((0..10_000).map(put))).await.unwrap();
    let pages = catalog.load().await.unwrap().pages;
    catalog.close().await.unwrap();
    let error = pages.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
}

#[rstest]
#[tokio::test]
async fn a_manager_settles_a_failed_sync_and_its_callers_never_learn_of_it(
    #[values(true, false)] reached_the_disk: bool,
) {
    let storage = Storage::default();
    let manager =
        MetaManager::open(Arc::new(open(&storage).await.unwrap()), ManagerOptions::default()).await.unwrap();
    let before = manager.allocate_ids(10).await.unwrap();
    storage.fail_next_sync(reached_the_disk);
    let during = manager.allocate_ids(10).await.unwrap();
    assert_eq!(during.start, before.end);
    manager.close().await.unwrap();
    let manager =
        MetaManager::open(Arc::new(open(&storage).await.unwrap()), ManagerOptions::default()).await.unwrap();
    assert_eq!(manager.allocate_ids(1).await.unwrap().start, during.end);
}

/// On this runtime nothing else would run, nobody would let the disk go on, and its patience would run out.
#[tokio::test(flavor = "current_thread")]
async fn a_disk_that_hangs_stops_neither_the_runtime_nor_a_drop() {
    let storage = Storage::default();
    let catalog = open(&storage).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    storage.hang(true);
    let commit = catalog.commit(&head, &next, &batch);
    let release = async {
        tokio::task::yield_now().await;
        storage.hang(false);
    };
    tokio::join!(commit, release).0.unwrap();

    storage.hang(true);
    let (last, batch) = commit_after(next, 2);
    let mut commit = Box::pin(catalog.commit(&next, &last, &batch));
    assert!(futures::poll!(&mut commit).is_pending());
    drop(commit);
    drop(catalog);
    storage.hang(false);
    storage.wait_until_closed();
    assert_eq!(ids(&open(&storage).await.unwrap()).await.unwrap(), [1, 2], "a commit once begun is finished");
}

#[tokio::test]
async fn a_storage_that_cannot_be_opened_says_why() {
    let nowhere = || Err::<Storage, _>(io::Error::from(io::ErrorKind::PermissionDenied));
    let error = RedbCatalog::with_backend(nowhere, RedbOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("permission"), "{error}");
}
