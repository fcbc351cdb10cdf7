//! System calls that fail: that each commit makes them, and that nobody waits for ever when they do.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::thread;

use copyseg_conformance::system_calls::{EIO, ENOSPC, fail_in_all_threads, fail_in_this_thread};
use copyseg_core::{Batch, Catalog, ErrorKind, Head, Operation, RecordKey, RecordKind, Revision};
use copyseg_sled::{SledCatalog, SledOptions};
use rstest::rstest;

/// What tells a child which call is to fail, and on which catalog.
const CALL: &str = "COPYSEG_TEST_CALL";
const PATH: &str = "COPYSEG_TEST_CATALOG";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

async fn open(path: &Path) -> SledCatalog {
    SledCatalog::open(path, SledOptions::default()).await.unwrap()
}

/// Its threads begin with the filter of the thread that starts them.
#[test]
fn nothing_is_acknowledged_that_the_system_has_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    runtime().block_on(async { open(&path).await.close().await }).unwrap();
    let without_sync = || {
        fail_in_this_thread(&["fdatasync"], EIO);
        runtime().block_on(async {
            let error = open(&path).await.acquire().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
            assert!(error.chain().contains("os error 5"), "{}", error.chain());
        });
    };
    thread::scope(|scope| scope.spawn(without_sync).join().unwrap());
    assert!(runtime().block_on(async { open(&path).await.acquire().await }).is_ok());
}

/// Every commit is refused or unknown from then on, and everything ends by itself; what was acknowledged is there.
#[rstest]
#[case::a_full_disk("pwrite64", ENOSPC)]
#[case::a_failing_write("pwrite64", EIO)]
#[case::a_failing_small_write("small pwrite64", EIO)]
#[case::a_failing_range_sync("sync_file_range", EIO)]
#[case::a_failing_sync("fsync", EIO)]
#[case::a_failing_data_sync("fdatasync", EIO)]
fn a_call_that_fails_from_now_on_loses_nothing_and_hangs_nobody(#[case] call: &str, #[case] error: u32) {
    for round in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sled");
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["system_calls::child_whose_calls_fail", "--exact", "--ignored", "--nocapture"]);
        let child = child.env(PATH, &path).env(CALL, format!("{call} {error}")).output().unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{output}\n{}", String::from_utf8_lossy(&child.stderr));
        let mut acknowledged = output.lines().filter_map(|line| line.strip_prefix("child: "));
        let acknowledged: u64 = acknowledged.next_back().unwrap().parse().unwrap();
        assert!(acknowledged >= 10, "round {round}");
        let revision = runtime().block_on(async { open(&path).await.head().await }).unwrap().revision.0;
        assert!((acknowledged..=acknowledged + 1).contains(&revision), "{revision} after {acknowledged}");
    }
}

#[test]
#[ignore = "a child of the test above"]
fn child_whose_calls_fail() {
    let text = std::env::var(CALL).unwrap();
    let (call, error) = text.rsplit_once(' ').unwrap();
    runtime().block_on(async {
        let catalog = open(std::env::var_os(PATH).unwrap().as_ref()).await;
        let mut head = catalog.acquire().await.unwrap();
        let mut failures = 0;
        while failures < 5 {
            let revision = head.revision.0 + 1;
            if revision == 11 && failures == 0 {
                fail_in_all_threads(&[call], error.parse().unwrap());
            }
            let next = Head { batch: revision, revision: Revision(revision), ..head };
            let key = RecordKey { kind: RecordKind::Task, id: revision as i64 };
            let batch = Batch::from_iter([Operation::Put(key, vec![7; 300].into())]);
            match catalog.commit(&head, &next, &batch).await {
                Ok(()) => {
                    let mut out = io::stdout().lock();
                    writeln!(out, "\nchild: {revision}").and_then(|()| out.flush()).unwrap();
                    head = next;
                    // A sync that no commit needs may fail unseen.
                    if revision == 30 {
                        break;
                    }
                }
                Err(error) => {
                    eprintln!("{error:?}");
                    let kinds = [ErrorKind::OutcomeUnknown, ErrorKind::Unavailable, ErrorKind::Fenced];
                    assert!(kinds.contains(&error.kind()), "{error:?}");
                    failures += 1;
                }
            }
        }
        catalog.close().await.unwrap();
    });
}
