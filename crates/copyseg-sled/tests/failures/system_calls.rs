//! System calls that fail: that each commit makes them, and that nobody waits for ever when they do.
//!
//! A filter of the kernel (seccomp) makes a call fail in the threads that it is put on. It cannot be taken off again, so
//! each test puts it on a process or a thread of its own.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::thread;

use copyseg_core::{Batch, Catalog, ErrorKind, Head, Operation, RecordKey, RecordKind, Revision};
use copyseg_sled::{SledCatalog, SledOptions};
use rstest::rstest;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What tells a child which call is to fail, and on which catalog.
const CALL: &str = "COPYSEG_TEST_CALL";
const PATH: &str = "COPYSEG_TEST_CATALOG";

/// Error numbers and call numbers as Linux has them.
const EIO: u32 = 5;
const ENOSPC: u32 = 28;

fn call_number(name: &str) -> i64 {
    match (ARCH, name) {
        ("x86_64", "pwrite64") => 18,
        ("x86_64", "fsync") => 74,
        ("x86_64", "fdatasync") => 75,
        ("x86_64", "sync_file_range") => 277,
        ("aarch64", "pwrite64") => 68,
        ("aarch64", "fsync") => 82,
        ("aarch64", "fdatasync") => 83,
        ("aarch64", "sync_file_range") => 84,
        _ => panic!("the number of {name} on {ARCH} is to be added here"),
    }
}

fn filter(name: &str, error: u32) -> seccompiler::BpfProgram {
    let small = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Lt, 100).unwrap();
    let (name, rules) = match name {
        "small pwrite64" => ("pwrite64", vec![SeccompRule::new(vec![small]).unwrap()]),
        name => (name, vec![]),
    };
    let rules = BTreeMap::from([(call_number(name), rules)]);
    let (allow, fail) = (SeccompAction::Allow, SeccompAction::Errno(error));
    SeccompFilter::new(rules, allow, fail, ARCH.try_into().unwrap()).unwrap().try_into().unwrap()
}

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
        seccompiler::apply_filter(&filter("fdatasync", EIO)).unwrap();
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
                seccompiler::apply_filter_all_threads(&filter(call, error.parse().unwrap())).unwrap();
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
