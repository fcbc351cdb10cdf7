//! Full batches that are sent while the one before them is under way, where the store takes that.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use copyseg_conformance::{Call, Fault};
use copyseg_core::{
    Catalog, Error, ErrorKind, Job, JobAction, JobId, Limits, ManagerOptions, MemoryCatalog, RecordKind,
    Result, Txn,
};
use futures::future::join_all;
use futures::poll;
use rstest::rstest;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::committer::HookedCatalog;
use super::{Fixture, TINY, job, open, records, stored, visible};

/// Two commits at once, of four records.
const TWO: Limits = Limits { commits_max: 2, ..TINY };

/// So many jobs as fill three batches.
const JOBS: i64 = 12;

async fn fixture(limits: Limits) -> Fixture {
    let fixture = Fixture::on(MemoryCatalog::with_limits(limits)).await;
    for id in 0..=JOBS {
        fixture.add(id, []).await;
    }
    fixture
}

/// Has a commit of one change under way, which is held, and so many changes of other jobs behind it.
async fn queue(fixture: &Fixture, changes: i64) -> Vec<JoinHandle<Result<Arc<Job>>>> {
    let first = fixture.occupy(0).await;
    let behind = (1..=changes).map(|id| fixture.spawn_update(id, "behind"));
    [first].into_iter().chain(behind).collect()
}

/// The kinds of the errors that callers were answered with.
async fn errors(updates: Vec<JoinHandle<Result<Arc<Job>>>>) -> Vec<Option<ErrorKind>> {
    let answers = tokio::time::timeout(Duration::from_secs(600), join_all(updates)).await;
    let answers = answers.expect("nobody waits for ever").into_iter();
    answers.map(|answer| answer.unwrap().err().map(|error| error.kind())).collect()
}

async fn two_held(fixture: &Fixture) {
    let held = fixture.slow.commits_held(2);
    tokio::time::timeout(Duration::from_secs(60), held).await.expect("a second one is sent");
}

async fn are_held(fixture: &Fixture, commits: usize) -> bool {
    // Longer than until one may be sent, in time that stands still.
    tokio::time::sleep(Duration::from_secs(60)).await;
    poll!(pin!(fixture.slow.commits_held(commits))).is_ready()
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_leaves_while_the_one_before_is_under_way_and_is_applied_behind_it() {
    let fixture = fixture(TWO).await;
    let commits = fixture.faults.commits();
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    assert!(!are_held(&fixture, 3).await, "no more than the store takes at once");
    assert_eq!(fixture.reason(1), "", "nothing is shown before it is durable");
    fixture.slow.release_commits();
    assert_eq!(errors(updates).await, [None; 13]);
    assert_eq!(fixture.faults.commits(), commits + 4);
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

/// What comes meanwhile goes with it.
#[rstest]
#[case::a_batch_that_is_not_full(TWO, 3)]
#[case::a_store_that_takes_one_at_a_time(TINY, JOBS)]
#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_the_one_before(#[case] limits: Limits, #[case] changes: i64) {
    let fixture = fixture(limits).await;
    let updates = queue(&fixture, changes).await;
    assert!(!are_held(&fixture, 2).await);
    fixture.slow.release_commits();
    assert!(errors(updates).await.iter().all(Option::is_none));
}

/// Each of four commits fails in turn, alone or with others, and has another under way before it or behind it.
#[rstest]
#[tokio::test(start_paused = true)]
async fn memory_equals_storage_whatever_fails_while_two_are_under_way(
    #[values(Fault::Before, Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
    #[values(&[0], &[1], &[2], &[3], &[0, 1], &[0, 2], &[1, 2], &[1, 3], &[0, 1, 2])] commits: &[u64],
) {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    for commit in commits {
        fixture.faults.fail_nth_of(Call::Commit, *commit, fault);
    }
    fixture.slow.release_commits();
    let errors = errors(updates).await;
    assert!(fixture.faults.faults_injected() > 0);
    fixture.faults.heal();

    let seen = visible(&fixture.meta.snapshot().unwrap());
    assert_eq!(stored(&fixture.store).await, seen, "memory equals storage");
    for (job, error) in seen.jobs.iter().zip(&errors) {
        match error {
            None => assert_ne!(job.reason, "", "job {}: Ok means done", job.id),
            Some(kind) => {
                let settled = (ErrorKind::Unavailable, Fault::Before);
                assert_eq!((*kind, fault), settled, "an unknown outcome is settled, not reported");
                assert_eq!(job.reason, "", "job {}: nothing was changed", job.id);
            }
        }
    }
    let last = fixture.meta.update_job(JobId(0), [JobAction::Rows(1)]).await.unwrap();
    assert_eq!(last.revision.0, seen.revision.0 + 1);
    fixture.meta.close().await.unwrap();
    assert_eq!(open(&fixture.store).await.get_job(JobId(0)).unwrap().unwrap(), last);
}

/// It is known that it was not applied, so that it is sent again as if for the first time.
#[tokio::test(start_paused = true)]
async fn a_batch_that_came_before_the_one_it_builds_upon_is_sent_again_at_once() {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, 4).await;
    two_held(&fixture).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::Lost);
    let start = Instant::now();
    fixture.slow.release_commits();
    assert_eq!(errors(updates).await, [None; 5]);
    assert!(
        start.elapsed() < Duration::from_millis(15),
        "10 for the one that was lost: {:?}",
        start.elapsed()
    );
}

/// It builds upon the one before it, whose answer was lost.
#[tokio::test(start_paused = true)]
async fn a_batch_that_was_applied_tells_that_the_one_before_it_was() {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, 4).await;
    two_held(&fixture).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::After);
    fixture.faults.fail_nth_of(Call::Commit, 2, Fault::Lost);
    fixture.slow.release_commits();
    assert_eq!(errors(updates).await, [None; 5]);
    assert_eq!(fixture.faults.faults_injected(), 1, "nothing is sent again");
}

#[tokio::test]
async fn a_takeover_fences_both_batches_under_way() {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    let second = open(&fixture.store).await;
    fixture.slow.release_commits();
    assert_eq!(errors(updates).await, [Some(ErrorKind::Fenced); 13]);
    assert_eq!(second.get_job(JobId(1)).unwrap().unwrap().reason, "");
}

/// Both were applied, or the first, or none; the one that took over knows. The head tells of it where commits stay without
/// an answer.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_takeover_before_the_outcome_is_known_leaves_it_unknown_for_both(
    #[values(Fault::After, Fault::Lost)] fault: Fault,
    #[values(true, false)] heals: bool,
) {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    fixture.faults.fail_every(Call::Commit, fault);
    fixture.faults.fail_every(Call::Head, Fault::Before);
    fixture.slow.release_commits();
    super::eventually(async || fixture.faults.faults_injected() > 1).await;
    let _second = open(&fixture.store).await;
    fixture.faults.heal();
    if !heals {
        fixture.faults.fail_every(Call::Commit, fault);
    }
    let (unknown, fenced) = (Some(ErrorKind::OutcomeUnknown), Some(ErrorKind::Fenced));
    assert_eq!(errors(updates).await, [&[unknown; 5][..], &[fenced; 8]].concat());
}

/// What happens to the store for good, at the first or the second of two commits, or once both are applied.
#[derive(Debug, Clone, Copy)]
enum End {
    Closed,
    Damaged,
    Panic,
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_store_that_ends_while_two_are_under_way_leaves_nobody_waiting(
    #[values(End::Closed, End::Damaged, End::Panic)] end: End,
    #[values(0, 1, 2)] commits_before: usize,
) {
    let (store, left) = (MemoryCatalog::with_limits(TWO), Arc::new(AtomicUsize::new(usize::MAX)));
    let hook = {
        let left = Arc::clone(&left);
        // It stays at nothing left.
        let is_over = move || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err();
        move || match end {
            _ if !is_over() => Ok(()),
            End::Closed => Err(Error::new(ErrorKind::Closed, "closed by somebody else")),
            End::Damaged => Err(Error::new(ErrorKind::Corrupt, "page 7 is gone")),
            End::Panic => panic!("a bug of the catalog"),
        }
    };
    let catalog = Arc::new(HookedCatalog::new(store.clone(), hook));
    let fixture = Fixture::over(catalog, store, ManagerOptions::default()).await;
    for id in 0..=JOBS {
        fixture.add(id, []).await;
    }
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    left.store(commits_before, SeqCst);
    fixture.slow.release_commits();
    let errors = errors(updates).await;

    // A panic ends all that were sent, before any of them has an answer; of what was never sent it is known that it was not
    // applied.
    let (sent, unsent) = match end {
        End::Closed => (ErrorKind::Closed, ErrorKind::Closed),
        End::Damaged => (ErrorKind::Corrupt, ErrorKind::Corrupt),
        End::Panic => (ErrorKind::OutcomeUnknown, ErrorKind::Closed),
    };
    let applied = match (end, commits_before) {
        (_, 0) | (End::Panic, 1) => 0,
        (_, 1) => 1,
        _ => 5,
    };
    assert_eq!(errors[..applied], vec![None; applied]);
    assert_eq!(errors[applied..5.max(applied)], vec![Some(sent); 5 - applied]);
    // Once one is applied, the next may have been sent.
    let (maybe_sent, waiting) = errors[5.max(applied)..].split_at(4 * commits_before);
    assert!(maybe_sent.iter().all(|error| [Some(sent), Some(unsent)].contains(error)));
    assert!(waiting.iter().all(|error| *error == Some(unsent)));
    let reasons: Vec<_> = stored(&fixture.store).await.jobs.iter().map(|job| job.reason.clone()).collect();
    assert!(reasons[..applied].iter().all(|reason| !reason.is_empty()), "Ok means durable");
    assert!(reasons[5..].iter().all(String::is_empty));
    fixture.meta.close().await.unwrap();
}

#[tokio::test]
async fn a_close_waits_for_both_batches_under_way() {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    let mut closing = pin!(fixture.meta.close());
    assert!(poll!(&mut closing).is_pending());
    fixture.slow.release_commits();
    closing.await.unwrap();
    assert_eq!(errors(updates).await, [None; 13]);
}

/// It is asked once more, and then the one that opens the store next knows.
#[rstest]
#[case::neither_was_applied(Fault::Lost, Some(ErrorKind::OutcomeUnknown))]
#[case::the_head_says_that_they_were(Fault::After, None)]
#[tokio::test(start_paused = true)]
async fn a_close_before_the_outcome_is_known_waits_for_it_no_longer_than_it_has_to(
    #[case] fault: Fault,
    #[case] expected: Option<ErrorKind>,
) {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, 4).await;
    two_held(&fixture).await;
    fixture.faults.fail_every(Call::Commit, fault);
    fixture.slow.release_commits();
    fixture.meta.close().await.unwrap();
    assert_eq!(errors(updates).await, [expected; 5]);
    let is_stored = stored(&fixture.store).await.jobs[..5].iter().all(|job| !job.reason.is_empty());
    assert_eq!(is_stored, expected.is_none());
}

/// What is fenced was not applied, whenever the head says by whom.
#[tokio::test(start_paused = true)]
async fn a_takeover_is_told_as_one_though_the_head_cannot_be_read_at_first() {
    let fixture = fixture(TWO).await;
    let updates = queue(&fixture, JOBS).await;
    two_held(&fixture).await;
    let _second = open(&fixture.store).await;
    fixture.faults.fail_nth_of(Call::Head, 0, Fault::Before);
    fixture.slow.release_commits();
    assert_eq!(errors(updates).await, [Some(ErrorKind::Fenced); 13]);
    assert_eq!(fixture.faults.faults_injected(), 1);
}

/// The batch before it decides whether a record is there.
#[rstest]
#[case::new_ones_that_are_removed(100..104, true)]
#[case::old_ones_that_are_added_again(0..4, false)]
#[tokio::test]
async fn a_record_is_counted_once_though_the_batch_that_changed_it_is_under_way(
    #[case] ids: Range<i64>,
    #[case] is_new: bool,
) {
    let fixture = fixture(TWO).await;
    fixture.slow.hold_commits();
    let change = |adds| {
        let (meta, mut ids) = (fixture.meta.clone(), ids.clone());
        async move {
            let add = |txn: &mut Txn<'_>, id| txn.add_job(job(id), vec![]).map(drop);
            let remove = |txn: &mut Txn<'_>, id| txn.remove_job(JobId(id)).map(drop);
            meta.transact(|txn| ids.try_for_each(|id| if adds { add(txn, id) } else { remove(txn, id) }))
                .await
        }
    };
    let second = async {
        // Not in one batch.
        fixture.slow.commit_held().await;
        change(!is_new).await
    };
    let release = async {
        two_held(&fixture).await;
        fixture.slow.release_commits();
    };
    let (first, second, ()) = tokio::join!(change(is_new), second, release);
    first.and(second).unwrap();
    let head = fixture.store.head().await.unwrap();
    let jobs = records(&fixture.store).await.into_keys().filter(|key| key.kind == RecordKind::Job).count();
    assert_eq!((head.counts.0[RecordKind::Job as usize], jobs as i64), (jobs as u64, JOBS + 1));
}
