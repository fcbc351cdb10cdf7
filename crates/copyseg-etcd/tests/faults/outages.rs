//! Members that are dead, die, freeze, and come back.

use std::time::Duration;

use copyseg_core::{Catalog, ErrorKind};
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_test_etcd::free_address;

use crate::member::Member;
use crate::writer::Writer;

#[tokio::test]
async fn a_dead_member_costs_no_request() {
    let member = Member::start(&[]);
    let dead = free_address().to_string();
    for endpoints in [[&dead, &member.endpoint], [&member.endpoint, &dead]] {
        let options = EtcdOptions::new(endpoints).timeout(Duration::from_secs(30));
        let catalog = EtcdCatalog::open(options).await.unwrap();
        let mut writer = Writer::acquire(&catalog).await;
        for id in 0..100 {
            writer.put([id], 100).await.unwrap();
        }
        writer.assert_stored().await;
        catalog.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let dead = free_address().to_string();
    let error = EtcdCatalog::open(EtcdOptions::new([&dead])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&dead), "{error}");
    assert!(error.chain().contains("Connection refused"), "{}", error.chain());
}

#[tokio::test]
async fn a_frozen_member_leaves_the_outcome_unknown_and_sending_again_settles_it() {
    let member = Member::start(&[]);
    let hasty = member.options().timeout(Duration::from_millis(500));
    let catalog = loop {
        // A busy machine may need longer even for a member that is awake.
        if let Ok(catalog) = EtcdCatalog::open(hasty.clone()).await {
            break catalog;
        }
    };
    let patient = member.catalog().await;
    let mut writer = Writer::acquire(&patient).await;
    for id in 0..20 {
        let (batch, next) = writer.small(id);
        // Without a connection nothing would be sent, and so nothing be unknown.
        while catalog.head().await.is_err() {}
        member.freeze();
        let error = catalog.commit(&writer.head, &next, &batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
        let error = catalog.head().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        member.wake();
        match patient.commit(&writer.head, &next, &batch).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
                assert_eq!(patient.head().await.unwrap(), next, "only the first try can have moved the head");
            }
        }
        writer.note(id, next);
        writer.assert_stored().await;
    }
}

#[tokio::test]
async fn a_killed_member_loses_no_commit_and_the_catalog_goes_on_when_it_is_back() {
    let mut member = Member::start(&[]);
    let catalog = member.catalog().await;
    let mut writer = Writer::acquire(&catalog).await;
    for id in 0..10 {
        writer.put_surely(id).await;
        member.kill();
        let (batch, next) = writer.small(1000);
        let error = catalog.commit(&writer.head, &next, &batch).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Unavailable), "{error:?}");
        let error = catalog.commit(&writer.head, &next, &batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "nothing is sent without a connection: {error:?}");
        member.restart();
        writer.put_surely(id + 100).await;
        writer.assert_stored().await;
    }
}

#[tokio::test]
async fn losing_any_one_of_three_members_stops_nothing_and_losing_two_changes_nothing() {
    let mut members = Member::cluster(3, &[]);
    members.iter_mut().for_each(|member| member.serves());
    let endpoints = members.iter().map(|member| member.endpoint.clone());
    let catalog =
        EtcdCatalog::open(EtcdOptions::new(endpoints).timeout(Duration::from_secs(10))).await.unwrap();
    let mut writer = Writer::acquire(&catalog).await;
    for member in &mut members {
        member.kill();
        for id in 0..20 {
            writer.put_surely(id).await;
        }
        member.restart();
        member.serves();
    }
    writer.assert_stored().await;

    members[0].kill();
    members[1].kill();
    let (batch, next) = writer.small(7);
    let error = catalog.commit(&writer.head, &next, &batch).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Unavailable), "{error:?}");
    assert_eq!(
        catalog.head().await.unwrap_err().kind(),
        ErrorKind::Unavailable,
        "a minority serves no reads"
    );
    members[0].restart();
    members[1].restart();
    writer.put_surely(7).await;
    writer.assert_stored().await;
}
