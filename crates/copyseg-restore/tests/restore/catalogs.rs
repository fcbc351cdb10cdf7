//! A catalog that is slow, or takes no changes, for a moment or for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{Error, ErrorKind, JobState, ManagerOptions, MetaManager, Result};
use copyseg_restore::{
    Assignment, CancellationToken, Failure, FailureKind, Outcome, RestoreOptions, RestoreRequest,
    restore_with,
};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::fixture::{CATALOG, Fixture, completed, hooked, quick, run};
use crate::store::{Fate, TestStore};

async fn faulty(fixture: &Fixture) -> (Arc<FaultyCatalog>, MetaManager) {
    let catalog = Arc::new(FaultyCatalog::new(Arc::new(fixture.catalog.clone())));
    let options = ManagerOptions { clock: Arc::new(fixture.clock.clone()), ..ManagerOptions::default() };
    let manager = MetaManager::open(catalog.clone(), options).await.unwrap();
    (catalog, manager)
}

#[tokio::test]
async fn a_catalog_that_refuses_any_one_change_ends_no_restore() {
    for commit in 0.. {
        let fixture = Fixture::new().await;
        let (catalog, manager) = faulty(&fixture).await;
        catalog.fail_nth_of(Call::Commit, commit, Fault::Before);
        let outcome = run(&manager, CATALOG, &fixture.request()).await;
        assert!(outcome.as_ref().is_ok_and(completed), "commit {commit}: {outcome:?}");
        fixture.assert_restored().await;
        if catalog.faults_injected() == 0 {
            assert!(commit >= 7, "{commit} commits were refused");
            return;
        }
    }
}

/// Restores with a worker whose catalog takes no changes from the moment that it runs.
async fn refused(
    fixture: &Fixture,
    change: impl FnOnce(&mut RestoreRequest),
    before: impl Fn(&Assignment) -> BoxFuture<'static, std::result::Result<(), Failure>> + Send + Sync + 'static,
) -> Error {
    let (catalog, manager) = faulty(fixture).await;
    let mut request = fixture.request();
    change(&mut request);
    let worker = hooked(&request, move |assignment| {
        catalog.fail_every(Call::Commit, Fault::Before);
        before(assignment)
    });
    let (progress, stop) = (tokio::sync::watch::Sender::default(), CancellationToken::new());
    let ended = restore_with(&manager, CATALOG, &request, worker, &progress, &stop);
    let outcome: Result<Outcome> =
        tokio::time::timeout(Duration::from_secs(3600), ended).await.expect("it does not wait for ever");
    outcome.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn workers_that_fall_silent_do_not_hide_that_the_catalog_is_gone() {
    let fixture = Fixture::new().await;
    let clock = fixture.clock.clone();
    let change = |request: &mut RestoreRequest| {
        request.options.segments_per_task = Some(1);
        request.options.heartbeat_timeout = Duration::from_millis(40);
    };
    let error = refused(&fixture, change, move |_| {
        clock.advance(Duration::from_millis(50));
        std::future::pending().boxed()
    });
    let error = error.await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("storage refused the change"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_needs_help_is_said_at_once_even_if_the_catalog_needs_it_too() {
    let mut fixture = Fixture::new().await;
    let start = tokio::time::Instant::now();
    let error = refused(
        &fixture,
        |_| {},
        |_| {
            let mut failure = Failure::transient("the disk of /restored is full: make room");
            failure.kind = FailureKind::Blocked;
            async { Err(failure) }.boxed()
        },
    );
    let error = error.await;
    assert!(error.to_string().contains("make room"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    fixture.restart().await;
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_fails_the_job_even_if_the_target_does_not_answer() {
    let fixture = Fixture::empty().await;
    let (source, target) = (TestStore::new(), TestStore::new());
    source.put_text("nightly/1/ids.npy", "one").await;
    let mut request = quick(RestoreRequest {
        source: source.location("nightly"),
        target: target.location("restored"),
        options: RestoreOptions::default(),
    });
    request.options.deadline = Some(Duration::from_secs(60));
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = is_gone.clone();
    target.hook(move |_| {
        let is_gone = gone.load(Ordering::SeqCst);
        async move { if is_gone { std::future::pending().await } else { Fate::Proceed } }.boxed()
    });
    let clock = fixture.clock.clone();
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |_| {
        is_gone.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_secs(100));
        async { Ok(()) }.boxed()
    });
    let outcome = tokio::time::timeout(Duration::from_secs(3600), outcome).await.expect("it ends").unwrap();
    let Outcome::Failed { job, reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("the deadline of the restore"), "{reason}");
    assert_eq!(fixture.job(job).state, JobState::Failed);
}
