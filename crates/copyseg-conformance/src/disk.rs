//! What a catalog on a disk that fails has to keep: what a caller is told, and that memory never differs from storage.
//! [`disk_suite!`](crate::disk_suite) makes tests of it.

use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, ManagerOptions, MetaManager, Operation, RecordKey, RecordKind, Result,
    Revision,
};
use futures::TryStreamExt;

/// A new catalog on a disk that fails and hangs when told to.
#[async_trait]
pub trait FailingDisk {
    /// Opens the catalog, which is empty at first.
    async fn open(&self) -> Result<Arc<dyn Catalog>>;

    /// Has the next sync fail with "the disk failed to sync", after or before what it was for has reached the disk.
    fn fail_next_sync(&self, reaches_the_disk: bool);

    /// While it hangs, a sync waits.
    fn hang(&self, hangs: bool);
}

/// Turns every case of a failing disk into a test. Takes an expression that makes a fresh
/// [`FailingDisk`](crate::FailingDisk).
#[macro_export]
macro_rules! disk_suite {
    ($disk:expr) => {
        $crate::disk_cases! { $disk;
            a_commit_whose_sync_failed_is_unknown_and_sending_it_again_makes_it,
            a_commit_whose_failed_sync_reached_the_disk_is_unknown_and_sending_it_again_is_refused,
            an_acquire_whose_sync_failed_is_unknown_and_the_next_one_owns_the_store,
            a_load_cut_off_by_a_failed_commit_ends_with_an_error,
            a_load_cut_off_by_a_close_ends_with_an_error,
            a_manager_settles_a_failed_sync_and_its_callers_never_learn_of_it,
            a_manager_settles_a_failed_sync_that_reached_the_disk,
            a_disk_that_hangs_stops_neither_the_runtime_nor_a_drop,
        }
    };
}

/// Makes tests of the list of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! disk_cases {
    ($disk:expr; $($case:ident,)*) => {$(
        #[test]
        fn $case() {
            $crate::disk::run($disk, $crate::disk::$case);
        }
    )*};
}

/// Runs one case, on a runtime of one thread: what blocks it stops everything else. Called by the tests that
/// [`disk_suite!`](crate::disk_suite) makes.
///
/// # Panics
/// If the catalog does not do what the case is named after.
pub fn run(disk: impl FailingDisk, case: impl AsyncFnOnce(&dyn FailingDisk)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be started").block_on(case(&disk));
}

pub async fn a_commit_whose_sync_failed_is_unknown_and_sending_it_again_makes_it(disk: &dyn FailingDisk) {
    assert_settled(disk, false).await;
}

pub async fn a_commit_whose_failed_sync_reached_the_disk_is_unknown_and_sending_it_again_is_refused(
    disk: &dyn FailingDisk,
) {
    assert_settled(disk, true).await;
}

async fn assert_settled(disk: &dyn FailingDisk, reached_the_disk: bool) {
    let (catalog, head) = acquire(disk).await;
    let (first, batch) = commit_after(head, 1);
    catalog.commit(&head, &first, &batch).await.expect("nothing fails");

    let (second, batch) = commit_after(first, 2);
    disk.fail_next_sync(reached_the_disk);
    let error = catalog.commit(&first, &second, &batch).await.expect_err("the sync failed");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
    assert!(error.chain().ends_with("the disk failed to sync"), "{}", error.chain());
    let again = catalog.commit(&first, &second, &batch).await.map_err(|error| error.kind());
    assert_eq!(again, if reached_the_disk { Err(ErrorKind::Fenced) } else { Ok(()) });
    assert_eq!(catalog.head().await.expect("it can be read"), second);
    let (third, batch) = commit_after(second, 3);
    catalog.commit(&second, &third, &batch).await.expect("nothing fails any more");
    assert_eq!(ids(&*catalog).await.expect("it can be read"), [1, 2, 3]);
    catalog.close().await.expect("it can be closed");
    assert_eq!(ids(&*open(disk).await).await.expect("it can be read"), [1, 2, 3]);
}

pub async fn an_acquire_whose_sync_failed_is_unknown_and_the_next_one_owns_the_store(disk: &dyn FailingDisk) {
    let catalog = open(disk).await;
    disk.fail_next_sync(true);
    let error = catalog.acquire().await.expect_err("the sync failed");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    let head = catalog.acquire().await.expect("nothing fails any more");
    assert_eq!(head.epoch, 2, "the first had reached the disk");
    let (next, batch) = commit_after(head, 1);
    catalog.commit(&head, &next, &batch).await.expect("it owns the store");
}

pub async fn a_load_cut_off_by_a_failed_commit_ends_with_an_error(disk: &dyn FailingDisk) {
    let (catalog, head) = acquire(disk).await;
    let next = commit_many(&*catalog, head).await;
    let mut pages = catalog.load().await.expect("it can be read").pages;
    let first = pages.try_next().await.expect("it can be read").expect("there are records").len();
    assert!(first < MANY as usize, "there is more to be read");

    let (last, batch) = commit_after(next, 2);
    disk.fail_next_sync(true);
    catalog.commit(&next, &last, &batch).await.expect_err("the sync failed");
    let error = pages.try_collect::<Vec<_>>().await.expect_err("what was read is not there any more");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("load it again"), "{error}");
    assert_eq!(ids(&*catalog).await.expect("it can be read").len(), MANY as usize + 1);
}

pub async fn a_load_cut_off_by_a_close_ends_with_an_error(disk: &dyn FailingDisk) {
    let (catalog, head) = acquire(disk).await;
    commit_many(&*catalog, head).await;
    let pages = catalog.load().await.expect("it can be read").pages;
    catalog.close().await.expect("it can be closed");
    let error = pages.try_collect::<Vec<_>>().await.expect_err("it was closed");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
}

pub async fn a_manager_settles_a_failed_sync_and_its_callers_never_learn_of_it(disk: &dyn FailingDisk) {
    assert_settled_by_a_manager(disk, false).await;
}

pub async fn a_manager_settles_a_failed_sync_that_reached_the_disk(disk: &dyn FailingDisk) {
    assert_settled_by_a_manager(disk, true).await;
}

async fn assert_settled_by_a_manager(disk: &dyn FailingDisk, reached_the_disk: bool) {
    let manage = async || {
        let opened = MetaManager::open(open(disk).await, ManagerOptions::default()).await;
        opened.expect("the store can be opened")
    };
    let manager = manage().await;
    let before = manager.allocate_ids(10).await.expect("nothing fails");
    disk.fail_next_sync(reached_the_disk);
    let during = manager.allocate_ids(10).await.expect("nobody learns of it");
    assert_eq!(during.start, before.end);
    manager.close().await.expect("it can be closed");
    let after = manage().await.allocate_ids(1).await.expect("nothing fails any more");
    assert_eq!(after.start, during.end);
}

/// Were the runtime blocked, nobody would let the disk go on.
pub async fn a_disk_that_hangs_stops_neither_the_runtime_nor_a_drop(disk: &dyn FailingDisk) {
    let (catalog, head) = acquire(disk).await;
    let (next, batch) = commit_after(head, 1);
    disk.hang(true);
    let commit = catalog.commit(&head, &next, &batch);
    let release = async {
        tokio::task::yield_now().await;
        disk.hang(false);
    };
    futures::join!(commit, release).0.expect("the disk goes on");

    disk.hang(true);
    let (last, batch) = commit_after(next, 2);
    let mut commit = Box::pin(catalog.commit(&next, &last, &batch));
    assert!(futures::poll!(&mut commit).is_pending());
    drop(commit);
    drop(catalog);
    disk.hang(false);
    let again = loop {
        match disk.open().await {
            Ok(again) => break again,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Held, "{error:?}"),
        }
    };
    assert_eq!(ids(&*again).await.expect("it can be read"), [1, 2], "a commit once begun is finished");
}

async fn open(disk: &dyn FailingDisk) -> Arc<dyn Catalog> {
    disk.open().await.expect("the catalog can be opened")
}

async fn acquire(disk: &dyn FailingDisk) -> (Arc<dyn Catalog>, Head) {
    let catalog = open(disk).await;
    let head = catalog.acquire().await.expect("the catalog can be acquired");
    (catalog, head)
}

/// More records than a page has.
const MANY: i64 = 4000;

async fn commit_many(catalog: &dyn Catalog, head: Head) -> Head {
    let (next, _) = commit_after(head, 1);
    let put = |id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, vec![7; 300].into());
    let batch = (0..MANY).map(put).collect();
    catalog.commit(&head, &next, &batch).await.expect("nothing fails");
    next
}

/// The head after `head`, and a batch that puts one job, both unlike those of any other `revision`.
pub fn commit_after(head: Head, revision: u64) -> (Head, Batch) {
    let key = RecordKey { kind: RecordKind::Job, id: revision as i64 };
    let put = Operation::Put(key, revision.to_be_bytes().as_slice().into());
    (Head { batch: revision, revision: Revision(revision), ..head }, Batch::from_iter([put]))
}

/// The ids of all records, by kind.
///
/// # Errors
/// Those of the load.
pub async fn ids(catalog: &dyn Catalog) -> Result<Vec<i64>> {
    let pages: Vec<_> = catalog.load().await?.pages.try_collect().await?;
    Ok(pages.into_iter().flatten().map(|record| record.key.id).collect())
}
