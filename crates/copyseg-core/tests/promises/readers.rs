//! Readers never wait for storage, and see one committed instant.

use std::sync::Arc;
use std::time::Duration;

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

/// Writers keep two jobs equal; readers on other threads never see them differ, nor a revision that is not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_beside_slow_writers_see_whole_committed_revisions_that_only_grow() {
    let store = MemoryCatalog::new();
    let slow = SlowCatalog::with_delay(Arc::new(store.clone()), Duration::from_millis(50));
    let meta = MetaManager::open(Arc::new(slow), ManagerOptions::default()).await.unwrap();
    let both = |txn: &mut copyseg_core::Txn<'_>| {
        txn.add_job(job(1), vec![task(11)])?;
        txn.add_job(job(2), vec![])
    };
    meta.transact(both).await.unwrap();

    let readers = (0..3).map(|_| {
        let (meta, store) = (meta.clone(), store.clone());
        tokio::spawn(async move {
            let (mut reads, mut last) = (0_u32, Revision(0));
            while last < Revision(10) {
                let snapshot = meta.snapshot().unwrap();
                assert!(snapshot.revision() >= last);
                last = snapshot.revision();
                assert_eq!(snapshot.job(JobId(1)).unwrap().rows, snapshot.job(JobId(2)).unwrap().rows);
                assert!(store.head().await.unwrap().revision >= last, "seen before it was stored");
                reads += 1;
            }
            reads
        })
    });
    let readers: Vec<_> = readers.collect();
    for rows in 0..12 {
        let raise = |txn: &mut copyseg_core::Txn<'_>| {
            txn.update_job(JobId(1), [JobAction::Rows(rows)])?;
            txn.update_job(JobId(2), [JobAction::Rows(rows)])
        };
        meta.transact(raise).await.unwrap();
    }
    for reader in readers {
        let reads = reader.await.unwrap();
        assert!(reads > 1_000, "{reads} reads while ten commits of 50 ms each were made");
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
