//! A follower shows what the writer committed, and never more.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use copyseg_core::{
    Error, ErrorKind, Follow, Follower, Following, JobFilter, JobId, Limits, ManagerOptions, MemoryCatalog,
    MetaManager, NewJob, NewTask, NodeId, SegmentId, SegmentPair, Snapshot, TaskFilter, TaskId,
};
use futures::{StreamExt, stream};
use proptest::prelude::*;

fn tasks(ids: std::ops::Range<i64>) -> Vec<NewTask> {
    let task = |id| NewTask {
        id: Some(TaskId(id)),
        ..NewTask::new([SegmentPair::new(SegmentId(id), SegmentId(-id))])
    };
    ids.map(task).collect()
}

fn contents(snapshot: &Snapshot) -> (Vec<copyseg_core::Job>, Vec<copyseg_core::Task>) {
    let jobs = snapshot.jobs(&JobFilter::new()).map(|job| job.as_ref().clone()).collect();
    (jobs, snapshot.tasks(&TaskFilter::new()).map(|task| task.as_ref().clone()).collect())
}

/// Waits until the follower has seen what the writer has committed, and compares all of it.
async fn agree(follower: &mut Follower, manager: &MetaManager) {
    let written = manager.snapshot().unwrap();
    let mut seen = follower.snapshot();
    while seen.revision() < written.revision() {
        seen = follower.changed().await.unwrap();
    }
    assert_eq!(seen.revision(), written.revision());
    assert_eq!(contents(&seen), contents(&written));
}

/// One random step of the writer; most are refused in most states, which is fine.
async fn step(manager: &MetaManager, action: u8, job: i64, task: i64) {
    let (id, task) = (JobId(job), TaskId(job * 100 + task));
    let new = NewJob { id: Some(id), ..NewJob::default() };
    let _ = match action {
        0 => manager.add_job(new, tasks(job * 100..job * 100 + 3)).await.map(drop),
        1 => manager.add_job(new, tasks(job * 100..job * 100 + 50)).await.map(drop),
        2 => manager.remove_job(id).await.map(drop),
        3 => manager.cancel_job(id, "enough").await.map(drop),
        4 => manager.claim_task(task, NodeId(1)).await.map(drop),
        5 => manager.remove_task(task).await.map(drop),
        _ => match manager.get_task(task).unwrap().and_then(|task| task.claim()) {
            Some(claim) => manager.complete_task(claim).await,
            None => Ok(()),
        },
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_follower_agrees_with_the_writer_after_any_sequence(
        steps in prop::collection::vec((0..7u8, 1..4i64, 0..3i64), 1..40),
        begin in 0..40usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Small batches, so that large jobs are staged where the follower sees their tasks first.
            let catalog = MemoryCatalog::with_limits(Limits { operations_max: 16, bytes_max: 1 << 20, commits_max: 1 });
            let manager =
                MetaManager::open(Arc::new(catalog.clone()), ManagerOptions::default()).await.unwrap();
            let mut follower = None;
            for (number, (action, job, task)) in steps.into_iter().enumerate() {
                if number == begin {
                    follower = Some(Follower::open(Arc::new(catalog.clone())).await.unwrap());
                }
                step(&manager, action, job, task).await;
            }
            if let Some(mut follower) = follower {
                agree(&mut follower, &manager).await;
            }
        });
    }
}

/// Loses the connection after every third commit.
#[derive(Debug)]
struct Flaky {
    catalog: MemoryCatalog,
    begun: AtomicUsize,
}

#[async_trait::async_trait]
impl Follow for Flaky {
    async fn follow(&self) -> copyseg_core::Result<Following> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let Following { loaded, commits } = self.catalog.follow().await?;
        let lost = stream::iter([Err(Error::new(ErrorKind::Unavailable, "the connection was lost"))]);
        Ok(Following { loaded, commits: commits.take(3).chain(lost).boxed() })
    }
}

#[tokio::test]
async fn a_follower_that_loses_its_connection_begins_anew() {
    let catalog = MemoryCatalog::new();
    let manager = MetaManager::open(Arc::new(catalog.clone()), ManagerOptions::default()).await.unwrap();
    let flaky = Arc::new(Flaky { catalog, begun: AtomicUsize::new(0) });
    let mut follower = Follower::open(flaky.clone()).await.unwrap();
    for id in 0..20 {
        manager.add_job(NewJob::default(), tasks(10 * id..10 * id + 2)).await.unwrap();
        agree(&mut follower, &manager).await;
    }
    assert!(flaky.begun.load(Ordering::Relaxed) > 5);
}

#[tokio::test]
async fn a_follower_sees_a_takeover() {
    let catalog = MemoryCatalog::new();
    let first = MetaManager::open(Arc::new(catalog.clone()), ManagerOptions::default()).await.unwrap();
    let mut follower = Follower::open(Arc::new(catalog.clone())).await.unwrap();
    first.add_job(NewJob::default(), tasks(0..3)).await.unwrap();
    let second = MetaManager::open(Arc::new(catalog.clone()), ManagerOptions::default()).await.unwrap();
    second.add_job(NewJob::default(), tasks(10..13)).await.unwrap();
    agree(&mut follower, &second).await;
}
