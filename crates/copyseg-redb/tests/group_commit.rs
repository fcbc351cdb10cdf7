//! Concurrent callers share commits, and so the disk's syncs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use copyseg_conformance::{FaultyCatalog, SlowCatalog};
use copyseg_core::{Catalog, JobAction, JobId, ManagerOptions, MetaManager, NewJob};
use copyseg_redb::{RedbCatalog, RedbOptions};

/// In each round all of them come while one commit is under way.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_need_less_than_one_commit_for_eight_updates() {
    const CALLERS: usize = 64;
    const ROUNDS: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let catalog = RedbCatalog::open(folder.path().join("jobs.redb"), RedbOptions::default()).await.unwrap();
    let counting = Arc::new(FaultyCatalog::new(Arc::new(catalog)));
    let slow = Arc::new(SlowCatalog::new(Arc::clone(&counting) as Arc<dyn Catalog>));
    let opened = MetaManager::open(Arc::clone(&slow) as Arc<dyn Catalog>, ManagerOptions::default());
    let manager = opened.await.unwrap();
    for id in 0..CALLERS as i64 {
        manager.add_job(NewJob { id: Some(JobId(id)), ..NewJob::default() }, vec![]).await.unwrap();
    }
    let before = counting.commits();
    for round in 0..ROUNDS {
        slow.hold_commits();
        let accepted = Arc::new(AtomicUsize::new(0));
        let callers = (0..CALLERS as i64).map(|id| {
            let (manager, accepted) = (manager.clone(), Arc::clone(&accepted));
            tokio::spawn(async move {
                let update = manager.transact(|txn| {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    txn.update_job(JobId(id), [JobAction::Rows(round as u64)])
                });
                update.await.unwrap();
            })
        });
        let callers: Vec<_> = callers.collect();
        while accepted.load(Ordering::SeqCst) < CALLERS {
            tokio::task::yield_now().await;
        }
        slow.release_commits();
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let (commits, updates) = (counting.commits() - before, (CALLERS * ROUNDS) as u64);
    manager.close().await.unwrap();
    assert!(commits * 8 < updates, "{commits} commits for {updates} updates");
}
