//! A job of any size comes and goes whole, on a store that takes four operations at a time.

use std::sync::Arc;
use std::time::Duration;

use copyseg_conformance::{Call, Fault, SlowCatalog};
use copyseg_core::{
    Catalog, ErrorKind, JobAction, JobId, JobState, Limits, ManagerOptions, MemoryCatalog, MetaManager,
    NewJob, NewTask, NodeId, Operation, PartitionId, SegmentId, SegmentPair, TaskFilter, TaskId, TaskState,
};
use rstest::rstest;

use super::{
    Fixture, TINY, job, job_key, open, records, stored, tamper, task, until_idle, until_swept, visible,
};

async fn tiny() -> Fixture {
    Fixture::on(MemoryCatalog::with_limits(TINY)).await
}

/// A task whose record takes 30 KB and more.
fn wide_task(id: i64) -> NewTask {
    let pairs = (0..1_000)
        .map(|n| SegmentPair::new(SegmentId(id * 1_000 + n), SegmentId((1 << 40) + id * 1_000 + n)));
    NewTask { id: Some(TaskId(id)), ..NewTask::new(pairs) }
}

#[rstest]
#[case::many_operations(TINY, (11..111).map(task).collect())]
#[case::many_bytes(Limits { operations_max: 10_000, ..TINY }, (11..61).map(wide_task).collect())]
#[case::one_task_more_than_fits(TINY, (11..14).map(task).collect())]
#[tokio::test]
async fn a_job_larger_than_a_batch_becomes_visible_whole(
    #[case] limits: Limits,
    #[case] tasks: Vec<NewTask>,
) {
    let fixture = Fixture::on(MemoryCatalog::with_limits(limits)).await;
    let (before, count) = (fixture.meta.snapshot().unwrap().revision(), tasks.len());
    let mut subscription = fixture.meta.subscribe().unwrap();
    let id = fixture.meta.add_job(job(1), tasks).await.unwrap();

    let snapshot = fixture.meta.snapshot().unwrap();
    assert_eq!(snapshot.tasks_of_job(id).count(), count);
    assert_eq!(snapshot.job(id).unwrap().revision, snapshot.revision());
    assert!(snapshot.revision() > before);
    let seen = loop {
        match subscription.next().await.unwrap() {
            copyseg_core::Event::Changes(changes) if changes.jobs.is_empty() => {
                assert!(changes.tasks.is_empty())
            }
            copyseg_core::Event::Changes(changes) => break changes,
            copyseg_core::Event::Lagged(_) => panic!("nobody lags here"),
        }
    };
    assert_eq!((seen.jobs.len(), seen.tasks.len()), (1, count), "subscribers are told of all of it at once");
    assert_eq!(stored(&fixture.store).await, visible(&snapshot));
    assert_eq!(visible(&open(&fixture.store).await.snapshot().unwrap()), visible(&snapshot));
}

#[tokio::test(start_paused = true)]
async fn other_transactions_run_while_a_large_job_is_added_and_nobody_sees_a_part_of_it() {
    let store = MemoryCatalog::with_limits(TINY);
    let slow = SlowCatalog::with_delay(std::sync::Arc::new(store.clone()), Duration::from_millis(10));
    let meta = MetaManager::open(std::sync::Arc::new(slow), ManagerOptions::default()).await.unwrap();
    meta.add_job(job(2), vec![]).await.unwrap();
    let adding = {
        let meta = meta.clone();
        tokio::spawn(async move { meta.add_job(job(1), (11..111).map(task).collect()).await })
    };
    let mut between = 0;
    while !adding.is_finished() {
        meta.update_job(JobId(2), [JobAction::Rows(between)]).await.unwrap();
        between += 1;
        for snapshot in [meta.snapshot().unwrap(), copyseg_core::Snapshot::load(&store).await.unwrap()] {
            let tasks = snapshot.count_tasks(&TaskFilter::new());
            assert_eq!(tasks, if snapshot.job(JobId(1)).is_some() { 100 } else { 0 });
        }
    }
    adding.await.unwrap().unwrap();
    assert!(between > 10, "{between} transactions ran meanwhile");
}

#[rstest]
#[case::it_succeeds(false)]
#[case::it_fails(true)]
#[tokio::test]
async fn ids_are_reserved_while_a_large_job_is_added_and_not_longer(#[case] fail: bool) {
    let fixture = tiny().await;
    fixture.meta.add_job(NewJob { segments: Some(9), ..job(2) }, vec![]).await.unwrap();
    fixture.slow.hold_commits();
    let adding = {
        let meta = fixture.meta.clone();
        tokio::spawn(async move { meta.add_job(job(1), (11..31).map(task).collect()).await })
    };
    fixture.slow.commit_held().await;
    let taken = ErrorKind::AlreadyExists { identical: false };
    assert_eq!(fixture.meta.add_job(job(1), vec![]).await.unwrap_err().kind(), taken);
    assert_eq!(fixture.meta.add_task(JobId(2), task(30)).await.unwrap_err().kind(), taken);
    assert_eq!(fixture.meta.claim_task(TaskId(30), NodeId(5)).await.unwrap_err().kind(), ErrorKind::NotFound);
    if fail {
        fixture.faults.fail_nth_of(Call::Commit, 2, Fault::Before);
    }
    fixture.slow.release_commits();
    assert_eq!(adding.await.unwrap().is_err(), fail);
    if fail {
        fixture.meta.add_job(job(1), vec![]).await.unwrap();
        fixture.meta.add_task(JobId(2), task(30)).await.unwrap();
    } else {
        fixture.meta.remove_job(JobId(1)).await.unwrap();
        fixture.meta.add_task(JobId(2), task(30)).await.unwrap();
    }
    until_swept(&fixture.store).await;
    assert_eq!(visible(&open(&fixture.store).await.snapshot().unwrap()), stored(&fixture.store).await);
    assert!(stored(&fixture.store).await.tasks.iter().any(|task| task.id == TaskId(30)));
}

#[tokio::test]
async fn a_caller_that_is_dropped_does_not_stop_the_addition() {
    let fixture = tiny().await;
    fixture.slow.hold_commits();
    let meta = fixture.meta.clone();
    let adding = tokio::spawn(async move { meta.add_job(job(1), (11..31).map(task).collect()).await });
    fixture.slow.commit_held().await;
    adding.abort();
    fixture.slow.release_commits();
    super::eventually(async || fixture.meta.get_job(JobId(1)).unwrap().is_some()).await;
    assert_eq!(fixture.meta.tasks_of_job(JobId(1)).unwrap().len(), 20);
}

/// Refused before a byte is written, also when only the last of many tasks is too large.
#[tokio::test]
async fn a_large_job_with_one_record_too_large_writes_nothing() {
    let fixture = tiny().await;
    let head = fixture.store.head().await.unwrap();
    let too_large = NewTask {
        id: Some(TaskId(99)),
        ..NewTask::new((0..9_000).map(|n| SegmentPair::new(SegmentId(n << 40), SegmentId(n << 41))))
    };
    let tasks = (11..31).map(task).chain([too_large]).collect();
    let error = fixture.meta.add_job(job(1), tasks).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("task 99"), "{error}");
    assert_eq!(fixture.store.head().await.unwrap(), head);
}

/// The rule that makes a large addition atomic: a task is visible if and only if its job has its incarnation.
#[tokio::test]
async fn leftovers_of_an_earlier_job_with_the_same_id_stay_invisible() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12]).await;
    let old = records(&fixture.store).await;
    fixture.meta.remove_job(JobId(1)).await.unwrap();
    until_swept(&fixture.store).await;
    fixture.add(1, [13]).await;
    fixture.meta.close().await.unwrap();
    let leftover = super::task_key(11);
    tamper(&fixture.store, [Operation::Put(leftover, old[&leftover].clone().into())]).await;

    let meta = open(&fixture.store).await;
    let ids: Vec<i64> = meta.tasks_of_job(JobId(1)).unwrap().iter().map(|task| task.id.0).collect();
    assert_eq!(ids, [13]);
    until_swept(&fixture.store).await;
    assert!(!records(&fixture.store).await.contains_key(&leftover));
}

#[tokio::test]
async fn a_large_job_is_removed_whole_with_one_commit_and_its_tasks_follow() {
    let fixture = tiny().await;
    fixture.add(1, 11..111).await;
    fixture.slow.hold_commits();
    let meta = fixture.meta.clone();
    let removal = tokio::spawn(async move { meta.remove_job(JobId(1)).await });
    fixture.slow.commit_held().await;
    assert_eq!(fixture.meta.tasks_of_job(JobId(1)).unwrap().len(), 100);
    let commits = fixture.faults.commits();
    fixture.slow.release_commits();
    assert!(removal.await.unwrap().unwrap());
    assert_eq!(fixture.faults.commits(), commits + 1, "the caller waits for one commit");
    assert_eq!(stored(&fixture.store).await.tasks, []);
    until_swept(&fixture.store).await;
}

/// From that one write on its open tasks are over, in memory and after any restart.
#[rstest]
#[case::cancelled(JobState::Cancelled, TaskState::Cancelled)]
#[case::failed(JobState::Failed, TaskState::Failed)]
#[tokio::test]
async fn ending_a_job_is_one_write_of_its_record(#[case] end: JobState, #[case] task_end: TaskState) {
    let fixture = tiny().await;
    fixture.add(1, 11..61).await;
    let running = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    let done = fixture.meta.claim_task(TaskId(12), NodeId(5)).await.unwrap();
    fixture.meta.complete_task(done).await.unwrap();
    let before = records(&fixture.store).await;
    fixture.clock.advance(Duration::from_secs(1));
    fixture.slow.hold_commits();
    let meta = fixture.meta.clone();
    let ending = tokio::spawn(async move {
        match end {
            JobState::Cancelled => meta.cancel_job(JobId(1), "stop").await,
            _ => meta.fail_job(JobId(1), "stop").await,
        }
    });
    fixture.slow.commit_held().await;
    let commits = fixture.faults.commits();
    fixture.slow.release_commits();
    ending.await.unwrap().unwrap();
    assert_eq!(fixture.faults.commits(), commits + 1);
    let after = records(&fixture.store).await;
    let changed: Vec<_> =
        after.iter().filter(|(key, bytes)| before[key] != **bytes).map(|(key, _)| *key).collect();
    assert_eq!(changed, [job_key(1)]);

    for meta in [&fixture.meta, &open(&fixture.store).await] {
        let progress = meta.snapshot().unwrap().progress(JobId(1)).unwrap();
        assert_eq!((progress.tasks.get(task_end), progress.tasks.get(TaskState::Completed)), (49, 1));
        let task = meta.get_task(TaskId(11)).unwrap().unwrap();
        let job = meta.get_job(JobId(1)).unwrap().unwrap();
        assert_eq!((task.state, task.reason.as_str(), task.completed), (task_end, "stop", job.completed));
        assert_eq!((task.updated, task.revision), (job.updated, job.revision), "it changed with its job");
        if std::ptr::eq(meta, &fixture.meta) {
            assert_eq!(stored(&fixture.store).await, visible(&meta.snapshot().unwrap()));
            assert_eq!(meta.complete_task(running).await.unwrap_err().kind(), ErrorKind::StaleClaim);
        }
        until_idle().await;
    }
}

#[tokio::test]
async fn all_tasks_of_a_lost_node_are_given_back_however_many() {
    let fixture = tiny().await;
    fixture.add(1, 11..31).await;
    for id in 11..31 {
        fixture.meta.claim_task(TaskId(id), NodeId(5)).await.unwrap();
    }
    assert_eq!(fixture.meta.reassign_node(NodeId(5), "lost").await.unwrap(), 20);
    let pending = TaskFilter::new().states([TaskState::Pending]);
    assert_eq!(fixture.meta.count_tasks(&pending).unwrap(), 20);
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

/// A limit on active jobs also counts those that are still being added.
#[tokio::test]
async fn two_large_jobs_added_at_once_keep_to_the_quota() {
    let options = ManagerOptions { active_jobs_max: Some(1), ..ManagerOptions::default() };
    let fixture = Fixture::with(MemoryCatalog::with_limits(TINY), options).await;
    let add = |id: i64| fixture.meta.add_job(job(id), (id * 100..id * 100 + 20).map(task).collect());
    let (one, two) = tokio::join!(add(1), add(2));
    let refused = one.and(two).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(stored(&fixture.store).await.jobs.len(), 1);
}

/// The reservation of a large job's ids ends a little after the job has come.
#[tokio::test(start_paused = true)]
async fn a_large_job_that_is_just_becoming_visible_counts_once() {
    let store = Arc::new(MemoryCatalog::with_limits(TINY));
    let slow = SlowCatalog::with_delay(store, Duration::from_secs(1));
    let options = ManagerOptions { active_jobs_max: Some(2), ..ManagerOptions::default() };
    let meta = MetaManager::open(Arc::new(slow), options).await.unwrap();
    let five = || (11..16).map(task).collect();
    let (large, adding) = (meta.clone(), five());
    let adding = tokio::spawn(async move { large.add_job(job(1), adding).await });
    // Two batches of tasks are stored, and the job's own record is on its way.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let (again, second) = tokio::join!(meta.add_job(job(1), five()), meta.add_job(job(2), vec![]));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists { identical: true });
    second.unwrap();
    adding.await.unwrap().unwrap();
}

/// A job whose snapshot has a name of `text` bytes, with one task of `pairs` wide pairs.
async fn add_large(meta: &MetaManager, text: usize, pairs: usize) -> copyseg_core::Result<JobId> {
    let pairs = (0..pairs as i64).map(|n| SegmentPair {
        partition: Some(PartitionId(i64::MAX)),
        ..SegmentPair::new(SegmentId((1 << 40) + n), SegmentId((1 << 41) + n))
    });
    let task = NewTask { id: Some(TaskId(11)), ..NewTask::new(pairs) };
    meta.add_job(NewJob { snapshot: "x".repeat(text), ..job(1) }, vec![task]).await
}

/// The greatest number that is taken.
async fn greatest(taken: impl AsyncFn(usize) -> bool) -> usize {
    let (mut least, mut most) = (0, 70_000);
    while most - least > 1 {
        let middle = usize::midpoint(least, most);
        *if taken(middle).await { &mut least } else { &mut most } = middle;
    }
    least
}

/// What can be added can also be worked on and ended: a record keeps room for what is still to come.
#[tokio::test]
async fn the_largest_job_and_task_can_be_claimed_released_and_ended() {
    let text = greatest(async |text| add_large(&Fixture::new().await.meta, text, 1).await.is_ok()).await;
    let pairs = greatest(async |pairs| add_large(&Fixture::new().await.meta, 1, pairs).await.is_ok()).await;
    assert!(text > 60_000 && pairs > 1_000, "{text} bytes, {pairs} pairs");

    let reason = "x".repeat(1_000);
    for (text, pairs) in [(text, 1), (1, pairs)] {
        let meta = Fixture::new().await.meta;
        add_large(&meta, text, pairs).await.unwrap();
        for _ in 0..3 {
            let claim = meta.claim_task(TaskId(11), NodeId(i64::MIN)).await.unwrap();
            meta.release_task(claim, &reason).await.unwrap();
        }
        let claim = meta.claim_task(TaskId(11), NodeId(i64::MIN)).await.unwrap();
        meta.fail_task(claim, &reason).await.unwrap();
        meta.fail_job(JobId(1), &reason).await.unwrap();
    }
}
