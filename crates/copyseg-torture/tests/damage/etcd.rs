//! The values of a store on a member of etcd that runs: records, the head, and the name of the leader.

use std::sync::Arc;

use copyseg_core::{Catalog, ErrorKind, ManagerOptions, MetaManager, Result};
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_torture::damage::{Finding, Spoil, Written, spoils};
use copyseg_torture::{EtcdMember, EtcdValues, Trial};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};

/// In the short form a round damages one byte in so many of each value; so many rounds damage every byte.
const STRIDE: usize = 151;

/// Most of the time the member syncs its log.
const AT_ONCE: usize = 8;

fn open(store: &EtcdOptions) -> BoxFuture<'_, Result<Arc<dyn Catalog>>> {
    Box::pin(async move { Ok(Arc::new(EtcdCatalog::open(store.clone()).await?) as Arc<dyn Catalog>) })
}

async fn manager(store: &EtcdOptions) -> Result<MetaManager> {
    MetaManager::open(open(store).await?, ManagerOptions::default()).await
}

/// What nobody leads any more.
async fn fill(member: &EtcdMember) -> (Written, EtcdValues) {
    let store = member.store_of_its_own();
    let manager = manager(&store).await.unwrap();
    let written = Written::fill(&manager).await.unwrap();
    manager.close().await.unwrap();
    let values = member.values(&store).await;
    // The tasks of the job that was removed may be there still.
    assert!(values.len() >= 1 + 2 + 3 + 12, "head, format, counter, jobs and tasks: {values:?}");
    (written, values)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_value_in_etcd_is_set_aside_and_a_damaged_head_is_refused() {
    let member = EtcdMember::start().await;
    let (written, values) = fill(&member).await;
    let name = "a_damaged_value_in_etcd_is_set_aside_and_a_damaged_head_is_refused";
    let mut trial = Trial::new(name, 1);
    while let Some(mut round) = trial.round() {
        let damage = values.iter().enumerate().flat_map(|(at, (_, value))| {
            let stride = STRIDE.min(value.len());
            spoils(value.len(), round.seed() + at as u64, stride).map(move |spoil| (at, spoil))
        });
        let damage: Vec<_> = damage.collect();
        let found = damage.into_iter().map(|(at, spoil)| find(&member, &written, &values, at, spoil));
        let found: Vec<_> = stream::iter(found).buffer_unordered(AT_ONCE).collect().await;
        for found in found.into_iter().flatten() {
            match found {
                Finding::SetAside => round.count("set aside", 1),
                _ => round.count("refused", 1),
            }
        }
    }
}

/// A store of its own with one damaged value, and what is made of it; nothing if the damage changes nothing.
async fn find(
    member: &EtcdMember,
    written: &Written,
    values: &EtcdValues,
    at: usize,
    spoil: Spoil,
) -> Option<Finding> {
    let mut damaged = values.clone();
    let (name, value) = &mut damaged[at];
    if !spoil.apply(value) {
        return None;
    }
    let expected = if name == "head" { Finding::Refused } else { Finding::SetAside };
    let store = member.store_of_its_own();
    member.put(&store, damaged.clone()).await;
    let found = written.find(&|| open(&store)).await;
    assert_eq!(found, Ok(expected), "{}, {spoil}", values[at].0);
    member.remove(&store, "").await;
    Some(expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_name_is_damaged_leads_on_and_is_nobodys_to_replace() {
    let member = EtcdMember::start().await;
    let store = member.store_of_its_own();
    let leading = manager(&store).await.unwrap();
    let written = Written::fill(&leading).await.unwrap();
    let values = member.values(&store).await;
    let (name, whole) = values.into_iter().find(|(name, _)| name == "leader").unwrap();
    let mut trial = Trial::new("a_leader_whose_name_is_damaged_leads_on_and_is_nobodys_to_replace", 1);
    while let Some(mut round) = trial.round() {
        for spoil in spoils(whole.len(), round.seed(), STRIDE.min(whole.len())) {
            let mut damaged = whole.clone();
            if !spoil.apply(&mut damaged) {
                continue;
            }
            member.put_leased(&store, &name, damaged).await;
            let held = manager(&store).await.expect_err("it is led");
            assert_eq!(held.kind(), ErrorKind::Held, "{spoil}: {held:?}");
            assert!(held.to_string().contains("the store in etcd is held by"), "{spoil}: {held}");
            leading.allocate_ids(1).await.unwrap();
            round.count("damaged names", 1);
        }
    }
    assert_eq!(written, Written::of(&leading.snapshot().unwrap()));
    leading.close().await.unwrap();
    assert_eq!(written.find(&|| open(&store)).await, Ok(Finding::Whole));
}

/// Someone may have put a damaged name right by hand. Without its lease it would stay for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_named_without_a_lease_is_said_to_stay_until_its_key_is_removed() {
    let member = EtcdMember::start().await;
    let (written, mut values) = fill(&member).await;
    values.push(("leader".into(), br#"{"host":"db-1","pid":77,"since":"2026-11-23T05:00:00Z"}"#.to_vec()));
    let store = member.store_of_its_own();
    member.put(&store, values).await;
    let held = manager(&store).await.expect_err("it may be led");
    assert_eq!(held.kind(), ErrorKind::Held, "{held:?}");
    let key = format!("remove the key `/{}/v1/leader`", store.prefix);
    assert!(held.to_string().contains("process 77 on db-1"), "{held}");
    assert!(held.to_string().contains(&key), "{held}");
    member.remove(&store, "leader").await;
    assert_eq!(written.find(&|| open(&store)).await, Ok(Finding::Whole));
}
