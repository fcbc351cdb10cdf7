//! The committer of a manager runs on the thread of the catalog, whatever becomes of the runtimes of its callers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use copyseg_conformance::SlowCatalog;
use copyseg_core::{Catalog, ErrorKind, JobAction, JobId, ManagerOptions, MetaManager, NewJob, Snapshot};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::FutureExt;
use tokio::runtime::{Builder, Runtime};

const JOB: JobId = JobId(1);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

async fn open(path: &Path) -> (Arc<SlowCatalog>, MetaManager) {
    let catalog = RedbCatalog::open(path, RedbOptions::default()).await.unwrap();
    let slow = Arc::new(SlowCatalog::new(Arc::new(catalog)));
    let opened = MetaManager::open(Arc::clone(&slow) as Arc<dyn Catalog>, ManagerOptions::default()).await;
    (slow, opened.unwrap())
}

/// What is stored, once whoever has the file lets go of it.
async fn stored_rows(path: &Path) -> Option<u64> {
    let opened = async {
        loop {
            match RedbCatalog::open_read_only(path, RedbOptions::default()).await {
                Err(error) if error.kind() == ErrorKind::Held => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                opened => return opened.unwrap(),
            }
        }
    };
    let catalog = tokio::time::timeout(Duration::from_secs(300), opened).await.expect("nobody lets go of it");
    let snapshot = Snapshot::load(&catalog).await.unwrap();
    snapshot.job(JOB).unwrap().rows
}

#[test]
fn a_manager_goes_on_after_the_runtime_that_opened_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let (_, manager) = runtime().block_on(open(&path));
    runtime().block_on(async {
        manager.add_job(NewJob { id: Some(JOB), ..NewJob::default() }, vec![]).await.unwrap();
        manager.update_job(JOB, [JobAction::Rows(7)]).await.unwrap();
        assert_eq!(manager.get_job(JOB).unwrap().unwrap().rows, Some(7));
        manager.close().await.unwrap();
        assert_eq!(stored_rows(&path).await, Some(7));
    });
}

#[test]
fn the_last_handle_may_go_with_its_runtime_and_what_was_accepted_is_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let slow = runtime().block_on(async {
        let (slow, manager) = open(&path).await;
        manager.add_job(NewJob { id: Some(JOB), ..NewJob::default() }, vec![]).await.unwrap();
        slow.hold_commits();
        assert!(manager.update_job(JOB, [JobAction::Rows(7)]).now_or_never().is_none(), "it is accepted");
        slow
    });
    slow.release_commits();
    drop(slow);
    assert_eq!(runtime().block_on(stored_rows(&path)), Some(7));
}
