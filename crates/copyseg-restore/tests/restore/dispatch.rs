//! How tasks share slots and commits. Time is Tokio's, and passes only when nothing else can be done.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use copyseg_conformance::{FaultyCatalog, SlowCatalog};
use copyseg_core::{Catalog, Claim, ManagerOptions, MetaManager, TaskState, Txn};
use copyseg_restore::{
    Assignment, CancellationToken, Failure, Outcome, RestoreProgress, RestoreRequest, Worker, restore,
    restore_with,
};
use futures::FutureExt;
use parking_lot::Mutex;
use rstest::rstest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{CATALOG, Fixture, completed, hooked, run};

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
        let Outcome::Failed { job, reason, .. } = outcome else { panic!("{outcome:?}") };
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

#[rstest]
#[case::small(256, 3, 16)]
#[case::large(256, 5 << 20, 16)]
#[case::many_at_once(2048, 3, 256)]
#[case::large_and_many_at_once(2048, 5 << 20, 256)]
#[tokio::test(start_paused = true)]
async fn no_slot_waits_for_a_commit(#[case] tasks: usize, #[case] bytes: u64, #[case] slots: usize) {
    let (fixture, request) = snapshot(tasks, bytes, slots).await;
    let worker = Arc::new(Idle { slots: 1, hold: Duration::from_millis(100), ..Idle::default() });
    assert_eq!(worker.work(&fixture, &request, Duration::from_millis(50)).await, tasks);
    let (elapsed, least) = (worker.elapsed(), worker.hold * (tasks / slots) as u32);
    assert!(elapsed <= least * 11 / 10, "{elapsed:?} where {least:?} would do");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_took_no_slot_keeps_none_while_it_waits_to_be_recorded() {
    let (fixture, request) = snapshot(400, 3, 4).await;
    let worker = Arc::new(Idle::default());
    let start = Instant::now();
    worker.work(&fixture, &request, Duration::from_millis(2)).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_is_begun_when_those_before_it_leave_slots_free() {
    let (fixture, request) = snapshot(100, 3, 4).await;
    let worker = Arc::new(Idle { slots: 50, hold: Duration::from_millis(10), ..Idle::default() });
    worker.work(&fixture, &request, Duration::from_millis(2)).await;
    let most = worker.seen.lock().most;
    assert!(most <= 2 * 4, "{most} tasks were half done at once");
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
async fn a_process_that_stood_still_does_not_take_all_its_attempts_for_silent() {
    let (fixture, mut request) = snapshot(20, 3, 1).await;
    request.options.heartbeat_timeout = Duration::from_millis(40);
    let (clock, begun) = (fixture.clock.clone(), AtomicU32::new(0));
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |_| {
        let (clock, is_first) = (clock.clone(), begun.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            if is_first {
                clock.advance(Duration::from_secs(3600));
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
        .boxed()
    });
    assert!(completed(&outcome.await.unwrap()));
    let tasks = fixture.manager.tasks_of_job(fixture.jobs()[0].id).unwrap();
    let lost = tasks.iter().filter(|task| task.attempt > 1).count();
    assert!(lost <= 2, "{lost} of {} attempts were lost", tasks.len());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_restore_records_what_is_copied_gives_back_the_rest_and_says_how_much_that_is() {
    let (mut fixture, request) = snapshot(20, 3, 1).await;
    let (begun, stop) = (AtomicU32::new(0), CancellationToken::new());
    let stopper = stop.clone();
    let worker = hooked(&request, move |_| {
        let (is_tenth, stopper) = (begun.fetch_add(1, Ordering::SeqCst) == 9, stopper.clone());
        async move {
            if is_tenth {
                // By then nine are copied, and wait to be recorded with others.
                sleep(Duration::from_millis(1)).await;
                stopper.cancel();
                std::future::pending::<()>().await;
            }
            Ok(())
        }
        .boxed()
    });
    let progress = watch::Sender::new(RestoreProgress::default());
    let outcome = restore_with(&fixture.manager, CATALOG, &request, worker, &progress, &stop).await.unwrap();
    let Outcome::Stopped { job: Some(job) } = outcome else { panic!("{outcome:?}") };
    let states = fixture.manager.snapshot().unwrap().progress(job).unwrap().tasks;
    let (recorded, pending) = (states.get(TaskState::Completed), states.get(TaskState::Pending));
    assert_eq!((recorded, pending), (9, 11), "{states:?}");
    assert_eq!((progress.borrow().segments_copied, progress.borrow().bytes_copied), (recorded, 3 * recorded));
    fixture.restart().await;
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_no_longer_than_promised_however_slow_the_catalog_is() {
    let (fixture, request) = snapshot(20, 3, 4).await;
    let slow = Arc::new(SlowCatalog::new(Arc::new(fixture.catalog.clone())));
    let manager =
        MetaManager::open(Arc::clone(&slow) as Arc<dyn Catalog>, ManagerOptions::default()).await.unwrap();
    let stop = CancellationToken::new();
    let (stopper, stopped_at) = (stop.clone(), Arc::new(Mutex::new(None)));
    let stopping = Arc::clone(&stopped_at);
    let worker = hooked(&request, move |_| {
        slow.hold_commits();
        stopper.cancel();
        stopping.lock().get_or_insert_with(Instant::now);
        std::future::pending().boxed()
    });
    let outcome = restore_with(&manager, CATALOG, &request, worker, &watch::Sender::default(), &stop).await;
    assert!(matches!(outcome, Ok(Outcome::Stopped { .. })), "{outcome:?}");
    let took = stopped_at.lock().unwrap().elapsed();
    assert!(took <= Duration::from_secs(5), "{took:?}");
}

/// Restores two tasks, of which the second is dealt with by somebody else while it is copied by a worker that hangs.
async fn meddled(
    meddle: impl Fn(&mut Txn<'_>, Claim) -> copyseg_core::Result<()> + Send + Sync + 'static,
) -> Outcome {
    let (fixture, request) = snapshot(2, 3, 1).await;
    let (manager, begun) = (fixture.manager.clone(), AtomicU32::new(0));
    let meddle = Arc::new(meddle);
    let outcome = fixture.restore_hooked(&request, &CancellationToken::new(), move |assignment| {
        let (manager, meddle) = (manager.clone(), Arc::clone(&meddle));
        let (task, is_second) = (assignment.task().id, begun.fetch_add(1, Ordering::SeqCst) == 1);
        async move {
            if is_second {
                let claim = manager.get_task(task).unwrap().unwrap().claim().unwrap();
                manager.transact(|txn| meddle(txn, claim)).await.unwrap();
                std::future::pending().await
            }
            Ok(())
        }
        .boxed()
    });
    timeout(Duration::from_secs(3600), outcome).await.expect("it does not wait for ever").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_task_that_somebody_else_gave_back_is_taken_from_a_worker_that_hangs() {
    let outcome = meddled(|txn, claim| txn.release_task(claim, "by hand")).await;
    assert!(completed(&outcome), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restore_whose_open_task_is_removed_fails_and_says_so() {
    let outcome = meddled(|txn, claim| {
        txn.release_task(claim, "by hand")?;
        txn.remove_task(claim.task).map(drop)
    });
    let Outcome::Failed { reason, .. } = outcome.await else { panic!("it cannot be whole") };
    assert!(reason.contains("was removed"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_waits_to_be_recorded_is_not_silent() {
    let (fixture, mut request) = snapshot(20, 1000, 4).await;
    request.options.heartbeat_timeout = Duration::from_millis(150);
    let slow = SlowCatalog::with_delay(Arc::new(fixture.catalog.clone()), Duration::from_millis(400));
    let clock = fixture.clock.clone();
    let options = ManagerOptions { clock: Arc::new(clock.clone()), ..ManagerOptions::default() };
    let manager = MetaManager::open(Arc::new(slow), options).await.unwrap();
    let ticking = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(10)).await;
            clock.advance(Duration::from_millis(10));
        }
    });
    let (progress, stop) = (watch::Sender::new(RestoreProgress::default()), CancellationToken::new());
    let outcome = restore(&manager, CATALOG, &request, &progress, &stop).await.unwrap();
    ticking.abort();
    let Outcome::Completed { job, .. } = outcome else { panic!("{outcome:?}") };
    assert!(manager.tasks_of_job(job).unwrap().iter().all(|task| task.attempt == 1));
    assert_eq!(progress.borrow().bytes_copied, 20_000);
    assert_eq!(progress.borrow().waiting, "");
}
