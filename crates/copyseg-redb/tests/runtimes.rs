//! The committer of a manager runs on the thread of the catalog, whatever becomes of the runtimes of its callers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use copyseg_conformance::SlowCatalog;
use copyseg_core::{
    Catalog, ErrorKind, JobAction, JobId, ManagerOptions, MetaManager, NewJob, NewTask, Snapshot, TaskId,
};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::{FutureExt, poll};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
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

#[test]
fn the_callers_of_a_manager_whose_runtime_stands_still_are_answered_by_its_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.redb");
    let stands_still = runtime();
    let (_, manager) = stands_still.block_on(open(&path));
    runtime().block_on(async {
        let mut adding = pin!(manager.add_job(NewJob { id: Some(JOB), ..NewJob::default() }, vec![]));
        assert!(poll!(&mut adding).is_pending(), "it is accepted");
        manager.close().await.unwrap();
        adding.now_or_never().expect("a close leaves nobody waiting").unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ids_of_a_large_job_are_free_again_when_its_addition_ended_with_a_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, manager) = open(&folder.path().join("jobs.redb")).await;
    slow.hold_commits();
    let large = || {
        let tasks = (0..slow.limits().operations_max as i64)
            .map(|id| NewTask { id: Some(TaskId(id)), ..NewTask::new([]) });
        manager.add_job(NewJob { id: Some(JOB), ..NewJob::default() }, tasks.collect())
    };
    let ends = runtime();
    tokio::task::block_in_place(|| {
        ends.block_on(async {
            let adding = pin!(large());
            futures::future::select(adding, pin!(slow.commit_held())).await;
        });
        drop(ends);
    });
    slow.release_commits();
    assert_eq!(large().await.unwrap(), JOB);
    assert_eq!(manager.get_job(JOB).unwrap().unwrap().id, JOB);
    manager.close().await.unwrap();
}

/// The engine may be given a storage that waits as tokio lets threads wait which it does not own.
#[tokio::test]
async fn a_storage_may_block_its_thread_through_tokio() {
    #[derive(Debug)]
    struct Blocking(InMemoryBackend, tokio::sync::Mutex<()>);
    impl StorageBackend for Blocking {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            let _turn = self.1.blocking_lock();
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }
    let backend = || Ok(Blocking(InMemoryBackend::new(), tokio::sync::Mutex::default()));
    let catalog = RedbCatalog::with_backend(backend, RedbOptions::default()).await.unwrap();
    let manager = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    manager.add_job(NewJob { id: Some(JOB), ..NewJob::default() }, vec![]).await.unwrap();
    manager.close().await.unwrap();
}

/// In a process of its own, in which no thread can have the memory that it asks for.
#[test]
fn a_catalog_whose_thread_cannot_be_started_is_unavailable() {
    const CHILD: &str = "COPYSEG_TEST_WITHOUT_THREADS";
    if std::env::var_os(CHILD).is_none() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "a_catalog_whose_thread_cannot_be_started_is_unavailable",
            "--exact",
            "--test-threads=1",
        ]);
        let output = child.env(CHILD, "1").env("RUST_MIN_STACK", (1_u64 << 46).to_string()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let opened = RedbCatalog::open(folder.path().join("jobs.redb"), RedbOptions::default());
    let error = runtime().block_on(opened).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no thread could be started"), "{error}");
}
