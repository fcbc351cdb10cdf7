//! A view that is read beside a live writer, through everything that can cut it off.

use std::sync::Arc;

use copyseg_core::{
    Catalog, ErrorKind, Follow, Follower, JobFilter, JobId, ManagerOptions, MetaManager, NewJob, NewTask,
    NodeId, SegmentId, SegmentPair, TaskFilter,
};
use futures::TryStreamExt;

use crate::member::Member;
use crate::writer::Writer;

fn tasks(count: i64) -> Vec<NewTask> {
    (0..count).map(|id| NewTask::new([SegmentPair::new(SegmentId(id), SegmentId(-id))])).collect()
}

async fn manager(member: &Member) -> MetaManager {
    MetaManager::open(Arc::new(member.catalog().await), ManagerOptions::default()).await.unwrap()
}

/// Works on a job: some of its tasks are done, another job comes and goes.
async fn work(manager: &MetaManager) -> JobId {
    let job = manager.add_job(NewJob::default(), tasks(300)).await.unwrap();
    for task in manager.tasks_of_job(job).unwrap().into_iter().take(20) {
        let claim = manager.claim_task(task.id, NodeId(1)).await.unwrap();
        manager.complete_task(claim).await.unwrap();
    }
    let other = manager.add_job(NewJob::default(), tasks(300)).await.unwrap();
    manager.cancel_job(other, "enough").await.unwrap();
    manager.remove_job(other).await.unwrap();
    job
}

/// Waits until the follower has seen what the manager has committed, and compares all of it.
async fn agree(follower: &mut Follower, manager: &MetaManager) {
    let written = manager.snapshot().unwrap();
    let mut seen = follower.snapshot();
    while seen.revision() < written.revision() {
        seen = follower.changed().await.unwrap();
    }
    let (jobs, filter) = (JobFilter::new(), TaskFilter::new());
    assert!(seen.jobs(&jobs).eq(written.jobs(&jobs)));
    assert!(seen.tasks(&filter).eq(written.tasks(&filter)));
}

#[tokio::test]
async fn a_follower_sees_what_the_writer_did_and_what_the_next_one_does() {
    let member = Member::start(&[]);
    let first = manager(&member).await;
    work(&first).await;
    let mut follower = Follower::open(Arc::new(member.catalog().await)).await.unwrap();
    agree(&mut follower, &first).await;
    work(&first).await;
    agree(&mut follower, &first).await;
    first.close().await.unwrap();
    let second = manager(&member).await;
    work(&second).await;
    agree(&mut follower, &second).await;
}

#[tokio::test]
async fn a_follower_catches_up_after_the_member_was_away_and_its_history_is_gone() {
    let mut member = Member::start(&[]);
    let manager = manager(&member).await;
    let mut follower = Follower::open(Arc::new(member.catalog().await)).await.unwrap();
    for _ in 0..3 {
        member.kill();
        member.restart();
        member.serves();
        work(&manager).await;
        let mut client = member.client().await;
        let revision = client.get("x", None).await.unwrap().header().unwrap().revision();
        client.compact(revision, None).await.unwrap();
        agree(&mut follower, &manager).await;
    }
}

#[tokio::test]
async fn every_commit_after_the_load_comes_whole_and_in_order() {
    let member = Member::start(&[]);
    let catalog = member.catalog().await;
    let mut writer = Writer::acquire(&catalog).await;
    writer.put(0..100, 100).await.unwrap();
    let mut following = catalog.follow().await.unwrap();
    let mut heads = Vec::new();
    for round in 0..100 {
        // Together more than a message holds, so that they come in several.
        writer.put((0..20).map(|id| round + id), 60_000).await.unwrap();
        heads.push(writer.head);
    }
    for head in heads {
        let committed = following.commits.try_next().await.unwrap().unwrap();
        assert_eq!((committed.head, committed.batch.operations().len()), (head, 20));
    }
    catalog.close().await.unwrap();
    assert_eq!(following.commits.try_next().await.unwrap_err().kind(), ErrorKind::Closed);
}
