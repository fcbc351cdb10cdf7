//! One run after the other: what the same request means each time.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use copyseg_core::{ErrorKind, JobState};
use copyseg_restore::{
    CancellationToken, Outcome, RestoreProgress, RestoreRequest, Verify, collect_garbage, restore,
};
use futures::FutureExt;
use rstest::rstest;
use tokio::sync::watch;

use crate::fixture::{CATALOG, Fixture, completed, write};

#[tokio::test]
async fn a_restore_copies_every_byte_into_new_files() {
    let fixture = Fixture::new().await;
    let outcome = fixture.restore().await.unwrap();
    let Outcome::Completed { segments: 3, bytes: 20, already: false, server_side: false, job } = outcome
    else {
        panic!("{outcome:?}")
    };
    fixture.assert_restored().await;
    assert_eq!(fixture.job(job).state, JobState::Completed);
    for segment in fixture.manifest().await.unwrap().segments {
        let inode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().ino();
        let copy = fixture.target().join(segment.target.to_string()).join("ids.npy");
        let source = fixture.source().join(segment.source.to_string()).join("ids.npy");
        assert_ne!(inode(copy.clone()), inode(source));
        assert_eq!(std::fs::metadata(copy).unwrap().nlink(), 1, "no hard link");
    }
}

#[tokio::test]
async fn nobody_may_do_more_with_a_copy_than_with_its_source() {
    let fixture = Fixture::new().await;
    let set = |mode: u32| std::os::unix::fs::PermissionsExt::from_mode(mode);
    for (name, mode) in [("1/ids.npy", 0o600), ("1/vectors.npy", 0o440), ("2/ids.npy", 0o755)] {
        std::fs::set_permissions(fixture.source().join(name), set(mode)).unwrap();
    }
    fixture.restore().await.unwrap();
    // What a new file gets from the umask of this process, which is not known here.
    write(&fixture.path("new"), "");
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
    let usual = mode(fixture.path("new"));
    let segments = fixture.manifest().await.unwrap().segments;
    let copy =
        |index: usize, name: &str| fixture.target().join(segments[index].target.to_string()).join(name);
    assert_eq!(mode(copy(0, "ids.npy")), 0o600);
    assert_eq!(mode(copy(0, "vectors.npy")), 0o640 & usual);
    assert_eq!(mode(copy(1, "ids.npy")), 0o644 & usual);
}

#[tokio::test]
async fn progress_ends_where_the_plan_said() {
    let fixture = Fixture::new().await;
    let progress = watch::Sender::new(RestoreProgress::default());
    let stop = CancellationToken::new();
    restore(&fixture.manager, CATALOG, &fixture.request(), &progress, &stop).await.unwrap();
    let shown = progress.borrow();
    assert_eq!((shown.segments, shown.segments_copied), (3, 3));
    assert_eq!((shown.bytes, shown.bytes_copied, shown.bytes_before), (20, 20, 0));
}

#[tokio::test]
async fn a_completed_restore_says_so_however_it_is_written() {
    let fixture = Fixture::new().await;
    fixture.restore().await.unwrap();
    let before = fixture.target_files();
    let dotted = |path: &std::path::Path| {
        format!("{}/./{}/", path.parent().unwrap().display(), path.file_name().unwrap().display())
    };
    let request = RestoreRequest::new(&dotted(&fixture.source()), &dotted(&fixture.target())).unwrap();
    let outcome = fixture.restore_request(&request).await.unwrap();
    assert!(
        matches!(outcome, Outcome::Completed { already: true, segments: 3, bytes: 20, .. }),
        "{outcome:?}"
    );
    assert_eq!(fixture.target_files(), before);
    assert_eq!(fixture.jobs().len(), 1);
}

#[tokio::test]
async fn a_completed_restore_is_known_after_its_record_was_collected_and_its_source_is_gone() {
    let mut fixture = Fixture::new().await;
    let Outcome::Completed { job, .. } = fixture.restore().await.unwrap() else { panic!() };
    fixture.clock.advance(Duration::from_secs(100));
    assert_eq!(collect_garbage(&fixture.manager, Duration::from_secs(101)).await.unwrap(), []);
    assert_eq!(collect_garbage(&fixture.manager, Duration::from_secs(100)).await.unwrap(), [job]);
    fixture.assert_restored().await;
    std::fs::remove_dir_all(fixture.source()).unwrap();
    fixture.restart().await;
    let outcome = fixture.restore().await.unwrap();
    assert!(
        matches!(outcome, Outcome::Completed { already: true, job: same, .. } if same == job),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn retention_leaves_unfinished_jobs_alone() {
    let fixture = Fixture::new().await;
    let stop = CancellationToken::new();
    let request = fixture.request();
    stop_before_the_first_copy(&fixture, &request, &stop).await;
    fixture.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(collect_garbage(&fixture.manager, Duration::ZERO).await.unwrap(), []);
    assert_eq!(collect_garbage(&fixture.manager, Duration::MAX).await.unwrap(), []);
}

/// Starts a restore that stops when its first task is about to be copied.
async fn stop_before_the_first_copy(fixture: &Fixture, request: &RestoreRequest, stop: &CancellationToken) {
    let signal = stop.clone();
    let outcome = fixture
        .restore_hooked(request, stop, move |_| {
            signal.cancel();
            std::future::pending().boxed()
        })
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Stopped { job: Some(_) }), "{outcome:?}");
}

#[tokio::test]
async fn a_stopped_restore_gives_back_its_tasks_and_goes_on() {
    let mut fixture = Fixture::new().await;
    stop_before_the_first_copy(&fixture, &fixture.request(), &CancellationToken::new()).await;
    let job = fixture.jobs()[0].id;
    for task in fixture.manager.tasks_of_job(job).unwrap() {
        assert_eq!(task.state, copyseg_core::TaskState::Pending);
        assert_eq!(task.reason, "its run was stopped");
    }
    assert!(fixture.manifest().await.is_none());
    fixture.restart().await;
    let outcome = fixture.restore().await.unwrap();
    assert!(
        matches!(outcome, Outcome::Completed { job: same, already: false, .. } if same == job),
        "{outcome:?}"
    );
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_run_stopped_before_it_began_changes_nothing() {
    let fixture = Fixture::new().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let progress = watch::Sender::new(RestoreProgress::default());
    let outcome = restore(&fixture.manager, CATALOG, &fixture.request(), &progress, &stop).await.unwrap();
    assert_eq!(outcome, Outcome::Stopped { job: None });
    assert!(!fixture.target().exists());
}

#[tokio::test]
async fn tasks_of_a_dead_process_are_taken_up_at_once() {
    let mut fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.segments_per_task = Some(1);
    let copying = std::sync::Arc::new(tokio::sync::Notify::new());
    let signal = copying.clone();
    let stop = CancellationToken::new();
    tokio::select! {
        // Dropped in the middle, as by a kill: nothing is given back.
        _ = fixture.restore_hooked(&request, &stop, move |_| {
            signal.notify_one();
            std::future::pending().boxed()
        }) => unreachable!(),
        () = copying.notified() => {}
    }
    fixture.restart().await;
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
}

#[rstest]
#[case::segments_per_task("segments_per_task is 10 and cannot become 5", |request: &mut RestoreRequest| {
    request.options.segments_per_task = Some(5);
})]
#[case::verify("verify is content and cannot become size", |request: &mut RestoreRequest| {
    request.options.verify = Some(Verify::Size);
})]
#[case::deadline("deadline_ms is none and cannot become 1000", |request: &mut RestoreRequest| {
    request.options.deadline = Some(Duration::from_secs(1));
})]
#[tokio::test]
async fn an_unfinished_restore_refuses_other_options(
    #[case] says: &str,
    #[case] change: impl Fn(&mut RestoreRequest),
) {
    let fixture = Fixture::new().await;
    stop_before_the_first_copy(&fixture, &fixture.request(), &CancellationToken::new()).await;
    let mut request = fixture.request();
    change(&mut request);
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains(says), "{error}");
    let mut same = fixture.request();
    same.options.segments_per_task = Some(10);
    same.options.verify = Some(Verify::Content);
    assert!(completed(&fixture.restore_request(&same).await.unwrap()));
}

#[rstest]
#[case(|request: &mut RestoreRequest| request.options.segments_per_task = Some(0))]
#[case(|request: &mut RestoreRequest| request.options.segments_per_task = Some(1001))]
#[case(|request: &mut RestoreRequest| request.options.objects_in_flight = 0)]
#[case(|request: &mut RestoreRequest| request.options.attempts_max = 0)]
#[case(|request: &mut RestoreRequest| request.options.heartbeat_timeout = Duration::ZERO)]
#[tokio::test]
async fn options_out_of_range_are_refused(#[case] change: impl Fn(&mut RestoreRequest)) {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    change(&mut request);
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(!fixture.target().exists());
}

#[tokio::test]
async fn the_largest_tasks_fit_into_their_records() {
    let fixture = Fixture::empty().await;
    for segment in 0..1_000_i64 {
        fixture.write(&format!("{}/ids.npy", i64::MAX - segment), "");
    }
    let mut request = fixture.request();
    request.options.segments_per_task = Some(1_000);
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    assert_eq!(fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap().len(), 1);
}

#[tokio::test]
async fn a_restore_after_a_cancelled_one_clears_its_copies_and_begins_anew() {
    let mut fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.segments_per_task = Some(1);
    request.options.objects_in_flight = 1;
    let manager = fixture.manager.clone();
    // The first task is copied; the job is cancelled before the second one.
    let outcome = fixture
        .restore_hooked(&request, &CancellationToken::new(), move |assignment| {
            let (manager, job, first) = (manager.clone(), assignment.job().id, assignment.task().id);
            async move {
                if manager.tasks_of_job(job).unwrap()[0].id != first {
                    manager.cancel_job(job, "not needed any more").await.unwrap();
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
            .boxed()
        })
        .await
        .unwrap();
    let Outcome::Cancelled { job, reason } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "not needed any more");
    let left = fixture.target_files();
    assert!(left.keys().any(|name| name.ends_with("ids.npy")), "{left:?}");
    assert!(left.contains_key("_copyseg/outcome"), "the marker");
    assert!(fixture.manifest().await.is_none());

    write(&fixture.target().join("notes.txt"), "not ours");
    fixture.restart().await;
    let outcome = fixture.restore().await.unwrap();
    assert!(matches!(outcome, Outcome::Completed { job: new, .. } if new != job), "{outcome:?}");
    std::fs::remove_file(fixture.target().join("notes.txt")).expect("foreign files stay");
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_restore_cancelled_in_the_catalog_alone_begins_anew_even_when_its_record_is_gone() {
    for collected in [false, true] {
        let fixture = Fixture::new().await;
        stop_before_the_first_copy(&fixture, &fixture.request(), &CancellationToken::new()).await;
        let job = fixture.jobs()[0].id;
        fixture.manager.cancel_job(job, "by an operator").await.unwrap();
        if collected {
            collect_garbage(&fixture.manager, Duration::ZERO).await.unwrap();
        }
        assert!(completed(&fixture.restore().await.unwrap()));
        fixture.assert_restored().await;
    }
}

#[tokio::test]
async fn one_process_runs_one_restore_into_a_target() {
    let fixture = Fixture::new().await;
    let request = fixture.request();
    let stop = CancellationToken::new();
    let first = fixture.restore_hooked(&request, &stop, |_| std::future::pending().boxed());
    let second = async {
        while fixture.jobs().is_empty() {
            tokio::task::yield_now().await;
        }
        let error = fixture.restore().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Held, "{error}");
        stop.cancel();
    };
    let (first, ()) = tokio::join!(first, second);
    assert!(matches!(first.unwrap(), Outcome::Stopped { .. }));
    assert!(completed(&fixture.restore().await.unwrap()));
}
