//! A failing disk: what a caller is told, and that memory never differs from storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod disk;
#[cfg(target_os = "linux")]
mod system_calls;

use std::sync::Arc;

use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, ManagerOptions, MetaManager, Operation, RecordKey, RecordKind, Result,
    Revision,
};
use copyseg_sled::{SledCatalog, SledOptions};
use disk::Disk;
use futures::TryStreamExt;
use rstest::rstest;

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

/// A sync that found less in the file than the commit wrote would leave a copy without it.
#[tokio::test]
async fn a_commit_is_in_the_file_when_it_is_synced_and_is_synced_when_it_is_acknowledged() {
    let disk = Disk::new();
    let catalog = disk.open().await.unwrap();
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

#[rstest]
#[tokio::test]
async fn a_commit_whose_sync_failed_is_unknown_and_sending_it_again_settles_it(
    #[values(true, false)] reached_the_disk: bool,
) {
    let disk = Disk::new();
    let catalog = disk.open().await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (first, batch) = commit_after(head, 1);
    catalog.commit(&head, &first, &batch).await.unwrap();

    let (second, batch) = commit_after(first, 2);
    disk.fail_next_sync(reached_the_disk);
    let error = catalog.commit(&first, &second, &batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(error.chain().ends_with("the disk failed to sync"), "{}", error.chain());
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
    assert_eq!(ids(&disk.open().await.unwrap()).await.unwrap(), [1, 2, 3]);
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
    let catalog = disk.open().await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    disk.fail_next_sync_as(reached_the_disk, std::io::ErrorKind::StorageFull);
    let error = catalog.commit(&head, &next, &batch).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.to_string().contains("free some"), !reached_the_disk, "{error}");
    assert_eq!(catalog.head().await.unwrap(), if reached_the_disk { next } else { head });
}

#[tokio::test]
async fn an_acquire_whose_sync_failed_is_unknown_and_the_next_one_owns_the_store() {
    let disk = Disk::new();
    let catalog = disk.open().await.unwrap();
    disk.fail_next_sync(true);
    assert_eq!(catalog.acquire().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let head = catalog.acquire().await.unwrap();
    assert_eq!(head.epoch, 2, "the first had reached the disk");
    let (next, batch) = commit_after(head, 1);
    catalog.commit(&head, &next, &batch).await.unwrap();
}

#[tokio::test]
async fn a_load_cut_off_by_a_failed_commit_ends_with_an_error() {
    let disk = Disk::new();
    let catalog = disk.open().await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, _) = commit_after(head, 1);
    let put = |id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, vec![7; 300].into());
    catalog.commit(&head, &next, &Batch::from_iter((0..4000).map(put))).await.unwrap();
    let mut pages = catalog.load().await.unwrap().pages;
    assert_eq!(pages.try_next().await.unwrap().map(|page| page.len()), Some(1024));

    let (last, batch) = commit_after(next, 2);
    disk.fail_next_sync(true);
    catalog.commit(&next, &last, &batch).await.unwrap_err();
    let error = pages.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("load it again"), "{error}");
    assert_eq!(ids(&catalog).await.unwrap().len(), 4001);
}

#[tokio::test]
async fn a_load_cut_off_by_a_close_ends_with_an_error() {
    let disk = Disk::new();
    let catalog = disk.open().await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    catalog.commit(&head, &next, &batch).await.unwrap();
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
    let disk = Disk::new();
    let open =
        async || MetaManager::open(Arc::new(disk.open().await.unwrap()), ManagerOptions::default()).await;
    let manager = open().await.unwrap();
    let before = manager.allocate_ids(10).await.unwrap();
    disk.fail_next_sync(reached_the_disk);
    let during = manager.allocate_ids(10).await.unwrap();
    assert_eq!(during.start, before.end);
    manager.close().await.unwrap();
    assert_eq!(open().await.unwrap().allocate_ids(1).await.unwrap().start, during.end);
}

/// On this runtime nothing else would run, nobody would let the disk go on, and its patience would run out.
#[tokio::test(flavor = "current_thread")]
async fn a_disk_that_hangs_stops_neither_the_runtime_nor_a_drop() {
    let disk = Disk::new();
    let catalog = disk.open().await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let (next, batch) = commit_after(head, 1);
    disk.hang(true);
    let commit = catalog.commit(&head, &next, &batch);
    let release = async {
        tokio::task::yield_now().await;
        disk.hang(false);
    };
    tokio::join!(commit, release).0.unwrap();

    disk.hang(true);
    let (last, batch) = commit_after(next, 2);
    let mut commit = Box::pin(catalog.commit(&next, &last, &batch));
    assert!(futures::poll!(&mut commit).is_pending());
    drop(commit);
    drop(catalog);
    disk.hang(false);
    let catalog = loop {
        match disk.open().await {
            Ok(catalog) => break catalog,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Held, "{error:?}"),
        }
    };
    assert_eq!(ids(&catalog).await.unwrap(), [1, 2], "a commit once begun is finished");
}
