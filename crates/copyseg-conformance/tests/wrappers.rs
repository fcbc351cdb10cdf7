//! The wrappers keep the contract when nothing is planned, and fail exactly as planned.

use std::sync::Arc;

use async_trait::async_trait;
use copyseg_conformance::{Call, CrashCatalog, Fault, FaultyCatalog, Fixture, SlowCatalog};
use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, Limits, MemoryCatalog, Operation, RecordKey, RecordKind, Result,
    Revision,
};
use futures::{FutureExt, TryStreamExt};
use rstest::rstest;

/// Every wrapper around memory, and limits as small as the contract allows.
struct Wrapped(MemoryCatalog);

#[async_trait]
impl Fixture for Wrapped {
    async fn open(&self) -> Arc<dyn Catalog> {
        let crashing = CrashCatalog::new(Arc::new(self.0.clone()));
        let slow = SlowCatalog::new(Arc::new(crashing));
        Arc::new(FaultyCatalog::new(Arc::new(slow)))
    }

    async fn open_after_kill(&self) -> Arc<dyn Catalog> {
        self.open().await
    }
}

mod keep_the_contract {
    use super::*;

    const SMALLEST: Limits =
        Limits { operations_max: Limits::OPERATIONS_MIN, bytes_max: Limits::BYTES_MIN, commits_max: 1 };

    copyseg_conformance::suite!(Wrapped(MemoryCatalog::with_limits(SMALLEST)));
}

fn next(head: &Head) -> Head {
    Head { batch: head.batch.wrapping_add(1), revision: Revision(head.revision.0 + 1), ..*head }
}

fn batch() -> Batch {
    let key = RecordKey { kind: RecordKind::Job, id: 1 };
    Batch::from_iter([Operation::Put(key, [1].into())])
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[rstest]
#[case::before(Fault::Before, ErrorKind::Unavailable, 0)]
#[case::after(Fault::After, ErrorKind::OutcomeUnknown, 1)]
#[case::lost(Fault::Lost, ErrorKind::OutcomeUnknown, 0)]
#[case::late(Fault::Late, ErrorKind::OutcomeUnknown, 0)]
#[tokio::test]
async fn a_fault_is_applied_or_not_as_its_name_says(
    #[case] fault: Fault,
    #[case] expected: ErrorKind,
    #[case] applied: u64,
) {
    let faulty = FaultyCatalog::new(Arc::new(MemoryCatalog::new()));
    let head = faulty.acquire().await.expect("no fault yet");
    faulty.fail_nth_of(Call::Commit, 0, fault);
    assert_eq!(kind(faulty.commit(&head, &next(&head), &batch()).await), Some(expected));
    assert_eq!(faulty.commits(), applied);
    let stored = if applied == 1 { next(&head) } else { head };
    assert_eq!(faulty.head().await.expect("reads are not failed"), stored);
    assert_eq!((faulty.faults_injected(), faulty.calls()), (1, 3));
}

#[tokio::test]
async fn a_late_commit_arrives_ahead_of_the_next_one() {
    let faulty = FaultyCatalog::new(Arc::new(MemoryCatalog::new()));
    let head = faulty.acquire().await.expect("no fault yet");
    faulty.fail_nth(0, Fault::Late);
    assert_eq!(kind(faulty.commit(&head, &next(&head), &batch()).await), Some(ErrorKind::OutcomeUnknown));
    assert_eq!(faulty.head().await.expect("a read"), head, "a read does not learn the outcome");
    assert_eq!(kind(faulty.commit(&head, &next(&head), &batch()).await), Some(ErrorKind::Fenced));
    assert_eq!(faulty.head().await.expect("a read"), next(&head));
    assert_eq!(faulty.commits(), 1);
}

#[rstest]
#[tokio::test]
async fn a_read_that_fails_is_unavailable(#[values(Call::Head, Call::Load, Call::Close)] call: Call) {
    for fault in Fault::ALL {
        let faulty = FaultyCatalog::new(Arc::new(MemoryCatalog::new()));
        faulty.fail_nth_of(call, 1, fault);
        for expected in [None, Some(ErrorKind::Unavailable)] {
            let failed = match call {
                Call::Head => kind(faulty.head().await),
                Call::Load => kind(faulty.load().await),
                _ => kind(faulty.close().await),
            };
            assert_eq!(failed, expected);
        }
    }
}

#[tokio::test]
async fn a_load_can_break_off_between_pages() {
    let memory = MemoryCatalog::new();
    let head = memory.acquire().await.expect("memory is there");
    let puts = (0..5000).map(|id| Operation::Put(RecordKey { kind: RecordKind::Task, id }, [].into()));
    memory.commit(&head, &next(&head), &Batch::from_iter(puts)).await.expect("memory is there");
    let faulty = FaultyCatalog::new(Arc::new(memory));
    faulty.fail_nth_of(Call::Page, 2, Fault::Before);
    let mut pages = faulty.load().await.expect("no fault yet").pages;
    assert!(pages.try_next().await.is_ok_and(|page| page.is_some()));
    assert!(pages.try_next().await.is_ok_and(|page| page.is_some()));
    assert_eq!(kind(pages.try_next().await), Some(ErrorKind::Unavailable));
    assert!(pages.try_next().await.is_ok_and(|page| page.is_none()), "nothing comes after an error");
}

#[tokio::test]
async fn a_fault_of_every_call_lasts_until_it_is_healed() {
    let faulty = FaultyCatalog::new(Arc::new(MemoryCatalog::new()));
    faulty.fail_every(Call::Acquire, Fault::Before);
    for _ in 0..3 {
        assert_eq!(kind(faulty.acquire().await), Some(ErrorKind::Unavailable));
        assert!(faulty.head().await.is_ok());
    }
    faulty.heal();
    assert!(faulty.acquire().await.is_ok());
}

#[tokio::test]
async fn a_held_commit_reaches_the_storage_only_when_released() {
    let slow = SlowCatalog::new(Arc::new(MemoryCatalog::new()));
    let head = slow.acquire().await.expect("memory is there");
    slow.hold_commits();
    assert!(slow.commit_held().now_or_never().is_none(), "no commit is held yet");
    let (next, batch) = (next(&head), batch());
    let mut commit = slow.commit(&head, &next, &batch);
    for _ in 0..10 {
        assert!((&mut commit).now_or_never().is_none());
    }
    slow.commit_held().await;
    assert_eq!(slow.head().await.expect("reads pass"), head);
    drop(commit);
    assert!(slow.commit_held().now_or_never().is_none(), "a dropped commit is not held any more");
    slow.release_commits();
    assert!(slow.commit(&head, &next, &batch).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_commit_takes_its_time() {
    let delay = std::time::Duration::from_millis(50);
    let slow = SlowCatalog::with_delay(Arc::new(MemoryCatalog::new()), delay);
    let head = slow.acquire().await.expect("memory is there");
    let start = tokio::time::Instant::now();
    slow.commit(&head, &next(&head), &batch()).await.expect("memory is there");
    assert_eq!(start.elapsed(), delay);
}

#[tokio::test]
async fn a_crash_after_some_calls_lets_no_later_call_through() {
    let storage = MemoryCatalog::new();
    let process = CrashCatalog::new(Arc::new(storage.clone()));
    let head = process.acquire().await.expect("not crashed yet");
    process.crash_after(1);
    assert!(!process.crashed());
    let first = next(&head);
    assert!(process.commit(&head, &first, &batch()).await.is_ok());
    assert!(process.crashed());
    assert_eq!(kind(process.commit(&first, &next(&first), &batch()).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(process.acquire().await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(process.load().await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(process.head().await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(process.close().await), Some(ErrorKind::Unavailable));
    assert_eq!(storage.head().await.expect("the storage outlives the process"), first);
}

#[tokio::test]
async fn a_crash_counts_calls_under_way_as_made_before_and_closes_the_storage() {
    let storage = Arc::new(MemoryCatalog::new());
    let process = CrashCatalog::new(storage.clone());
    let head = process.acquire().await.expect("not crashed yet");
    let (next, batch) = (next(&head), batch());
    let (committed, crashed) = futures::join!(process.commit(&head, &next, &batch), process.crash());
    crashed.expect("memory can be closed");
    assert!(committed.is_ok());
    assert_eq!(kind(storage.head().await), Some(ErrorKind::Closed));
    assert_eq!(MemoryCatalog::clone(&storage).head().await.expect("opened again"), next);
}
