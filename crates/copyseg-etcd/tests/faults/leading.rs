//! One process leads, others stand by, and a dead or frozen one is replaced.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Catalog, ErrorKind, JobFilter, ManagerOptions, MetaManager, NewJob};
use copyseg_etcd::EtcdCatalog;
use tokio::runtime::Runtime;

use crate::member::Member;

/// So long that no pause of a busy machine outlasts it.
const LEASE: Duration = Duration::from_secs(20);

async fn catalog(member: &Member) -> Arc<EtcdCatalog> {
    Arc::new(EtcdCatalog::open(member.options().lease(LEASE)).await.unwrap())
}

async fn manager(member: &Member) -> copyseg_core::Result<MetaManager> {
    MetaManager::open(catalog(member).await, ManagerOptions::default()).await
}

/// Tries until nobody else leads.
async fn stand_by(member: &Member) -> MetaManager {
    loop {
        match manager(member).await {
            Ok(manager) => return manager,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Held, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_leads_and_harms_nobody() {
    let member = Member::start(&[]);
    let first = manager(&member).await.unwrap();
    // Longer than a lease, so that it has to be renewed.
    for _ in 0..5 {
        let error = manager(&member).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Held, "{error:?}");
        assert!(error.to_string().contains(&format!("process {} on", std::process::id())), "{error}");
        first.add_job(NewJob::default(), Vec::new()).await.unwrap();
        tokio::time::sleep(LEASE / 4).await;
    }
    first.close().await.unwrap();
    let second = manager(&member).await.unwrap();
    assert_eq!(second.count_jobs(&JobFilter::new()).unwrap(), 5);
}

#[test]
fn a_standby_takes_over_from_a_process_that_stops() {
    let (frozen, alive) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let member = Member::start(&[]);
    let first = frozen.block_on(manager(&member)).unwrap();
    frozen.block_on(first.add_job(NewJob::default(), Vec::new())).unwrap();
    // Stands for the process that dies: nothing of it runs any more.
    frozen.shutdown_background();
    alive.block_on(async {
        let second = stand_by(&member).await;
        assert_eq!(second.count_jobs(&JobFilter::new()).unwrap(), 1);
        second.add_job(NewJob::default(), Vec::new()).await.unwrap();
    });
}

#[tokio::test]
async fn a_leader_whose_lease_was_lost_leads_again_unless_another_took_over() {
    let member = Member::start(&[]);
    let first = catalog(&member).await;
    let head = first.acquire().await.unwrap();
    let mut client = member.client().await;
    for lease in client.leases().await.unwrap().leases() {
        client.lease_revoke(lease.id()).await.unwrap();
    }
    while client.get("/copyseg/v1/leader", None).await.unwrap().kvs().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(first.head().await.unwrap(), head, "leading again moves no head");
    assert_eq!(catalog(&member).await.acquire().await.unwrap_err().kind(), ErrorKind::Held);

    for lease in client.leases().await.unwrap().leases() {
        client.lease_revoke(lease.id()).await.unwrap();
    }
    let second = catalog(&member).await;
    let taken = loop {
        match second.acquire().await {
            Ok(head) => break head,
            // The first was quicker; it is the same contest again.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Held, "{error:?}"),
        }
        for lease in client.leases().await.unwrap().leases() {
            client.lease_revoke(lease.id()).await.unwrap();
        }
    };
    // Time for the first to look at its lease again.
    tokio::time::sleep(LEASE / 2).await;
    let refused = first.commit(&head, &head, &copyseg_core::Batch::from_iter([])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(second.head().await.unwrap(), taken);
}
