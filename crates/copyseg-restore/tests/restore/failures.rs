//! What goes wrong while copying, and what becomes of the restore.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use copyseg_core::{ErrorKind, JobState, TaskState};
use copyseg_restore::{CancellationToken, Failure, FailureKind, Outcome, RestoreProgress, restore_with};
use futures::FutureExt;
use rstest::rstest;
use tokio::sync::watch;

use crate::fixture::{CATALOG, Fixture, completed, hooked};

#[rstest]
#[case::vanished("1/ids.npy", "is gone", |path: &std::path::Path| std::fs::remove_file(path).unwrap())]
#[case::grown("1/ids.npy", "had 3 bytes and now has 8", |path: &std::path::Path| std::fs::write(path, "one more").unwrap())]
#[case::rewritten("1/ids.npy", "was modified", |path: &std::path::Path| {
    std::fs::write(path, "two").unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(1);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
})]
#[case::added("1/more.npy", "is new", |path: &std::path::Path| std::fs::write(path, "more").unwrap())]
#[case::nested("459117024851200032/nested/deeply/stats.json", "is gone", |path: &std::path::Path| {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path.with_file_name("kept"), "").unwrap();
})]
#[case::linked("2/ids.npy", "is now a symbolic link", |path: &std::path::Path| {
    std::fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink("/dev/null", path).unwrap();
})]
#[tokio::test]
async fn a_source_that_changed_since_the_plan_fails_the_job_by_name(
    #[case] file: &str,
    #[case] how: &str,
    #[case] change: impl Fn(&std::path::Path) + Send + Sync + Copy + 'static,
) {
    for segments_per_task in [1, 10] {
        let mut fixture = Fixture::new().await;
        let mut request = fixture.request();
        request.options.segments_per_task = Some(segments_per_task);
        let path = fixture.source().join(file);
        let once = Arc::new(std::sync::Once::new());
        let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), {
            let path = path.clone();
            move |_| {
                once.call_once(|| change(&path));
                async { Ok(()) }.boxed()
            }
        });
        let Outcome::Failed { job, reason, .. } = outcome.await.unwrap() else { panic!() };
        assert!(reason.contains(&path.display().to_string()), "{reason}");
        assert!(reason.contains(how), "{reason}");
        assert_eq!(fixture.job(job).state, JobState::Failed);
        assert_eq!(fixture.job(job).reason, reason);
        assert!(fixture.manifest().await.is_none());
        assert!(fixture.target().join("_copyseg/outcome").exists(), "the marker");

        if how != "is now a symbolic link" {
            fixture.restart().await;
            assert!(completed(&fixture.restore().await.unwrap()), "the source as it is now");
            fixture.assert_restored().await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_vanished_fails_the_job_by_the_name_of_its_file() {
    let fixture = Fixture::new().await;
    let folder = fixture.source().join("1");
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), {
        let folder = folder.clone();
        move |_| {
            let _ = std::fs::remove_dir_all(&folder);
            async { Ok(()) }.boxed()
        }
    });
    let Outcome::Failed { reason, .. } = outcome.await.unwrap() else { panic!() };
    assert!(reason.contains(&format!("{}/ids.npy changed", folder.display())), "{reason}");
}

#[tokio::test]
async fn a_source_that_changed_between_two_runs_fails_the_job_by_name() {
    let mut fixture = Fixture::new().await;
    let stop = CancellationToken::new();
    let signal = stop.clone();
    let stopped = fixture.restore_hooked(&fixture.request(), &stop, move |_| {
        signal.cancel();
        std::future::pending().boxed()
    });
    assert!(matches!(stopped.await.unwrap(), Outcome::Stopped { .. }));
    std::fs::remove_file(fixture.source().join("1/vectors.npy")).unwrap();
    fixture.restart().await;
    let Outcome::Failed { reason, .. } = fixture.restore().await.unwrap() else { panic!() };
    assert!(reason.contains("1/vectors.npy") && reason.contains("is gone"), "{reason}");
}

#[tokio::test]
async fn a_damaged_plan_has_no_other_file_blamed_for_a_change() {
    let mut fixture = Fixture::new().await;
    crate::owners::begin(&fixture).await;
    let records = std::fs::read_dir(fixture.target().join("_copyseg")).unwrap();
    let mut plans = records.map(|entry| entry.unwrap().path());
    let plan = plans.find(|path| path.to_str().unwrap().contains("plan-")).unwrap();
    let written = std::fs::read_to_string(&plan).unwrap();
    let damaged = written.replace(r#""1/ids.npy","bytes":3"#, r#""1/ids.npy","bytes":7"#);
    assert_ne!(damaged, written);
    std::fs::write(&plan, damaged).unwrap();
    std::fs::remove_file(fixture.source().join("1/vectors.npy")).unwrap();
    fixture.restart().await;
    let Outcome::Failed { reason, .. } = fixture.restore().await.unwrap() else { panic!() };
    assert!(!reason.contains("ids.npy"), "{reason}");
    assert!(reason.contains("nightly/1 ") && reason.contains("had 2 files"), "{reason}");
}

#[tokio::test]
async fn a_transient_failure_is_retried_and_says_why_the_task_waits() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager.clone();
    let attempts = AtomicU32::new(0);
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), move |assignment| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(assignment.task().attempt, attempt);
        let _ = &manager;
        async move { if attempt < 5 { Err(Failure::transient("the network is slow")) } else { Ok(()) } }
            .boxed()
    });
    assert!(completed(&outcome.await.unwrap()));
    fixture.assert_restored().await;
    let task = fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap()[0].clone();
    assert_eq!((task.state, task.attempt), (TaskState::Completed, 5));
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_failure_is_the_reason() {
    let fixture = Fixture::new().await;
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), |_| {
        async { Err(Failure::transient("the network is down")) }.boxed()
    });
    let Outcome::Failed { job, reason, .. } = outcome.await.unwrap() else { panic!() };
    assert!(reason.contains("failed 5 times") && reason.contains("the network is down"), "{reason}");
    let task = fixture.manager.tasks_of_job(job).unwrap()[0].clone();
    assert_eq!((task.state, task.attempt), (TaskState::Failed, 5));
}

#[tokio::test]
async fn a_permanent_failure_fails_the_job_at_once() {
    let fixture = Fixture::new().await;
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), |_| {
        async { Err(Failure::permanent("the segment cannot be read by anybody")) }.boxed()
    });
    let Outcome::Failed { job, reason, .. } = outcome.await.unwrap() else { panic!() };
    assert_eq!(reason, "the segment cannot be read by anybody");
    assert_eq!(fixture.manager.tasks_of_job(job).unwrap()[0].attempt, 1);
}

#[tokio::test]
async fn what_needs_help_ends_the_run_but_not_the_job() {
    let mut fixture = Fixture::new().await;
    let outcome = fixture.restore_hooked(&fixture.request(), &CancellationToken::new(), |_| {
        let mut failure = Failure::transient("the disk of /restored is full: make room");
        failure.kind = FailureKind::Blocked;
        async { Err(failure) }.boxed()
    });
    let error = outcome.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("make room"), "{error}");
    let job = fixture.jobs()[0].clone();
    assert_eq!(
        (job.state, job.reason.as_str()),
        (JobState::Executing, "waits: the disk of /restored is full: make room")
    );
    fixture.restart().await;
    let outcome = fixture.restore().await.unwrap();
    assert!(matches!(outcome, Outcome::Completed { job: same, .. } if same == job.id));
    assert_eq!(fixture.job(job.id).reason, "");
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_worker_that_moves_no_byte_loses_its_task_to_another_attempt() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.heartbeat_timeout = Duration::from_millis(40);
    let (clock, attempts) = (fixture.clock.clone(), AtomicU32::new(0));
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |_| {
        if attempts.fetch_add(1, Ordering::SeqCst) > 0 {
            return async { Ok(()) }.boxed();
        }
        clock.advance(Duration::from_millis(50));
        std::future::pending().boxed()
    });
    assert!(completed(&outcome.await.unwrap()));
    fixture.assert_restored().await;
    assert_eq!(fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap()[0].attempt, 2);
}

#[tokio::test]
async fn bytes_that_a_lost_attempt_copied_are_counted_once() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.heartbeat_timeout = Duration::from_millis(40);
    let (clock, is_first) = (fixture.clock.clone(), AtomicBool::new(true));
    let worker = hooked(&request, move |assignment| {
        if !is_first.swap(false, Ordering::SeqCst) {
            return async { Ok(()) }.boxed();
        }
        assignment.copied(12);
        clock.advance(Duration::from_millis(50));
        std::future::pending().boxed()
    });
    let (progress, stop) = (watch::Sender::default(), CancellationToken::new());
    let outcome = restore_with(&fixture.manager, CATALOG, &request, worker, &progress, &stop).await;
    assert!(completed(&outcome.unwrap()));
    let shown: &RestoreProgress = &progress.borrow();
    assert_eq!((shown.bytes, shown.bytes_copied), (20, 20));
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_call_that_hangs_loses_its_task_and_changes_nothing_when_it_ends() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.heartbeat_timeout = Duration::from_millis(40);
    request.options.objects_in_flight = 1;
    let (wake, woken) = std::sync::mpsc::channel();
    let (tell, mut removed) = tokio::sync::mpsc::unbounded_channel();
    let (clock, woken, hung) =
        (fixture.clock.clone(), parking_lot::Mutex::new(woken), std::sync::OnceLock::new());
    request.target = request.target.with_hook(Arc::new(move |call, done| {
        let is_copied = call.operation == "rename" && call.to.is_some_and(|to| to.ends_with("ids.npy"));
        if is_copied && !done && hung.set(call.path.to_owned()).is_ok() {
            clock.advance(Duration::from_millis(50));
            woken.lock().recv().unwrap();
        }
        if call.operation == "remove" && !done && hung.get().is_some_and(|path| path == call.path) {
            tell.send(()).unwrap();
        }
        Ok(())
    }));
    let (progress, stop) = (watch::Sender::default(), CancellationToken::new());
    let outcome = restore_with(
        &fixture.manager,
        CATALOG,
        &request,
        hooked(&request, |_| async { Ok(()) }.boxed()),
        &progress,
        &stop,
    );
    assert!(completed(&outcome.await.unwrap()), "while it hangs");
    fixture.assert_restored().await;
    assert_eq!(fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap()[0].attempt, 2);
    let shown = |progress: &RestoreProgress| (progress.bytes, progress.bytes_copied);
    assert_eq!(shown(&progress.borrow()), (20, 20), "what was copied in vain does not count");
    removed.try_recv().expect("its unfinished file was removed when it lost the task");
    wake.send(()).unwrap();
    // The last that its thread does with the unfinished file.
    removed.recv().await.unwrap();
    fixture.assert_restored().await;
    assert_eq!(shown(&progress.borrow()), (20, 20));
}

#[tokio::test]
async fn a_deadline_that_passes_fails_the_job_even_between_runs() {
    for between_runs in [false, true] {
        let fixture = Fixture::new().await;
        let mut request = fixture.request();
        request.options.deadline = Some(Duration::from_secs(60));
        request.options.heartbeat_timeout = Duration::from_millis(40);
        let (clock, stop) = (fixture.clock.clone(), CancellationToken::new());
        let signal = stop.clone();
        let mut outcome = fixture
            .restore_hooked(&request, &stop, move |assignment| {
                if between_runs {
                    signal.cancel();
                }
                clock.set(copyseg_core::Timestamp::from_millis(1_760_000_060_000));
                assignment.beat();
                std::future::pending().boxed()
            })
            .await
            .unwrap();
        if between_runs {
            assert!(matches!(outcome, Outcome::Stopped { .. }));
            outcome = fixture.restore().await.unwrap();
        }
        let Outcome::Failed { job, reason, .. } = outcome else { panic!("{outcome:?}") };
        assert!(
            reason.contains("the deadline of the restore, 2025-10-09T08:54:20.000Z, has passed"),
            "{reason}"
        );
        assert_eq!(fixture.job(job).state, JobState::Failed);
        assert!(fixture.manifest().await.is_none());
    }
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_deadline_that_passes_while_nothing_can_be_published_fails_the_job() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.deadline = Some(Duration::from_secs(60));
    let (manager, target) = (fixture.manager.clone(), fixture.target());
    request.target = request.target.with_hook(Arc::new(move |call, _| {
        let is_segment = call.path.parent() == Some(&target) && !call.path.ends_with("_copyseg");
        if call.operation == "list" && is_segment {
            let jobs = manager.list_jobs(&copyseg_core::JobFilter::new()).unwrap();
            if jobs[0].state == JobState::Publishing {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
        }
        Ok(())
    }));
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(fixture.jobs()[0].state, JobState::Publishing);
    fixture.clock.advance(Duration::from_secs(61));
    let outcome = fixture.restore_request(&request).await.unwrap();
    let Outcome::Failed { job, reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("the deadline of the restore"), "{reason}");
    assert_eq!(fixture.job(job).state, JobState::Failed);
    assert!(fixture.manifest().await.is_none());
    assert!(fixture.target().join("_copyseg/outcome").exists(), "the marker");
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_target_that_somebody_changed_is_never_published() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.segments_per_task = Some(1);
    request.options.objects_in_flight = 1;
    let target = fixture.target();
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |_| {
        for (name, _) in crate::fixture::files(&target) {
            if name.ends_with("vectors.npy") {
                std::fs::remove_file(target.join(name)).unwrap();
            }
        }
        async { Ok(()) }.boxed()
    });
    let Outcome::Failed { reason, .. } = outcome.await.unwrap() else { panic!() };
    assert!(reason.contains("1 files of 3 bytes instead of 2 of 14"), "{reason}");
    assert!(fixture.manifest().await.is_none());
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_folder_beside_the_segments_that_nobody_may_read_keeps_nothing_from_being_published() {
    let fixture = Fixture::new().await;
    let foreign = fixture.target().join("lost+found");
    std::fs::create_dir_all(&foreign).unwrap();
    let mut request = fixture.request();
    let unreadable = foreign.clone();
    request.target = request.target.with_hook(Arc::new(move |call, _| match call.operation {
        "list" if call.path == unreadable => Err(std::io::ErrorKind::PermissionDenied.into()),
        _ => Ok(()),
    }));
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    std::fs::remove_dir(foreign).unwrap();
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_segment_that_became_a_link_is_never_published() {
    let fixture = Fixture::new().await;
    let mut request = fixture.request();
    request.options.segments_per_task = Some(1);
    request.options.objects_in_flight = 1;
    let (target, elsewhere) = (fixture.target(), fixture.path("elsewhere"));
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |_| {
        let copied = crate::fixture::files(&target).into_keys().find(|name| name.ends_with("vectors.npy"));
        if let Some(folder) = copied.filter(|_| !elsewhere.exists()) {
            let folder = target.join(folder).parent().unwrap().to_owned();
            std::fs::rename(&folder, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, folder).unwrap();
        }
        async { Ok(()) }.boxed()
    });
    let Outcome::Failed { reason, .. } = outcome.await.unwrap() else { panic!() };
    assert!(reason.contains("somebody changed the target"), "{reason}");
    assert!(fixture.path("elsewhere/vectors.npy").exists(), "what lies elsewhere stays");
}
