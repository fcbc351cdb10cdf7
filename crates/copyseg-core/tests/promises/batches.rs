//! Group commit: what goes into one batch, and who waits for whom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copyseg_conformance::{FaultyCatalog, SlowCatalog};
use copyseg_core::{
    Catalog, ErrorKind, JobAction, JobId, ManagerOptions, MemoryCatalog, MetaManager, Revision,
};
use futures::future::join_all;

use super::committer::HookedCatalog;
use super::{Fixture, TINY, job, stored, until_idle, visible};

#[tokio::test(start_paused = true)]
async fn sixty_four_concurrent_updaters_need_less_than_one_commit_for_eight_updates() {
    const UPDATERS: u64 = 64;
    const UPDATES: u64 = 20;
    let counting = Arc::new(FaultyCatalog::new(Arc::new(MemoryCatalog::new())));
    let slow = SlowCatalog::with_delay(Arc::clone(&counting) as Arc<dyn Catalog>, Duration::from_millis(1));
    let meta = MetaManager::open(Arc::new(slow), ManagerOptions::default()).await.unwrap();
    for id in 0..UPDATERS as i64 {
        meta.add_job(job(id), vec![]).await.unwrap();
    }
    let before = counting.commits();
    let updaters = (0..UPDATERS as i64).map(|id| {
        let meta = meta.clone();
        tokio::spawn(async move {
            for rows in 0..UPDATES {
                meta.update_job(JobId(id), [JobAction::Rows(rows)]).await.unwrap();
            }
        })
    });
    for updater in updaters.collect::<Vec<_>>() {
        updater.await.unwrap();
    }
    let commits = counting.commits() - before;
    assert!(commits * 8 < UPDATERS * UPDATES, "{commits} commits for {} updates", UPDATERS * UPDATES);
    assert!(commits >= UPDATES, "an update waits for its own commit");
}

#[tokio::test]
async fn writes_to_one_record_become_one_write_and_every_revision_is_told() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
    fixture.add(1, []).await;
    let commits = fixture.faults.commits();
    let mut subscription = fixture.meta.subscribe().unwrap();
    let first = fixture.occupy(1).await;
    let updates: Vec<_> = (0..100).map(|n| fixture.spawn_update(1, &n.to_string())).collect();
    until_idle().await;
    fixture.slow.release_commits();
    let mut last = first.await.unwrap().unwrap().revision;
    for update in updates {
        let revision = update.await.unwrap().unwrap().revision;
        assert_eq!(revision, Revision(last.0 + 1), "one order, without gaps");
        last = revision;
    }
    assert_eq!(fixture.faults.commits(), commits + 2, "the held one and the hundred behind it");
    for _ in 0..101 {
        subscription.next().await.unwrap();
    }
}

#[tokio::test]
async fn every_batch_keeps_to_the_limits_of_its_store() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
    for id in 0..20 {
        fixture.add(id, []).await;
    }
    let first = fixture.occupy(0).await;
    let updates: Vec<_> = (0..20).map(|id| fixture.spawn_update(id, &"x".repeat(60_000))).collect();
    until_idle().await;
    fixture.slow.release_commits();
    first.await.unwrap().unwrap();
    for update in updates {
        update.await.unwrap().unwrap();
    }
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

#[tokio::test]
async fn a_transaction_too_large_for_the_store_is_refused_before_anything_is_written() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
    fixture.add(1, []).await;
    let (head, before) = (fixture.store.head().await.unwrap(), visible(&fixture.meta.snapshot().unwrap()));
    let five =
        |txn: &mut copyseg_core::Txn<'_>| (10..15).try_for_each(|id| txn.add_job(job(id), vec![]).map(drop));
    assert_eq!(fixture.meta.transact(five).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let long = JobAction::Reason("x".repeat(70_000));
    let error = fixture.meta.update_job(JobId(1), [long]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("job 1"), "{error}");
    assert_eq!(fixture.store.head().await.unwrap(), head);
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
}

/// Storage would be idle while they prepare their next changes, which could not go into the batch.
#[tokio::test]
async fn a_full_batch_waits_neither_for_callers_to_be_answered_nor_for_them_to_return() {
    const CALLERS: i64 = 8;
    let (answered, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let catalog = HookedCatalog::new(MemoryCatalog::with_limits(TINY), {
        let (answered, seen) = (Arc::clone(&answered), Arc::clone(&seen));
        move || {
            seen.lock().unwrap().push(answered.load(Ordering::SeqCst));
            Ok(())
        }
    });
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    for id in 0..CALLERS {
        meta.add_job(job(id), vec![]).await.unwrap();
    }
    seen.lock().unwrap().clear();
    let update = async |id| {
        meta.update_job(JobId(id), [JobAction::Rows(1)]).await.unwrap();
        answered.fetch_add(1, Ordering::SeqCst);
    };
    join_all((0..CALLERS).map(update)).await;
    assert_eq!(*seen.lock().unwrap(), [0, 0], "two batches of four, one right after the other");
}

/// A client of a server passes a request on from task to task, behind callers that were answered before.
#[tokio::test]
async fn a_batch_has_left_before_those_who_were_answered_go_on() {
    const CALLERS: i64 = 8;
    let (answered, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let catalog = HookedCatalog::new(MemoryCatalog::with_limits(TINY), {
        let (answered, left) = (Arc::clone(&answered), Arc::clone(&left));
        move || {
            let (answered, left) = (Arc::clone(&answered), Arc::clone(&left));
            let writes = async move { left.lock().unwrap().push(answered.load(Ordering::SeqCst)) };
            tokio::spawn(async { drop(tokio::spawn(async { drop(tokio::spawn(writes)) })) });
            Ok(())
        }
    });
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    for id in 0..CALLERS {
        meta.add_job(job(id), vec![]).await.unwrap();
    }
    until_idle().await;
    left.lock().unwrap().clear();
    let update = |id| {
        let (meta, answered) = (meta.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            meta.update_job(JobId(id), [JobAction::Rows(1)]).await.unwrap();
            answered.fetch_add(1, Ordering::SeqCst);
        })
    };
    join_all((0..CALLERS).map(update)).await;
    until_idle().await;
    assert_eq!(*left.lock().unwrap(), [0, 0], "two batches of four");
}

/// Its commit blocks the thread of the committer, which could answer nobody meanwhile.
#[tokio::test]
async fn callers_are_answered_before_a_catalog_commits_on_a_thread_of_its_own() {
    let (tell, told) = std::sync::mpsc::channel();
    let commits_before = Arc::new(AtomicUsize::new(usize::MAX));
    let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let mut catalog = HookedCatalog::new(MemoryCatalog::with_limits(TINY), {
        let (left, told) = (Arc::clone(&commits_before), Mutex::new(told));
        move || {
            if left.fetch_sub(1, Ordering::SeqCst) == 0 {
                told.lock()
                    .unwrap()
                    .recv_timeout(Duration::from_secs(60))
                    .expect("a caller of the batch before");
            }
            Ok(())
        }
    });
    catalog.runtime = Some(own.handle().clone());
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    for id in 0..8 {
        meta.add_job(job(id), vec![]).await.unwrap();
    }
    commits_before.store(1, Ordering::SeqCst);
    let update = async |id| {
        meta.update_job(JobId(id), [JobAction::Rows(1)]).await.unwrap();
        tell.send(()).unwrap();
    };
    join_all((0..8).map(update)).await;
    meta.close().await.unwrap();
    own.shutdown_background();
}

/// They are answered while the next batch is on its way, whatever becomes of that.
#[tokio::test]
async fn who_is_durable_is_told_so_though_the_catalog_panics_over_the_next_batch() {
    let panics_after = Arc::new(AtomicUsize::new(usize::MAX));
    let catalog = HookedCatalog::new(MemoryCatalog::with_limits(TINY), {
        let left = Arc::clone(&panics_after);
        move || {
            assert!(left.fetch_sub(1, Ordering::SeqCst) > 0, "a bug of the catalog");
            Ok(())
        }
    });
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    for id in 0..8 {
        meta.add_job(job(id), vec![]).await.unwrap();
    }
    panics_after.store(1, Ordering::SeqCst);
    let update = |id| meta.update_job(JobId(id), [JobAction::Rows(1)]);
    let answers = join_all((0..8).map(update)).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.kind())).collect();
    assert_eq!(answers, [[None; 4], [Some(ErrorKind::OutcomeUnknown); 4]].concat());
}
