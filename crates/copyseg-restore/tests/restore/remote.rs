//! Remote stores: server-side copies, uploads, and calls that fail or lose their answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use copyseg_core::ErrorKind;
use copyseg_restore::{Manifest, Outcome, RestoreOptions, RestoreRequest, Verify};
use futures::FutureExt;
use parking_lot::Mutex;
use rstest::rstest;

use crate::fixture::{Fixture, completed, quick};
use crate::store::{Call, Fate, TestStore};

const LARGE_BYTES: usize = 20 << 20;

async fn snapshot() -> Arc<TestStore> {
    let store = TestStore::new();
    store.put_text("nightly/1/ids.npy", "one").await;
    store.put_text("nightly/1/logs/stats.json", "{}").await;
    store.put_text("nightly/2/vectors.npy", "2.0").await;
    store
}

fn request(source: copyseg_restore::Location, target: copyseg_restore::Location) -> RestoreRequest {
    quick(RestoreRequest { source, target, options: RestoreOptions::default() })
}

fn inside(store: &Arc<TestStore>) -> RestoreRequest {
    request(store.location("nightly"), store.location("restored"))
}

#[tokio::test]
async fn a_copy_inside_one_store_moves_no_bytes_through_this_process() {
    let (fixture, store) = (Fixture::empty().await, snapshot().await);
    let calls = Arc::new(Mutex::new(Vec::<Call>::new()));
    let seen = calls.clone();
    store.hook(move |call| {
        seen.lock().push(call);
        async { Fate::Proceed }.boxed()
    });
    let request = inside(&store);
    let outcome = fixture.restore_request(&request).await.unwrap();
    assert!(
        matches!(outcome, Outcome::Completed { segments: 2, bytes: 8, server_side: true, .. }),
        "{outcome:?}"
    );
    let calls = calls.lock().clone();
    assert_eq!(calls.iter().filter(|call| call.operation == "copy").count(), 3);
    let content = calls.iter().filter(|call| call.operation == "get" && !call.path.contains("_copyseg"));
    assert_eq!(content.count(), 0);
    store.unhook();
    assert_eq!(store.names("restored").await.len(), 5, "three files and two records");
    assert!(matches!(
        fixture.restore_request(&request).await.unwrap(),
        Outcome::Completed { already: true, segments: 2, bytes: 8, .. }
    ));
}

#[tokio::test]
async fn folder_markers_of_consoles_are_not_mistaken_for_files() {
    let (fixture, store) = (Fixture::empty().await, snapshot().await);
    store.put_text("nightly", "").await;
    store.put_text("nightly/1", "").await;
    store.put_text("nightly/1/logs", "").await;
    assert!(completed(&fixture.restore_request(&inside(&store)).await.unwrap()));
    store.put_text("nightly/3", "").await;
    let error = fixture
        .restore_request(&request(store.location("nightly"), store.location("again")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains(&format!("`{}` is a loose file", store.url("nightly/3"))), "{error}");
}

#[tokio::test]
async fn bytes_go_between_the_file_system_and_a_store_and_back() {
    let (fixture, store) = (Fixture::new().await, TestStore::new());
    let large: Vec<u8> = (0..LARGE_BYTES).map(|byte| ((byte * 31) >> 8) as u8).collect();
    fixture.write("9/vectors.npy", &large);
    let up = quick(RestoreRequest { target: store.location("up"), ..fixture.request() });
    assert!(completed(&fixture.restore_request(&up).await.unwrap()));
    assert_eq!(store.uploads.load(Ordering::SeqCst), 0, "no upload is left open");
    assert!(store.largest_part.load(Ordering::SeqCst) <= 8 << 20, "memory is bounded");
    let names = store.names("up").await;
    assert_eq!(names.iter().filter(|name| name.contains("_copyseg")).count(), 2, "{names:?}");

    // The restored segments are a snapshot again, but for the records.
    for record in ["owner", "outcome"] {
        use object_store::ObjectStoreExt;
        store.inner.delete(&format!("up/_copyseg/{record}").into()).await.unwrap();
    }
    let down = quick(RestoreRequest { source: store.location("up"), ..fixture.request() });
    assert!(completed(&fixture.restore_request(&down).await.unwrap()));
    let mut contents: Vec<_> = fixture.restored().await.into_values().collect();
    let mut expected: Vec<_> = crate::fixture::files(&fixture.source()).into_values().collect();
    contents.sort();
    expected.sort();
    assert_eq!(contents, expected);
}

#[tokio::test]
async fn a_source_object_that_changes_while_it_is_copied_fails_the_job_by_name() {
    for (store, target) in [(snapshot().await, None), (snapshot().await, Some(TestStore::new()))] {
        let fixture = Fixture::empty().await;
        let mut request = inside(&store);
        if let Some(target) = target {
            request.target = target.location("restored");
        }
        let changing = store.clone();
        store.hook(move |call| {
            let changing = changing.clone();
            async move {
                // Changed after the listing, just before the copy.
                if call.path == "nightly/2/vectors.npy" && matches!(call.operation, "copy" | "get") {
                    changing.put_text("nightly/2/vectors.npy", "9.9").await;
                }
                Fate::Proceed
            }
            .boxed()
        });
        let Outcome::Failed { reason, .. } = fixture.restore_request(&request).await.unwrap() else {
            panic!()
        };
        assert!(
            reason.contains(&store.url("nightly/2/vectors.npy")) && reason.contains("modified"),
            "{reason}"
        );
        assert!(Manifest::read(&request.target).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn any_single_call_may_fail_or_lose_its_answer() {
    for fate in [Fate::Fail, Fate::LoseAnswer] {
        let mut number = 0;
        loop {
            let (fixture, source) = (Fixture::empty().await, snapshot().await);
            source.put_text("nightly/3/large.npy", vec![7; 9 << 20]).await;
            let target = TestStore::new();
            let request = request(source.location("nightly"), target.location("restored"));
            let failed = Arc::new(Mutex::new(false));
            let once = failed.clone();
            target.hook(move |call| {
                let hit =
                    call.number == number && !std::mem::replace(&mut *once.lock(), call.number == number);
                async move { if hit { fate } else { Fate::Proceed } }.boxed()
            });
            let first = fixture.restore_request(&request).await;
            target.unhook();
            // While it prepares, a run may end with the error; it never fails the job, and the next goes on.
            if first.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
                assert!(completed(&fixture.restore_request(&request).await.unwrap()), "call {number}");
            } else {
                assert!(completed(first.as_ref().unwrap()), "call {number}: {first:?}");
            }
            let manifest = Manifest::read(&request.target).await.unwrap().unwrap();
            assert_eq!(manifest.segments.len(), 3);
            // What the last sweep could not do is done by the next run.
            assert!(completed(&fixture.restore_request(&request).await.unwrap()));
            let names = target.names("restored").await;
            assert_eq!(names.len(), 4 + 2, "call {number}: {names:?}");
            if !*failed.lock() {
                break;
            }
            number += 1;
        }
        eprintln!("{number} calls to the store, {fate:?}");
        assert!(number > 20, "{number} calls were tried");
    }
}

#[tokio::test]
async fn a_run_that_dies_after_any_call_is_gone_on_with() {
    for number in 0.. {
        let (mut fixture, source) = (Fixture::empty().await, snapshot().await);
        source.put_text("nightly/3/large.npy", vec![7; 17 << 20]).await;
        let target = TestStore::new();
        let request = request(source.location("nightly"), target.location("restored"));
        target.hook(move |call| {
            let fate = if call.number == number { Fate::DieAfter } else { Fate::Proceed };
            async move { fate }.boxed()
        });
        let lived = tokio::select! {
            outcome = fixture.restore_request(&request) => { assert!(completed(&outcome.unwrap())); true }
            () = target.died.notified() => false,
        };
        let calls = target.calls();
        target.unhook();
        fixture.restart().await;
        assert!(completed(&fixture.restore_request(&request).await.unwrap()), "died at call {number}");
        assert_eq!(Manifest::read(&request.target).await.unwrap().unwrap().segments.len(), 3);
        let names = target.names("restored").await;
        assert_eq!(names.len(), 4 + 2, "died at call {number}: {names:?}");
        assert_eq!(fixture.jobs().len(), 1, "died at call {number}");
        // Between its creation and its note an upload is nobody's; the store's own lifecycle rules end it.
        assert!(target.uploads.load(Ordering::SeqCst) <= 1, "died at call {number}");
        if lived && number >= calls {
            eprintln!("killed after each of {number} calls to the store");
            assert!(number > 30, "{number} calls were tried");
            break;
        }
    }
}

#[tokio::test]
async fn a_store_that_denies_access_ends_the_run_but_not_the_job() {
    let (fixture, source, target) = (Fixture::empty().await, snapshot().await, TestStore::new());
    let request = request(source.location("nightly"), target.location("restored"));
    source
        .hook(|call| async move { if call.operation == "get" { Fate::Deny } else { Fate::Proceed } }.boxed());
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("check the credentials"), "{error}");
    assert!(error.to_string().contains(&source.url("nightly/")), "{error}");
    source.unhook();
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    assert_eq!(fixture.jobs().len(), 1);
}

#[rstest]
#[case::content(Verify::Content, 2)]
#[case::size(Verify::Size, 1)]
#[tokio::test]
async fn a_copy_that_was_damaged_on_its_way_is_noticed_and_made_again(
    #[case] verify: Verify,
    #[case] attempts: u32,
) {
    let (fixture, source, target) = (Fixture::empty().await, snapshot().await, TestStore::new());
    let mut request = request(source.location("nightly"), target.location("restored"));
    request.options.verify = Some(verify);
    let (store, damaged) = (target.clone(), Arc::new(Mutex::new(false)));
    target.hook(move |call| {
        let is_check = matches!(call.operation, "head" | "get") && call.path.ends_with("vectors.npy");
        let damage = is_check && !std::mem::replace(&mut *damaged.lock(), is_check);
        let store = store.clone();
        async move {
            if damage {
                store.put_text(&call.path, "2.1").await;
            }
            Fate::Proceed
        }
        .boxed()
    });
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    assert_eq!(fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap()[0].attempt, attempts);
}

/// Time stands still until nothing else can be begun.
#[tokio::test(start_paused = true)]
async fn no_more_objects_are_in_flight_than_allowed_and_no_fewer() {
    let (fixture, source, target) = (Fixture::empty().await, TestStore::new(), TestStore::new());
    for segment in 0..20 {
        for file in 0..5 {
            source.put_text(&format!("nightly/{segment}/{file}"), "content").await;
        }
    }
    for segments_per_task in [1, 20] {
        let mut request =
            request(source.location("nightly"), target.location(&format!("restored-{segments_per_task}")));
        request.options.segments_per_task = Some(segments_per_task);
        request.options.objects_in_flight = 4;
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        source.hook(move |call| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                if call.operation == "get" {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                }
                Fate::Proceed
            }
            .boxed()
        });
        assert!(completed(&fixture.restore_request(&request).await.unwrap()));
        assert_eq!(seen.load(Ordering::SeqCst), 4);
    }
}
