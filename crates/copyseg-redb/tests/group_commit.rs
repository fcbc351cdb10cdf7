//! Concurrent callers share commits, and so the disk's syncs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;

use copyseg_conformance::FaultyCatalog;
use copyseg_core::{JobAction, JobId, ManagerOptions, MetaManager, NewJob};
use copyseg_redb::{RedbCatalog, RedbOptions};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_need_less_than_one_commit_for_eight_updates() {
    const CALLERS: i64 = 64;
    const UPDATES: u64 = 50;
    let folder = tempfile::tempdir().unwrap();
    let catalog = RedbCatalog::open(folder.path().join("jobs.redb"), RedbOptions::default()).await.unwrap();
    let counting = Arc::new(FaultyCatalog::new(Arc::new(catalog)));
    let manager = MetaManager::open(counting.clone(), ManagerOptions::default()).await.unwrap();
    for id in 0..CALLERS {
        manager.add_job(NewJob { id: Some(JobId(id)), ..NewJob::default() }, vec![]).await.unwrap();
    }
    let before = counting.commits();
    let callers = (0..CALLERS).map(|id| {
        let manager = manager.clone();
        tokio::spawn(async move {
            for rows in 0..UPDATES {
                manager.update_job(JobId(id), [JobAction::Rows(rows)]).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let (commits, updates) = (counting.commits() - before, CALLERS as u64 * UPDATES);
    manager.close().await.unwrap();
    assert!(commits * 8 < updates, "{commits} commits for {updates} updates");
}
