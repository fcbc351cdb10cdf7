//! One total order, and callers that vanish, panic, nest or wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use copyseg_conformance::{Call, Fault};
use copyseg_core::{
    Batch, Catalog, Error, ErrorKind, Head, JobAction, JobId, Limits, Loaded, ManagerOptions, ManualClock,
    MemoryCatalog, MetaManager, NewJob, Result, Revision,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use rstest::rstest;
use tokio::runtime::Handle;

use super::{Fixture, job, open, stored, task, until_idle, visible};

#[tokio::test]
async fn a_closure_sees_earlier_transactions_that_are_not_yet_durable() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let first = fixture.occupy(1).await;
    let meta = fixture.meta.clone();
    let second = tokio::spawn(async move {
        meta.transact(|txn| {
            let seen = txn.job(JobId(1)).unwrap().reason.clone();
            txn.update_job(JobId(1), [JobAction::Reason(format!("{seen} and second"))])
        })
        .await
    });
    until_idle().await;
    fixture.slow.release_commits();
    first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().unwrap().reason, "first and second");
}

/// Nobody is told of a state that did not last.
#[rstest]
#[case::the_state_lasts(false)]
#[case::the_state_does_not_last(true)]
#[tokio::test]
async fn a_closure_that_writes_nothing_or_fails_answers_once_the_state_it_saw_is_published(
    #[case] refuse: bool,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let first = fixture.occupy(1).await;
    let (reading, failing) = (fixture.meta.clone(), fixture.meta.clone());
    let read =
        tokio::spawn(
            async move { reading.transact(|txn| Ok(txn.job(JobId(1)).unwrap().reason.clone())).await },
        );
    let failed = tokio::spawn(async move {
        failing.transact(|txn| txn.add_job(NewJob { snapshot: "other".into(), ..job(1) }, vec![])).await
    });
    let removed_nothing = {
        let meta = fixture.meta.clone();
        tokio::spawn(async move { meta.remove_job(JobId(404)).await })
    };
    until_idle().await;
    assert!(!read.is_finished() && !failed.is_finished() && !removed_nothing.is_finished());

    if refuse {
        fixture.faults.fail_nth_of(Call::Commit, 0, Fault::Before);
    }
    fixture.slow.release_commits();
    let kind = |error: Error| error.kind();
    if refuse {
        assert_eq!(first.await.unwrap().map_err(kind), Err(ErrorKind::Unavailable));
        assert_eq!(read.await.unwrap().map_err(kind), Err(ErrorKind::Unavailable));
        assert_eq!(failed.await.unwrap().map_err(kind), Err(ErrorKind::Unavailable));
        assert_eq!(removed_nothing.await.unwrap().map_err(kind), Err(ErrorKind::Unavailable));
    } else {
        first.await.unwrap().unwrap();
        assert_eq!(read.await.unwrap().unwrap(), "first");
        let exists = ErrorKind::AlreadyExists { identical: false };
        assert_eq!(failed.await.unwrap().map_err(kind), Err(exists));
        assert!(!removed_nothing.await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_refused_commit_takes_every_transaction_with_it_that_was_accepted_on_top() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let before = visible(&fixture.meta.snapshot().unwrap());
    let first = fixture.occupy(1).await;
    let later: Vec<_> = (0..5).map(|n| fixture.spawn_update(1, &n.to_string())).collect();
    until_idle().await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::Before);
    fixture.slow.release_commits();
    for update in [first].into_iter().chain(later) {
        let error = update.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.chain().contains("planned fault"), "the cause is told: {}", error.chain());
    }
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
    let next = fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap();
    assert_eq!(
        (next.reason.as_str(), next.revision.0),
        ("", before.revision.0 + 1),
        "on the state that lasted"
    );
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

#[tokio::test]
async fn dropping_the_caller_does_not_undo_its_transaction() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let update = fixture.occupy(1).await;
    let behind = fixture.spawn_update(1, "behind");
    until_idle().await;
    for caller in [update, behind] {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    fixture.slow.release_commits();
    fixture.meta.transact(|_| Ok(())).await.unwrap();
    assert_eq!(fixture.reason(1), "behind");
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

#[tokio::test]
async fn a_panic_in_a_closure_rolls_back_and_poisons_nothing() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let before = visible(&fixture.meta.snapshot().unwrap());
    let meta = fixture.meta.clone();
    let panicking = tokio::spawn(async move {
        let change = |txn: &mut copyseg_core::Txn<'_>| -> Result<()> {
            txn.cancel_job(JobId(1), "half done")?;
            txn.allocate_ids(5)?;
            panic!("a bug of the caller")
        };
        meta.transact(change).await
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
    fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap();
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

#[tokio::test]
async fn transact_inside_a_closure_is_an_error_and_no_deadlock() {
    let fixture = Fixture::new().await;
    let meta = fixture.meta.clone();
    let nested = fixture.meta.transact(|_| Ok(meta.transact(|_| Ok(())).now_or_never())).await.unwrap();
    assert_eq!(nested.unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
    // As many tasks as to be added in several batches, by a task that would wait for the closure to end.
    let large = || meta.add_job(job(1), (0..20_000).map(task).collect());
    let nested = fixture.meta.transact(|_| Ok(large().now_or_never())).await.unwrap();
    assert_eq!(nested.unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let nested = fixture.meta.transact(|_| Ok(meta.close().now_or_never())).await.unwrap();
    assert_eq!(nested.unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let read = fixture.meta.transact(|_| meta.snapshot().map(|snapshot| snapshot.revision())).await;
    assert_eq!(read.unwrap(), Revision(0), "reading the published state is fine");
    fixture.add(1, []).await;
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_before_their_closure_runs() {
    let options = ManagerOptions { queue_max: 2, ..ManagerOptions::default() };
    let fixture = Fixture::with(MemoryCatalog::new(), options).await;
    fixture.add(1, []).await;
    let first = fixture.occupy(1).await;
    let second = fixture.spawn_update(1, "second");
    until_idle().await;
    let ran = Arc::new(AtomicBool::new(false));
    let (meta, flag) = (fixture.meta.clone(), Arc::clone(&ran));
    let third = tokio::spawn(async move {
        meta.transact(|_| {
            flag.store(true, Ordering::SeqCst);
            Ok(())
        })
        .await
    });
    let dropped = fixture.spawn_update(1, "never");
    until_idle().await;
    assert!(!ran.load(Ordering::SeqCst), "there is no place for it yet");
    dropped.abort();
    fixture.slow.release_commits();
    for update in [first, second] {
        update.await.unwrap().unwrap();
    }
    third.await.unwrap().unwrap();
    assert!(ran.load(Ordering::SeqCst));
    until_idle().await;
    assert_eq!(fixture.reason(1), "second", "a caller dropped before its turn has done nothing");
}

#[tokio::test]
async fn close_writes_what_was_accepted_answers_everybody_and_refuses_the_rest() {
    let options = ManagerOptions { queue_max: 4, ..ManagerOptions::default() };
    let fixture = Fixture::with(MemoryCatalog::new(), options).await;
    fixture.add(1, []).await;
    let first = fixture.occupy(1).await;
    let accepted: Vec<_> = (0..3).map(|n| fixture.spawn_update(1, &n.to_string())).collect();
    until_idle().await;
    let without_place = fixture.spawn_update(1, "no place");
    let closing = {
        let meta = fixture.meta.clone();
        tokio::spawn(async move { meta.close().await })
    };
    until_idle().await;
    assert!(!closing.is_finished());
    let late = fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).now_or_never();
    if let Some(late) = late {
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
    }
    fixture.slow.release_commits();
    closing.await.unwrap().unwrap();
    for update in [first].into_iter().chain(accepted) {
        update.await.unwrap().unwrap();
    }
    assert_eq!(without_place.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(fixture.meta.snapshot().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(fixture.meta.transact(|_| Ok(())).await.unwrap_err().kind(), ErrorKind::Closed);
    fixture.meta.close().await.unwrap();
    assert_eq!(open(&fixture.store).await.get_job(JobId(1)).unwrap().unwrap().reason, "2");
}

#[tokio::test]
async fn dropping_the_last_handle_does_not_block_and_what_was_accepted_is_still_written() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.occupy(1).await.abort();
    fixture.spawn_update(1, "accepted").now_or_never();
    until_idle().await;
    let Fixture { store, slow, meta, .. } = fixture;
    drop(meta);
    assert_eq!(stored(&store).await.jobs[0].reason, "", "dropping came back while the commit is still held");
    slow.release_commits();
    super::eventually(async || stored(&store).await.jobs[0].reason == "accepted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_returns_after_everybody_was_answered() {
    for _ in 0..500 {
        let meta = open(&MemoryCatalog::new()).await;
        meta.add_job(job(1), vec![]).await.unwrap();
        let mut waiting = Vec::new();
        for rows in 0..64 {
            let mut update = Box::pin(meta.update_job(JobId(1), [JobAction::Rows(rows)]));
            if futures::poll!(&mut update).is_pending() {
                waiting.push(update);
            }
        }
        meta.close().await.unwrap();
        for update in waiting {
            // The runtime makes a task wait that has done much without waiting.
            let update = tokio::task::unconstrained(update);
            let answer = update.now_or_never().expect("a close leaves nobody waiting");
            // Not all had their turn before it.
            assert!(answer.map_or_else(|error| error.kind() == ErrorKind::Closed, |_| true));
        }
    }
}

/// A catalog that does this before each commit.
pub(crate) struct HookedCatalog<F> {
    store: MemoryCatalog,
    hook: F,
    /// Where its committer runs, if it has a runtime of its own.
    pub(crate) runtime: Option<Handle>,
}

impl<F> HookedCatalog<F> {
    pub(crate) fn new(store: MemoryCatalog, hook: F) -> Self {
        Self { store, hook, runtime: None }
    }
}

impl<F> std::fmt::Debug for HookedCatalog<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl<F: Fn() -> Result<()> + Send + Sync> Catalog for HookedCatalog<F> {
    async fn acquire(&self) -> Result<Head> {
        self.store.acquire().await
    }
    async fn load(&self) -> Result<Loaded> {
        self.store.load().await
    }
    async fn commit(&self, expected: &Head, next: &Head, batch: &Batch) -> Result<()> {
        (self.hook)()?;
        self.store.commit(expected, next, batch).await
    }
    async fn head(&self) -> Result<Head> {
        self.store.head().await
    }
    fn limits(&self) -> Limits {
        self.store.limits()
    }
    async fn close(&self) -> Result<()> {
        self.store.close().await
    }

    fn spawn_committer(&self, committer: BoxFuture<'static, ()>) {
        drop(self.runtime.clone().unwrap_or_else(Handle::current).spawn(committer));
    }
}

#[tokio::test]
async fn a_panic_of_the_catalog_leaves_nobody_waiting() {
    let (store, panics) = (MemoryCatalog::new(), Arc::new(AtomicBool::new(false)));
    let catalog = HookedCatalog::new(store.clone(), {
        let panics = Arc::clone(&panics);
        move || {
            assert!(!panics.load(Ordering::SeqCst), "a bug of the catalog");
            Ok(())
        }
    });
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    meta.add_job(job(1), vec![task(11)]).await.unwrap();
    panics.store(true, Ordering::SeqCst);
    let update = |n| meta.update_job(JobId(1), [JobAction::Rows(n)]);
    let (first, second) = tokio::join!(update(1), update(2));
    for answer in [first, second] {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    }
    assert_eq!(update(3).await.unwrap_err().kind(), ErrorKind::Closed, "this one was never sent");
    assert_eq!(meta.snapshot().unwrap_err().kind(), ErrorKind::Closed);
    meta.close().await.unwrap();
    assert_eq!(open(&store).await.get_job(JobId(1)).unwrap().unwrap().rows, None);
}

/// The committer waits a moment for those it has just answered, by a clock that nobody can hold still.
#[tokio::test]
async fn a_clock_that_jumps_during_a_commit_and_then_stands_still_holds_nobody_up() {
    let clock = ManualClock::at(super::NOW);
    let jumping = clock.clone();
    let catalog = HookedCatalog::new(MemoryCatalog::new(), move || {
        jumping.advance(Duration::from_secs(3600));
        Ok(())
    });
    let options = ManagerOptions { clock: Arc::new(clock), ..ManagerOptions::default() };
    let meta = MetaManager::open(Arc::new(catalog), options).await.unwrap();
    for id in [1, 2] {
        meta.add_job(job(id), vec![]).await.unwrap();
    }
    let update = |id| meta.update_job(JobId(id), [JobAction::Rows(1)]);
    let (first, second) = tokio::join!(update(1), update(2));
    first.and(second).unwrap();
    tokio::time::timeout(Duration::from_secs(300), update(1)).await.expect("it is committed alone").unwrap();
}

/// Damage is not cured by trying again, so whoever waits for an outcome that it hides is answered.
#[tokio::test(start_paused = true)]
async fn a_store_that_turns_out_damaged_while_an_outcome_is_unknown_leaves_nobody_waiting() {
    let (store, is_damaged) = (MemoryCatalog::new(), Arc::new(AtomicBool::new(false)));
    let catalog = HookedCatalog::new(store.clone(), {
        let (commits, is_damaged) = (AtomicUsize::new(0), Arc::clone(&is_damaged));
        move || match (is_damaged.load(Ordering::SeqCst), commits.fetch_add(1, Ordering::SeqCst)) {
            (false, _) => {
                commits.store(0, Ordering::SeqCst);
                Ok(())
            }
            (true, 0) => Err(Error::new(ErrorKind::OutcomeUnknown, "no answer")),
            (true, _) => Err(Error::new(ErrorKind::Corrupt, "page 7 is gone")),
        }
    });
    let meta = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    meta.add_job(job(1), vec![]).await.unwrap();
    is_damaged.store(true, Ordering::SeqCst);
    let update = |n| meta.update_job(JobId(1), [JobAction::Rows(n)]);
    let answer = tokio::time::timeout(Duration::from_secs(600), update(1)).await.unwrap().unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::OutcomeUnknown);
    assert!(answer.chain().contains("page 7 is gone"), "{}", answer.chain());
    assert_eq!(update(2).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(meta.snapshot().unwrap_err().kind(), ErrorKind::Corrupt);
    meta.close().await.unwrap();
}

/// The runtime that opened the manager may end, even before the committer has run for the first time.
#[test]
fn a_manager_that_outlives_its_runtime_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let store = MemoryCatalog::new();
    runtime().block_on(async { open(&store).await.add_job(job(1), vec![]).await }).unwrap();
    let meta = runtime().block_on(open(&store));
    let update = async {
        let update = meta.update_job(JobId(1), [JobAction::Rows(1)]);
        tokio::time::timeout(Duration::from_secs(300), update).await
    };
    let answer = runtime().block_on(update).expect("nobody waits for ever");
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Closed);
}

/// Trying again would not help, so nobody is advised to.
#[tokio::test(start_paused = true)]
async fn a_catalog_that_was_closed_ends_its_manager() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.faults.close().await.unwrap();
    for _ in 0..2 {
        let update = fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]);
        assert_eq!(update.await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_was_closed_before_an_outcome_was_known_leaves_it_unknown() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::Lost);
    let update = fixture.spawn_update(1, "never");
    super::eventually(async || fixture.faults.faults_injected() > 0).await;
    fixture.faults.close().await.unwrap();
    assert_eq!(update.await.unwrap().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn any_number_is_fine_as_an_option() {
    for number in [0, usize::MAX] {
        let options = ManagerOptions { queue_max: number, lag_max: number, ..ManagerOptions::default() };
        let fixture = Fixture::with(MemoryCatalog::new(), options).await;
        let _subscription = fixture.meta.subscribe().unwrap();
        fixture.add(1, []).await;
    }
}
