//! What callers are told when storage refuses a batch, and what the head says about every batch that it takes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use copyseg_conformance::{Call, Fault};
use copyseg_core::{
    Catalog, Error, ErrorKind, JobAction, JobId, Limits, ManagerOptions, MemoryCatalog, MetaManager, NewJob,
    Operation, RecordKey, RecordKind, Result,
};

use super::committer::HookedCatalog;
use super::{Fixture, TINY, job, open, stored, tamper, task, until_idle, visible};

/// A manager with job 1, on a catalog that refuses the next commits as it is told, the last first.
async fn refusing() -> (MemoryCatalog, MetaManager, Arc<Mutex<Vec<ErrorKind>>>) {
    let (store, refusals) = (MemoryCatalog::new(), Arc::new(Mutex::new(Vec::new())));
    let catalog = HookedCatalog::new(store.clone(), {
        let refusals = Arc::clone(&refusals);
        move || {
            refusals
                .lock()
                .unwrap()
                .pop()
                .map_or(Ok(()), |kind| Err(Error::new(kind, "storage does not take it")))
        }
    });
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    meta.add_job(job(1), vec![]).await.unwrap();
    (store, meta, refusals)
}

async fn update(meta: &MetaManager, rows: u64) -> Result<()> {
    meta.update_job(JobId(1), [JobAction::Rows(rows)]).await.map(drop)
}

#[tokio::test]
async fn a_change_that_alone_is_too_large_for_storage_says_so_and_one_among_others_is_tried_again() {
    let (_, meta, refusals) = refusing().await;
    refusals.lock().unwrap().push(ErrorKind::TooLarge);
    assert_eq!(update(&meta, 1).await.unwrap_err().kind(), ErrorKind::TooLarge);

    refusals.lock().unwrap().push(ErrorKind::TooLarge);
    let (first, second) = tokio::join!(update(&meta, 1), update(&meta, 2));
    for answer in [first, second] {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable, "which of them it was is not known");
    }
    update(&meta, 3).await.unwrap();
}

/// Whoever waits behind it is not to blame.
#[tokio::test]
async fn only_the_change_that_is_too_large_is_told_so() {
    let (store, refuses) = (MemoryCatalog::with_limits(TINY), Arc::new(AtomicBool::new(false)));
    let catalog = HookedCatalog::new(store.clone(), {
        let refuses = Arc::clone(&refuses);
        move || match refuses.swap(false, Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::TooLarge, "more than the server takes")),
            false => Ok(()),
        }
    });
    let fixture = Fixture::over(Arc::new(catalog), store, ManagerOptions::default()).await;
    fixture.add(1, []).await;
    let first = fixture.occupy(1).await;
    let behind = fixture.spawn_update(1, "behind");
    until_idle().await;
    refuses.store(true, Ordering::SeqCst);
    fixture.slow.release_commits();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(behind.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);

    // Nothing builds upon what only sweeps.
    fixture.add(2, 11..31).await;
    fixture.slow.hold_commits();
    let removal = tokio::spawn({
        let meta = fixture.meta.clone();
        async move { meta.remove_job(JobId(2)).await }
    });
    fixture.slow.commit_held().await;
    fixture.slow.release_commits();
    removal.await.unwrap().unwrap();
    fixture.slow.hold_commits();
    fixture.slow.commit_held().await;
    let behind = fixture.spawn_update(1, "behind");
    until_idle().await;
    refuses.store(true, Ordering::SeqCst);
    fixture.slow.release_commits();
    behind.await.unwrap().unwrap();
    assert!(!refuses.load(Ordering::SeqCst), "what was swept was refused");
}

#[tokio::test]
async fn a_refused_change_says_that_nothing_was_changed_and_why() {
    let (store, meta, refusals) = refusing().await;
    let before = stored(&store).await;
    refusals.lock().unwrap().push(ErrorKind::Unavailable);
    let refused = update(&meta, 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("nothing was changed"), "{refused}");
    assert!(refused.chain().ends_with("storage does not take it"), "{}", refused.chain());
    assert_eq!(stored(&store).await, before);
}

/// Only the head says who owns a store.
#[tokio::test(start_paused = true)]
async fn storage_that_says_fenced_while_the_head_stands_is_asked_again() {
    let (store, meta, refusals) = refusing().await;
    refusals.lock().unwrap().push(ErrorKind::Fenced);
    update(&meta, 1).await.unwrap();
    assert_eq!(stored(&store).await, visible(&meta.snapshot().unwrap()));
}

/// Whose batch it was that moved the head must be known even if nothing else in the head was moved.
#[tokio::test]
async fn every_batch_has_a_number_of_its_own() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let mut numbers = HashSet::new();
    for rows in 0..20 {
        update(&fixture.meta, rows).await.unwrap();
        assert!(numbers.insert(fixture.store.head().await.unwrap().batch), "batch {rows}");
    }
}

/// What is dropped is not counted any more, whatever is stored under its id next.
#[tokio::test]
async fn a_dropped_counter_that_is_written_again_is_counted_once() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let first = fixture.meta.allocate_ids(1).await.unwrap();
    fixture.meta.close().await.unwrap();
    let counter = RecordKey { kind: RecordKind::Store, id: 1 };
    tamper(&fixture.store, [Operation::Put(counter, Arc::from([0_u8; 9]))]).await;
    let meta = open(&fixture.store).await;
    assert!(meta.drop_set_aside(counter).await.unwrap());
    assert!(meta.allocate_ids(1).await.unwrap().start > first.start);
    meta.close().await.unwrap();
    assert!(open(&fixture.store).await.get_job(JobId(1)).unwrap().is_some());
}

/// A batch of staged tasks that storage refuses is not taken for stored.
#[tokio::test(start_paused = true)]
async fn a_large_job_that_was_refused_can_be_added_again_and_is_counted_once() {
    for commit in 0..4 {
        let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
        fixture.faults.fail_nth_of(Call::Commit, commit, Fault::Before);
        let tasks = || (11..22).map(task).collect();
        let refused = fixture.meta.add_job(job(1), tasks()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        fixture.meta.add_job(job(1), tasks()).await.unwrap();
        fixture.meta.close().await.unwrap();
        assert_eq!(open(&fixture.store).await.tasks_of_job(JobId(1)).unwrap().len(), 11);
    }
}

/// A batch counts a record once, however often it is written, and never grows beyond what storage takes.
#[tokio::test]
async fn a_large_record_written_often_is_one_write_and_several_are_as_many_batches_as_they_need() {
    let limits = Limits { operations_max: 1_000, ..TINY };
    let fixture = Fixture::on(MemoryCatalog::with_limits(limits)).await;
    fixture.add(1, []).await;
    for id in 2..5 {
        let large = NewJob { snapshot: "x".repeat(50_000), ..job(id) };
        fixture.meta.add_job(large, vec![]).await.unwrap();
    }
    for (updated, batches) in [([2; 6], 1), ([2, 2, 3, 4, 2, 3], 3)] {
        let first = fixture.occupy(1).await;
        let updates = updated.map(|id| fixture.spawn_update(id, "again"));
        until_idle().await;
        let commits = fixture.faults.commits();
        fixture.slow.release_commits();
        first.await.unwrap().unwrap();
        for update in updates {
            update.await.unwrap().unwrap();
        }
        assert_eq!(fixture.faults.commits(), commits + 1 + batches, "{updated:?}");
    }
}
