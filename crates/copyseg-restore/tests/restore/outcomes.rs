//! A manifest and `Completed`, or an abort marker and no manifest: whatever races.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{JobState, MetaManager};
use copyseg_restore::{Manifest, Outcome, RestoreOptions, RestoreRequest};
use futures::FutureExt;

use crate::fixture::{Fixture, completed, quick};
use crate::store::{Fate, TestStore};

async fn source() -> Arc<TestStore> {
    let store = TestStore::new();
    for segment in 1..=3 {
        store.put_text(&format!("nightly/{segment}/ids.npy"), format!("segment {segment}")).await;
    }
    store
}

/// Checks that the record and the key say the same, and says which.
async fn agreed(fixture: &Fixture, request: &RestoreRequest, target: &TestStore, at: usize) -> bool {
    let manifest = Manifest::read(&request.target).await.unwrap();
    let job = fixture.jobs()[0].clone();
    match (&manifest, job.state) {
        (Some(_), JobState::Completed) => true,
        (None, JobState::Failed | JobState::Cancelled) => {
            let marker = target.names("restored").await.contains(&"restored/_copyseg/outcome".to_owned());
            assert!(marker, "call {at}: {} without a marker", job.state);
            false
        }
        _ => panic!("call {at}: {} with manifest {manifest:?}", job.state),
    }
}

/// Runs `interfere` at every call to the target in turn, and returns how often the restore won and lost.
async fn race(
    interfere: impl Fn(&Fixture) -> Box<dyn Fn() -> futures::future::BoxFuture<'static, ()> + Send + Sync>,
) -> (u32, u32) {
    let (mut won, mut lost) = (0, 0);
    for number in 0.. {
        let (mut fixture, source, target) = (Fixture::empty().await, source().await, TestStore::new());
        let mut request = quick(RestoreRequest {
            source: source.location("nightly"),
            target: target.location("restored"),
            options: RestoreOptions::default(),
        });
        request.options.segments_per_task = Some(1);
        request.options.deadline = Some(Duration::from_secs(60));
        request.options.heartbeat_timeout = Duration::from_millis(40);
        let interference = interfere(&fixture);
        let reached = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = reached.clone();
        target.hook(move |call| {
            let work = (call.number == number).then(|| {
                flag.store(true, std::sync::atomic::Ordering::SeqCst);
                interference()
            });
            async move {
                if let Some(work) = work {
                    work.await;
                }
                Fate::Proceed
            }
            .boxed()
        });
        let outcome = fixture.restore_request(&request).await.unwrap();
        let completed_now = agreed(&fixture, &request, &target, number).await;
        assert_eq!(completed(&outcome), completed_now, "call {number}: {outcome:?}");
        if completed_now {
            won += 1
        } else {
            lost += 1
        }
        target.unhook();
        fixture.restart().await;
        assert!(completed(&fixture.restore_request(&request).await.unwrap()), "call {number}: again");
        if !reached.load(std::sync::atomic::Ordering::SeqCst) {
            eprintln!("interfered with at {number} calls to the store: won {won} times, lost {lost} times");
            return (won, lost);
        }
    }
    unreachable!()
}

async fn cancel_unfinished(manager: MetaManager) {
    for job in manager.list_jobs(&copyseg_core::JobFilter::new()).unwrap() {
        // Refused once it is publishing.
        let _ = manager.cancel_job(job.id, "by an operator").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_at_any_point_wins_or_loses_as_a_whole() {
    let (won, lost) = race(|fixture| {
        let manager = fixture.manager.clone();
        Box::new(move || cancel_unfinished(manager.clone()).boxed())
    })
    .await;
    assert!(won > 1 && lost > 5, "won {won}, lost {lost}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_at_any_point_wins_or_loses_as_a_whole() {
    let (won, lost) = race(|fixture| {
        let clock = fixture.clock.clone();
        Box::new(move || {
            clock.set(copyseg_core::Timestamp::from_millis(1_760_000_061_000));
            // Long enough for the dispatcher to notice, if it still looks.
            tokio::time::sleep(Duration::from_millis(50)).boxed()
        })
    })
    .await;
    assert!(won > 1 && lost > 5, "won {won}, lost {lost}");
}

#[tokio::test]
async fn a_marker_that_comes_before_the_manifest_fails_a_publishing_job() {
    let (fixture, source, target) = (Fixture::empty().await, source().await, TestStore::new());
    let request = quick(RestoreRequest {
        source: source.location("nightly"),
        target: target.location("restored"),
        options: RestoreOptions::default(),
    });
    let (store, manager) = (target.clone(), fixture.manager.clone());
    target.hook(move |call| {
        let (store, manager) = (store.clone(), manager.clone());
        async move {
            if call.operation == "put" && call.path.ends_with("_copyseg/outcome") {
                let job = manager.list_jobs(&copyseg_core::JobFilter::new()).unwrap()[0].clone();
                assert_eq!(job.state, JobState::Publishing);
                let restore = &job.options["restore"];
                let marker = format!(
                    r#"{{"outcome":"aborted","format":1,"restore":"{restore}","job":"{}","cancelled":false,"reason":"fenced"}}"#,
                    job.id
                );
                store.put_text("restored/_copyseg/outcome", marker).await;
            }
            Fate::Proceed
        }
        .boxed()
    });
    let outcome = fixture.restore_request(&request).await.unwrap();
    assert!(matches!(&outcome, Outcome::Failed { reason, .. } if reason == "fenced"), "{outcome:?}");
    assert!(!agreed(&fixture, &request, &target, 0).await);
}

#[tokio::test]
async fn a_crash_between_the_manifest_and_the_record_is_completed_by_the_next_run() {
    let (mut fixture, source, target) = (Fixture::empty().await, source().await, TestStore::new());
    let request = quick(RestoreRequest {
        source: source.location("nightly"),
        target: target.location("restored"),
        options: RestoreOptions::default(),
    });
    target.hook(|call| {
        let is_manifest = call.operation == "put" && call.path.ends_with("_copyseg/outcome");
        async move { if is_manifest { Fate::DieAfter } else { Fate::Proceed } }.boxed()
    });
    tokio::select! {
        outcome = fixture.restore_request(&request) => panic!("{outcome:?}"),
        () = target.died.notified() => {}
    }
    target.unhook();
    fixture.restart().await;
    assert_eq!(fixture.jobs()[0].state, JobState::Publishing);
    assert!(Manifest::read(&request.target).await.unwrap().is_some());
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    assert!(agreed(&fixture, &request, &target, 0).await);
    let records: Vec<_> =
        target.names("restored").await.into_iter().filter(|name| name.contains("_copyseg")).collect();
    assert_eq!(records, ["restored/_copyseg/outcome", "restored/_copyseg/owner"]);
}

#[tokio::test]
async fn the_manifest_depends_on_nothing_but_the_job() {
    let mut fixture = Fixture::new().await;
    fixture.restore().await.unwrap();
    let outcome = fixture.target().join("_copyseg/outcome");
    let first = std::fs::read_to_string(&outcome).unwrap();
    let job = fixture.jobs()[0].clone();
    assert!(first.contains(&format!(r#""job":"{}""#, job.id)), "{first}");
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&first).unwrap();
    let fields: Vec<_> = fields.keys().map(String::as_str).collect();
    assert_eq!(fields, ["crc32c", "format", "job", "outcome", "restore", "segments", "source"]);
    fixture.restart().await;
    fixture.restore().await.unwrap();
    assert_eq!(std::fs::read_to_string(&outcome).unwrap(), first);
}
