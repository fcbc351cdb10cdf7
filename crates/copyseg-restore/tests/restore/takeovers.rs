//! A run that is no longer the one: its catalog is another process's, its target another restore's, or its catalog is
//! gone.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{ErrorKind, JobState, ManagerOptions, MetaManager};
use copyseg_restore::{
    CancellationToken, Failure, FailureKind, Manifest, Outcome, RestoreOptions, RestoreRequest, restore_with,
};
use futures::FutureExt;
use rstest::rstest;
use tokio::sync::Notify;

use crate::fixture::{CATALOG, Fixture, completed, hooked, quick, run};
use crate::owners::{OTHER_CATALOG, begin, other_manager, other_source};
use crate::store::{Fate, TestStore};

/// What tells one file from another of the same content.
fn identities(fixture: &Fixture) -> BTreeMap<String, (u64, i64, i64)> {
    let identity = |name: String| {
        let metadata = std::fs::metadata(fixture.target().join(&name)).unwrap();
        (name, (metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec()))
    };
    fixture.target_files().into_keys().map(identity).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stood_still_while_another_finished_its_job_changes_nothing_and_is_fenced() {
    let mut fixture = Fixture::new().await;
    let (frozen, woken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (frozen.clone(), woken.clone());
    let first =
        tokio::spawn(fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), move |_| {
            let (tell, wait) = (tell.clone(), wait.clone());
            async move {
                tell.notify_one();
                wait.notified().await;
                Ok(())
            }
            .boxed()
        }));
    frozen.notified().await;
    fixture.restart().await;
    // The name of the catalog keeps two runs of one process apart, as these are not.
    assert!(completed(&run(&fixture.manager, OTHER_CATALOG, &fixture.request()).await.unwrap()));
    fixture.assert_restored().await;
    let before = identities(&fixture);
    woken.notify_one();
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(identities(&fixture), before, "nothing was copied again");
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_run_that_was_replaced_while_a_commit_was_on_its_way_is_fenced() {
    let mut fixture = Fixture::new().await;
    let catalog = Arc::new(FaultyCatalog::new(Arc::new(fixture.catalog.clone())));
    let replaced = MetaManager::open(catalog.clone(), ManagerOptions::default()).await.unwrap();
    catalog.fail_nth_of(Call::Commit, 0, Fault::Lost);
    fixture.restart().await;
    let error = run(&replaced, CATALOG, &fixture.request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(completed(&fixture.restore().await.unwrap()));
}

#[tokio::test]
async fn a_run_that_was_replaced_while_it_said_why_it_is_blocked_is_fenced() {
    let fixture = Fixture::new().await;
    let catalog = Arc::new(FaultyCatalog::new(Arc::new(fixture.catalog.clone())));
    let replaced = MetaManager::open(catalog.clone(), ManagerOptions::default()).await.unwrap();
    let store = Arc::new(fixture.catalog.clone());
    let worker = hooked(&fixture.request(), move |_| {
        catalog.fail_nth_of(Call::Commit, 0, Fault::Before);
        catalog.fail_nth_of(Call::Commit, 1, Fault::Lost);
        let store = store.clone();
        async {
            MetaManager::open(store, ManagerOptions::default()).await.unwrap();
            Err(Failure { kind: FailureKind::Blocked, ..Failure::transient("the disk is full") })
        }
        .boxed()
    });
    let (progress, stop) = (tokio::sync::watch::Sender::default(), CancellationToken::new());
    let outcome = restore_with(&replaced, CATALOG, &fixture.request(), worker, &progress, &stop).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_run_whose_target_was_taken_over_ends_soon_even_if_nothing_of_it_fails() {
    let fixture = Fixture::new().await;
    let copying = Arc::new(Notify::new());
    let tell = copying.clone();
    let first = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), move |assignment| {
        tell.notify_one();
        let assignment = assignment.clone();
        async move {
            loop {
                assignment.beat();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        .boxed()
    });
    let mut request = other_source(&fixture);
    request.options.take_over = true;
    let other = other_manager().await;
    let second = async {
        copying.notified().await;
        run(&other, OTHER_CATALOG, &request).await
    };
    let both = async { tokio::join!(first, second) };
    let (first, second) = tokio::time::timeout(Duration::from_secs(300), both).await.unwrap();
    assert!(completed(&second.unwrap()));
    let Outcome::Failed { job, reason, .. } = first.unwrap() else { panic!() };
    assert!(reason.contains("took it over") && reason.contains(OTHER_CATALOG), "{reason}");
    assert_eq!(fixture.job(job).state, JobState::Failed);
    assert_eq!(fixture.manifest().await.unwrap().source, request.source.to_string());
    assert_eq!(fixture.target_files().len(), 3, "one file and two records");
}

#[tokio::test]
async fn an_owner_record_that_was_removed_is_written_again_by_the_next_run() {
    let mut fixture = Fixture::new().await;
    begin(&fixture).await;
    let owner = fixture.target().join("_copyseg/owner");
    let before = std::fs::read(&owner).unwrap();
    std::fs::remove_file(&owner).unwrap();
    // Not for anybody else.
    let error = run(&other_manager().await, OTHER_CATALOG, &fixture.request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");

    fixture.restart().await;
    copyseg_restore::check(&fixture.request(), "memory:").await.unwrap();
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
    let restore = |content: &[u8]| -> String {
        let owner: serde_json::Value = serde_json::from_slice(content).unwrap();
        owner["restore"].as_str().unwrap().to_owned()
    };
    assert_eq!(restore(&std::fs::read(&owner).unwrap()), restore(&before));
}

#[tokio::test]
async fn an_owner_record_that_is_removed_while_a_restore_runs_is_written_again_by_it() {
    let fixture = Fixture::new().await;
    let owner = fixture.target().join("_copyseg/owner");
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), move |_| {
        std::fs::remove_file(&owner).unwrap();
        async { Ok(()) }.boxed()
    });
    assert!(completed(&outcome.await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_target_that_was_cleared_while_a_restore_runs_fails_it_and_can_be_restored_into_again() {
    let fixture = Fixture::new().await;
    let target = fixture.target();
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), move |_| {
        let _ = std::fs::remove_dir_all(&target);
        std::future::pending().boxed()
    });
    let Outcome::Failed { reason, target_cleared, .. } = outcome.await.unwrap() else { panic!() };
    assert!(reason.contains("somebody cleared the target") && target_cleared, "{reason}");
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_staging_folder_that_somebody_removed_ends_the_run_but_not_the_job() {
    let mut fixture = Fixture::new().await;
    let staging = fixture.target().join("_copyseg/staging");
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), move |_| {
        std::fs::remove_dir_all(&staging).unwrap();
        async { Ok(()) }.boxed()
    });
    let error = outcome.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("run the same restore again"), "{error}");
    assert_eq!(fixture.jobs()[0].state, JobState::Executing);
    fixture.restart().await;
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
}

/// Of two that take over from a third, the slower one stands still at any of its calls until the faster one is done.
#[tokio::test]
async fn a_losing_takeover_harms_nothing_of_the_winner_wherever_it_stood_still() {
    let mut reached = 0;
    for number in 0.. {
        let (fixture, source, target) = (Fixture::empty().await, TestStore::new(), TestStore::new());
        for segment in 1..=2 {
            source.put_text(&format!("nightly/{segment}/ids.npy"), format!("segment {segment}")).await;
        }
        let request = quick(RestoreRequest {
            source: source.location("nightly"),
            target: target.location("restored"),
            options: RestoreOptions::default(),
        });
        let stop = CancellationToken::new();
        let signal = stop.clone();
        let begun = fixture.restore_hooked(&request, &stop, move |_| {
            signal.cancel();
            std::future::pending().boxed()
        });
        assert!(matches!(begun.await.unwrap(), Outcome::Stopped { .. }));

        let mut taking = request.clone();
        taking.options.take_over = true;
        let (winner, loser) = (other_manager().await, other_manager().await);
        let (still, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (still.clone(), done.clone());
        let once = Arc::new(std::sync::atomic::AtomicBool::new(true));
        target.hook(move |call| {
            let first = call.number == number && once.swap(false, std::sync::atomic::Ordering::SeqCst);
            let (tell, wait) = (tell.clone(), wait.clone());
            async move {
                if first {
                    tell.notify_one();
                    wait.notified().await;
                }
                Fate::Proceed
            }
            .boxed()
        });
        let slow = run(&loser, "redb:///loser", &taking);
        let fast = async {
            still.notified().await;
            let won = run(&winner, "redb:///winner", &taking).await;
            done.notify_one();
            won
        };
        let mut slow = std::pin::pin!(slow);
        let mut fast = std::pin::pin!(fast);
        let won = tokio::select! {
            lost = &mut slow => {
                assert!(completed(&lost.unwrap()), "it never stood still");
                break;
            }
            won = &mut fast => won,
        };
        let lost = slow.await;
        reached += 1;
        let manifest = Manifest::read(&request.target).await.unwrap();
        let completed_by = [&won, &lost].iter().filter(|it| it.as_ref().is_ok_and(completed)).count();
        assert_eq!(completed_by, 1, "call {number}: {won:?} {lost:?}");
        assert_eq!(manifest.unwrap().segments.len(), 2, "call {number}");
        let names = target.names("restored").await;
        assert_eq!(names.len(), 2 + 2, "call {number}: {names:?}");
    }
    eprintln!("stood still at each of {reached} calls to the store");
    assert!(reached > 15, "{reached} calls were reached");
}

/// A manager whose catalog loses every commit from the moment that a task is being copied.
async fn restore_with_a_catalog_that_goes_away(
    change: impl FnOnce(&mut RestoreRequest),
) -> (Fixture, copyseg_core::Error) {
    let fixture = Fixture::new().await;
    let catalog = Arc::new(FaultyCatalog::new(Arc::new(fixture.catalog.clone())));
    let options = ManagerOptions { clock: Arc::new(fixture.clock.clone()), ..ManagerOptions::default() };
    let manager = MetaManager::open(catalog.clone(), options).await.unwrap();
    let mut request = fixture.request();
    change(&mut request);
    let (faulty, clock) = (catalog.clone(), fixture.clock.clone());
    let worker = hooked(&request, move |_| {
        faulty.fail_every(Call::Commit, Fault::Lost);
        clock.advance(Duration::from_secs(100));
        async { Ok(()) }.boxed()
    });
    let (progress, stop) = (tokio::sync::watch::Sender::default(), CancellationToken::new());
    let outcome = restore_with(&manager, CATALOG, &request, worker, &progress, &stop).await;
    let error = outcome.unwrap_err();
    // It cannot settle the last commit either.
    let _ = manager.close().await;
    (fixture, error)
}

#[rstest]
#[case::however_long_it_may_take(
    None,
    "the catalog redb:///catalog has not said for 300ms what became of a change"
)]
#[case::beyond_the_deadline(
    Some(Duration::from_secs(60)),
    "the deadline of the restore, 2025-10-09T08:54:20.000Z, has passed, but the catalog redb:///catalog does not answer"
)]
#[tokio::test(start_paused = true)]
async fn a_catalog_that_went_away_ends_the_run_and_the_next_one_goes_on(
    #[case] deadline: Option<Duration>,
    #[case] says: &str,
) {
    let (mut fixture, error) = restore_with_a_catalog_that_goes_away(|request| {
        request.options.deadline = deadline;
        if deadline.is_none() {
            request.options.catalog_timeout = Duration::from_millis(300);
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().starts_with(says), "{error}");
    assert!(!fixture.target().join("_copyseg/staging").exists());
    fixture.restart().await;
    let job = fixture.jobs()[0].id;
    let outcome = fixture.restore().await.unwrap();
    assert!(completed(&outcome), "{outcome:?}");
    fixture.assert_restored().await;
    let state = if deadline.is_none() { JobState::Completed } else { JobState::Failed };
    assert_eq!(fixture.job(job).state, state);
}
