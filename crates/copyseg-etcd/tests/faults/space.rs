//! History that goes, and space that runs out.

use copyseg_core::{Catalog, ErrorKind, Head};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
use futures::TryStreamExt;

use crate::member::Member;
use crate::writer::Writer;

/// So many small records that a load does not have them all when its first page is taken.
const MORE_THAN_READ_AHEAD: i64 = 80_000;

async fn compact_everything(member: &Member) {
    let mut client = member.client().await;
    let revision = client.put("elsewhere", "", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, None).await.unwrap();
}

#[tokio::test]
async fn a_load_goes_on_when_its_history_is_compacted() {
    let member = Member::start(&[]);
    let catalog = member.catalog().await;
    let mut writer = Writer::acquire(&catalog).await;
    for first in (0..MORE_THAN_READ_AHEAD).step_by(100) {
        writer.put(first..first + 100, 100).await.unwrap();
    }
    let mut loaded = catalog.load().await.unwrap();
    compact_everything(&member).await;
    let mut records = 0;
    while let Some(page) = loaded.pages.try_next().await.unwrap() {
        if records == 0 {
            compact_everything(&member).await;
        }
        records += page.len();
    }
    assert_eq!(records as i64, MORE_THAN_READ_AHEAD);

    let loaded = catalog.load().await.unwrap();
    compact_everything(&member).await;
    writer.assert_loaded(loaded).await;
}

#[tokio::test]
async fn a_load_whose_history_is_compacted_beside_a_writer_ends_in_an_error_and_mixes_nothing() {
    let member = Member::start(&[]);
    let catalog = member.catalog().await;
    let mut writer = Writer::acquire(&catalog).await;
    for first in (0..MORE_THAN_READ_AHEAD).step_by(100) {
        writer.put(first..first + 100, 100).await.unwrap();
    }
    let mut loaded = catalog.load().await.unwrap();
    loaded.pages.try_next().await.unwrap().unwrap();
    writer.put([0], 100).await.unwrap();
    compact_everything(&member).await;
    let error = loop {
        match loaded.pages.try_next().await {
            Ok(page) => assert!(page.is_some(), "the load ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("load it again"), "{error}");
    assert!(loaded.pages.try_next().await.unwrap().is_none(), "nothing comes after an error");
    writer.assert_stored().await;
}

#[tokio::test]
async fn a_full_quota_stops_writes_only_and_says_what_to_do() {
    let member = Member::start(&["--quota-backend-bytes=16777216"]);
    let catalog = member.catalog().await;
    let mut writer = Writer::acquire(&catalog).await;
    let mut refusals = 0;
    for round in 0..100 {
        if let Err(error) = writer.put(0..16, 60_000).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(error.to_string().contains("etcdctl alarm disarm"), "{error}");
            refusals += 1;
            // What was refused is not there, and all else is.
            writer.assert_stored().await;
        }
        assert!(round < 99 || refusals > 50, "16 MiB hold no 100 MB");
    }
    assert_eq!(catalog.acquire().await.unwrap_err().kind(), ErrorKind::Unavailable);

    let mut client = member.client().await;
    let revision = client.get("x", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, None).await.unwrap();
    client.defragment().await.unwrap();
    let raised = client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await.unwrap();
    for alarm in raised.alarms() {
        let mut of_member = AlarmOptions::new();
        of_member.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await.unwrap();
    }
    writer.put([1], 100).await.unwrap();
    writer.assert_stored().await;
}

#[tokio::test]
async fn a_quota_that_runs_out_under_many_writers_never_hides_a_commit() {
    let member = Member::start(&["--quota-backend-bytes=8388608"]);
    let writing = (0..16).map(|store| {
        let options = member.options().prefix(format!("store{store}"));
        async move {
            let catalog = copyseg_etcd::EtcdCatalog::open(options).await.unwrap();
            let mut writer = Writer::acquire(&catalog).await;
            for _ in 0..60 {
                // `put` notes what was taken; what was refused must not be there.
                let _ = writer.put([0], 50_000).await;
            }
            writer.assert_stored().await;
            writer.head
        }
    });
    let heads = futures::future::join_all(writing).await;
    assert!(heads.iter().all(|head| *head != Head::default()));
}
