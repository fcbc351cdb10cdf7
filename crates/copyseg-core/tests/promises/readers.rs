//! Readers never wait for storage, and see one committed instant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use copyseg_conformance::SlowCatalog;
use copyseg_core::{
    Catalog, JobAction, JobFilter, JobId, ManagerOptions, MemoryCatalog, MetaManager, Revision, TaskFilter,
    TaskId,
};

use super::{Fixture, job, task};

#[tokio::test]
async fn thousands_of_reads_complete_while_one_commit_is_held() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let before = fixture.meta.snapshot().unwrap().revision();
    let update = fixture.occupy(1).await;
    for _ in 0..5_000 {
        assert_eq!(fixture.reason(1), "", "only committed state is seen");
        assert_eq!(fixture.meta.snapshot().unwrap().revision(), before);
        assert_eq!(fixture.meta.count_jobs(&JobFilter::new()).unwrap(), 1);
        assert_eq!(fixture.meta.list_tasks(&TaskFilter::new().job(JobId(1))).unwrap().len(), 1);
        assert!(fixture.meta.get_task(TaskId(11)).unwrap().is_some());
    }
    assert!(!update.is_finished());
    fixture.slow.release_commits();
    update.await.unwrap().unwrap();
    assert_eq!(fixture.reason(1), "first");
}

/// Writers keep two jobs equal; readers on other threads never see them differ, nor a revision that is not stored. None
/// waits for a commit: each is held until all of them have read a hundred times beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_beside_slow_writers_see_whole_committed_revisions_that_only_grow() {
    const READS: u32 = 100;
    let store = MemoryCatalog::new();
    let slow = Arc::new(SlowCatalog::new(Arc::new(store.clone())));
    let meta =
        MetaManager::open(Arc::clone(&slow) as Arc<dyn Catalog>, ManagerOptions::default()).await.unwrap();
    let both = |txn: &mut copyseg_core::Txn<'_>| {
        txn.add_job(job(1), vec![task(11)])?;
        txn.add_job(job(2), vec![])
    };
    meta.transact(both).await.unwrap();

    let reads: [_; 3] = std::array::from_fn(|_| Arc::new(AtomicU32::new(0)));
    let readers = reads.each_ref().map(|reads| {
        let (meta, store, reads) = (meta.clone(), store.clone(), Arc::clone(reads));
        tokio::spawn(async move {
            let mut last = Revision(0);
            while last < Revision(10) {
                let snapshot = meta.snapshot().unwrap();
                assert!(snapshot.revision() >= last);
                last = snapshot.revision();
                assert_eq!(snapshot.job(JobId(1)).unwrap().rows, snapshot.job(JobId(2)).unwrap().rows);
                assert!(store.head().await.unwrap().revision >= last, "seen before it was stored");
                reads.fetch_add(1, Ordering::SeqCst);
                // The manager needs a thread too, and there may be but one.
                tokio::task::yield_now().await;
            }
        })
    });
    while meta.snapshot().unwrap().revision() < Revision(10) {
        slow.hold_commits();
        let rows = meta.snapshot().unwrap().revision().0;
        let raise = meta.transact(move |txn| {
            txn.update_job(JobId(1), [JobAction::Rows(rows)])?;
            txn.update_job(JobId(2), [JobAction::Rows(rows)])
        });
        let read_beside_it = async {
            slow.commit_held().await;
            for (reader, reads) in readers.iter().zip(&reads) {
                let enough = reads.load(Ordering::SeqCst) + READS;
                while reads.load(Ordering::SeqCst) < enough && !reader.is_finished() {
                    tokio::task::yield_now().await;
                }
            }
            slow.release_commits();
        };
        tokio::join!(raise, read_beside_it).0.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_is_one_instant_however_long_it_is_read() {
    let fixture = Fixture::new().await;
    fixture.add(1, 11..61).await;
    let snapshot = fixture.meta.snapshot().unwrap();
    let tasks = TaskFilter::new();
    let mut walk = snapshot.tasks(&tasks);
    assert_eq!(walk.next().unwrap().id, TaskId(11));
    fixture.meta.remove_job(JobId(1)).await.unwrap();
    fixture.add(2, [71]).await;
    assert_eq!(walk.count(), 49, "the walk goes on where it began");
    assert_eq!(snapshot.progress(JobId(1)).unwrap().tasks.total(), 50);
    assert!(snapshot.job(JobId(2)).is_none());
}
