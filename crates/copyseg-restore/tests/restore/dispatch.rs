//! How tasks share slots and commits. Time is Tokio's, and passes only when nothing else can be done.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copyseg_conformance::{FaultyCatalog, SlowCatalog};
use copyseg_core::{Catalog, ManagerOptions, MetaManager, TaskState};
use copyseg_restore::{
    Assignment, CancellationToken, Failure, Outcome, RestoreRequest, Worker, restore_with,
};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::fixture::{CATALOG, Fixture, completed, run};

/// A worker that copies nothing, in its own time.
#[derive(Debug, Default)]
struct Idle {
    /// How many slots it takes for each task, one after the other.
    slots: usize,
    /// How long it holds each.
    hold: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first_begin: Option<Instant>,
    last_end: Option<Instant>,
    now: usize,
    most: usize,
}

#[async_trait]
impl Worker for Idle {
    async fn copy(&self, assignment: &Assignment) -> Result<(), Failure> {
        {
            let mut seen = self.seen.lock();
            seen.first_begin.get_or_insert_with(Instant::now);
            seen.now += 1;
            seen.most = seen.most.max(seen.now);
        }
        for _ in 0..self.slots {
            let _slot = assignment.slot().await;
            sleep(self.hold).await;
        }
        let mut seen = self.seen.lock();
        seen.last_end = Some(Instant::now());
        seen.now -= 1;
        Ok(())
    }
}

impl Idle {
    /// Is given every task of the fixture, by a catalog that takes its time for a commit. Answers how many there were.
    async fn work(self: &Arc<Self>, fixture: &Fixture, request: &RestoreRequest, commit: Duration) -> usize {
        let slow = SlowCatalog::with_delay(Arc::new(fixture.catalog.clone()), commit);
        let manager = MetaManager::open(Arc::new(slow), ManagerOptions::default()).await.unwrap();
        let (progress, stop) = (watch::Sender::default(), CancellationToken::new());
        let worker = Arc::clone(self) as Arc<dyn Worker>;
        let outcome = restore_with(&manager, CATALOG, request, worker, &progress, &stop).await.unwrap();
        // There is nothing to publish in the end.
        let Outcome::Failed { job, reason } = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("has 0 files"), "{reason}");
        let tasks = manager.tasks_of_job(job).unwrap();
        assert!(tasks.iter().all(|task| task.state == TaskState::Completed && task.attempt == 1));
        tasks.len()
    }

    /// How long it took for all tasks.
    fn elapsed(&self) -> Duration {
        let seen = self.seen.lock();
        seen.last_end.unwrap() - seen.first_begin.unwrap()
    }
}

/// A snapshot of so many segments of so many bytes, one to a task.
async fn snapshot(segments: usize, bytes: u64, objects_in_flight: usize) -> (Fixture, RestoreRequest) {
    let fixture = Fixture::empty().await;
    for segment in 1..=segments {
        let name = format!("{segment}/ids.npy");
        fixture.write(&name, "");
        File::options().write(true).open(fixture.source().join(name)).unwrap().set_len(bytes).unwrap();
    }
    let mut request = fixture.request();
    request.options.segments_per_task = Some(1);
    request.options.objects_in_flight = objects_in_flight;
    (fixture, request)
}

#[tokio::test(start_paused = true)]
async fn small_tasks_share_commits() {
    const TASKS: usize = 400;
    let (fixture, request) = snapshot(TASKS, 3, 16).await;
    let counted = Arc::new(FaultyCatalog::new(Arc::new(fixture.catalog.clone())));
    // While one commit takes its time, others gather behind it.
    let slow = SlowCatalog::with_delay(Arc::clone(&counted) as Arc<dyn Catalog>, Duration::from_millis(2));
    let manager = MetaManager::open(Arc::new(slow), ManagerOptions::default()).await.unwrap();
    assert!(completed(&run(&manager, CATALOG, &request).await.unwrap()));
    let commits = counted.commits() as usize;
    assert!(commits <= TASKS / 16, "{commits} commits for {TASKS} tasks");
}

#[rstest::rstest]
#[case::small(3)]
#[case::large(5 << 20)]
#[tokio::test(start_paused = true)]
async fn no_slot_waits_for_a_commit(#[case] bytes: u64) {
    let (fixture, request) = snapshot(256, bytes, 16).await;
    let worker = Arc::new(Idle { slots: 1, hold: Duration::from_millis(100), ..Idle::default() });
    let tasks = worker.work(&fixture, &request, Duration::from_millis(50)).await;
    assert_eq!(tasks, 256);
    let (elapsed, least) = (worker.elapsed(), worker.hold * 256 / 16);
    assert!(elapsed <= least * 11 / 10, "{elapsed:?} where {least:?} would do");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_no_slot_keeps_none_from_others() {
    let (fixture, request) = snapshot(400, 3, 4).await;
    let worker = Arc::new(Idle::default());
    let start = Instant::now();
    worker.work(&fixture, &request, Duration::from_millis(2)).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_is_begun_when_those_before_it_leave_slots_free() {
    let (fixture, request) = snapshot(100, 3, 4).await;
    let worker = Arc::new(Idle { slots: 5, hold: Duration::from_millis(10), ..Idle::default() });
    worker.work(&fixture, &request, Duration::from_millis(2)).await;
    let most = worker.seen.lock().most;
    assert!(most <= 3 * 4, "{most} tasks were half done at once");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_to_begin_is_not_silent() {
    let (fixture, mut request) = snapshot(20, 3, 1).await;
    request.options.heartbeat_timeout = Duration::from_millis(40);
    let clock = fixture.clock.clone();
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |assignment| {
        let (clock, assignment) = (clock.clone(), assignment.clone());
        async move {
            for _ in 0..10 {
                sleep(Duration::from_millis(10)).await;
                clock.advance(Duration::from_millis(10));
                assignment.beat();
            }
            Ok(())
        }
        .boxed()
    });
    assert!(completed(&outcome.await.unwrap()));
    let tasks = fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap();
    assert!(tasks.iter().all(|task| task.attempt == 1), "{tasks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_restore_records_what_is_copied_and_gives_back_the_rest() {
    let (mut fixture, request) = snapshot(20, 3, 1).await;
    let (begun, stop) = (Arc::new(Mutex::new(0)), CancellationToken::new());
    let stopper = stop.clone();
    let outcome = fixture.restore_hooked(&request, &stop, move |_| {
        *begun.lock() += 1;
        // Nine are copied by now, and wait to be recorded with others.
        if *begun.lock() == 10 {
            stopper.cancel();
            return std::future::pending().boxed();
        }
        async { Ok(()) }.boxed()
    });
    let outcome = outcome.await.unwrap();
    let Outcome::Stopped { job: Some(job) } = outcome else { panic!("{outcome:?}") };
    let states = fixture.manager.snapshot().unwrap().progress(job).unwrap().tasks;
    let (completed_tasks, pending) = (states.get(TaskState::Completed), states.get(TaskState::Pending));
    // The ninth may have left its slot to the tenth and not have been done.
    assert!(completed_tasks >= 8 && completed_tasks + pending == 20, "{states:?}");
    fixture.restart().await;
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    fixture.assert_restored().await;
}
