//! What an operator asks of a leader that lives, dies, or is not there.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Catalog, ErrorKind, JobId, JobState, ManagerOptions, MetaManager, NewJob};
use copyseg_etcd::EtcdCatalog;
use etcd_client::GetOptions;

use crate::member::Member;

const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(300);

async fn leader(member: &Member) -> MetaManager {
    let catalog = Arc::new(EtcdCatalog::open(member.options().lease(LEASE)).await.unwrap());
    loop {
        match MetaManager::open(Arc::clone(&catalog) as _, ManagerOptions::default()).await {
            Ok(manager) => {
                catalog.serve(&manager);
                return manager;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Held, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a request is there, whoever is to answer it.
async fn asked(member: &Member) {
    while left_over(member).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many requests and answers lie in the store.
async fn left_over(member: &Member) -> i64 {
    let mut client = member.client().await;
    let mut count = 0;
    for kind in ["request", "answer"] {
        let options = GetOptions::new().with_prefix().with_count_only();
        count += client.get(format!("/copyseg/v1/{kind}/"), Some(options)).await.unwrap().count();
    }
    count
}

#[tokio::test]
async fn the_leader_cancels_what_it_is_asked_to_and_answers() {
    let member = Member::start(&[]);
    let leader = leader(&member).await;
    let operator = member.catalog().await;
    let head = operator.head().await.unwrap();
    for _ in 0..3 {
        let job = leader.add_job(NewJob::default(), Vec::new()).await.unwrap();
        for reason in ["enough", "asked twice"] {
            operator.request_cancel(job, reason, PATIENCE).await.unwrap();
            let job = leader.get_job(job).unwrap().unwrap();
            assert_eq!((job.state, job.reason.as_str()), (JobState::Cancelled, "enough"));
        }
    }
    let refused = operator.request_cancel(JobId(7777), "enough", PATIENCE).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(refused.to_string().contains("7777"), "{refused}");
    assert_eq!(operator.head().await.unwrap().writer, head.writer, "nobody has acquired the store");
    assert_eq!(left_over(&member).await, 0);
}

#[tokio::test]
async fn a_request_without_a_leader_is_not_done_by_a_later_one() {
    let member = Member::start(&[]);
    let first = leader(&member).await;
    let job = first.add_job(NewJob::default(), Vec::new()).await.unwrap();
    first.close().await.unwrap();
    let asked = member.catalog().await.request_cancel(job, "enough", Duration::from_millis(500)).await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(left_over(&member).await, 0);
    let second = leader(&member).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(second.get_job(job).unwrap().unwrap().state, JobState::Pending);
}

#[tokio::test]
async fn a_request_is_answered_by_the_leader_that_follows() {
    let member = Member::start(&[]);
    let first = leader(&member).await;
    let job = first.add_job(NewJob::default(), Vec::new()).await.unwrap();
    first.close().await.unwrap();
    let operator = member.catalog().await;
    let asking = tokio::spawn(async move { operator.request_cancel(job, "enough", PATIENCE).await });
    asked(&member).await;
    let second = leader(&member).await;
    asking.await.unwrap().unwrap();
    assert_eq!(second.get_job(job).unwrap().unwrap().state, JobState::Cancelled);
}

#[tokio::test]
async fn a_request_is_answered_though_the_member_was_away() {
    let mut member = Member::start(&[]);
    let leader = leader(&member).await;
    for _ in 0..3 {
        let job = leader.add_job(NewJob::default(), Vec::new()).await.unwrap();
        let operator = member.catalog().await;
        member.kill();
        member.restart();
        operator.request_cancel(job, "enough", PATIENCE).await.unwrap();
        assert_eq!(leader.get_job(job).unwrap().unwrap().state, JobState::Cancelled);
    }
}

#[tokio::test]
async fn a_manager_that_is_dropped_is_not_kept_leading_by_its_service() {
    let member = Member::start(&[]);
    let first = leader(&member).await;
    first.add_job(NewJob::default(), Vec::new()).await.unwrap();
    drop(first);
    // Which waits for the end of the lease.
    leader(&member).await;
}
