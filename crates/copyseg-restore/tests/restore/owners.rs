//! Whose target it is.

use std::sync::Arc;

use copyseg_core::{ErrorKind, ManagerOptions, MemoryCatalog, MetaManager};
use copyseg_restore::{CancellationToken, Outcome, RestoreRequest};
use futures::FutureExt;
use rstest::rstest;

use crate::fixture::{CATALOG, Fixture, completed, quick, run, text, write};

pub(crate) const OTHER_CATALOG: &str = "redb:///other";

pub(crate) async fn other_manager() -> MetaManager {
    MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await.unwrap()
}

/// Leaves an unfinished restore behind.
pub(crate) async fn begin(fixture: &Fixture) {
    let stop = CancellationToken::new();
    let signal = stop.clone();
    let begun = fixture.restore_hooked(&fixture.request(), &stop, move |_| {
        signal.cancel();
        std::future::pending().boxed()
    });
    assert!(matches!(begun.await.unwrap(), Outcome::Stopped { .. }));
}

pub(crate) fn other_source(fixture: &Fixture) -> RestoreRequest {
    write(&fixture.path("weekly/5/ids.npy"), "five");
    quick(RestoreRequest::new(text(&fixture.path("weekly")), text(&fixture.target())).unwrap())
}

fn assert_names_the_first(error: &copyseg_core::Error, fixture: &Fixture, job: copyseg_core::JobId) {
    assert_eq!(error.kind(), ErrorKind::AlreadyExists { identical: false }, "{error}");
    for named in
        [format!("job {job} "), CATALOG.to_owned(), fixture.request().source.to_string(), "host".into()]
    {
        assert!(error.to_string().contains(&named), "{error} names {named}");
    }
}

#[tokio::test]
async fn a_second_restore_from_another_catalog_is_refused_naming_the_first() {
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    let job = fixture.jobs()[0].id;
    let before = fixture.target_files();
    let other = other_manager().await;
    for request in [fixture.request(), other_source(&fixture)] {
        let error = run(&other, OTHER_CATALOG, &request).await.unwrap_err();
        assert_names_the_first(&error, &fixture, job);
    }
    assert_eq!(fixture.target_files(), before);
    assert!(other.list_jobs(&copyseg_core::JobFilter::new()).unwrap().is_empty());
}

#[tokio::test]
async fn a_catalog_is_known_by_its_jobs_whichever_members_of_its_cluster_a_url_names() {
    const SOME: &str = "etcd://a:2379,b:2379/x";
    const OTHERS: &str = "etcd://c:2379/x";
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    let first = fixture.jobs()[0].id;
    assert!(completed(&run(&fixture.manager, SOME, &fixture.request()).await.unwrap()), "it goes on");
    assert_eq!(fixture.jobs().len(), 1);
    let again = run(&fixture.manager, OTHERS, &fixture.request()).await.unwrap();
    assert!(matches!(again, Outcome::Completed { already: true, job, .. } if job == first), "{again:?}");

    let fixture = Fixture::new().await;
    begin(&fixture).await;
    fixture.manager.cancel_job(fixture.jobs()[0].id, "enough").await.unwrap();
    assert!(completed(&run(&fixture.manager, OTHERS, &fixture.request()).await.unwrap()), "it starts over");
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_second_restore_of_another_source_is_refused_naming_the_first() {
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    let job = fixture.jobs()[0].id;
    let request = other_source(&fixture);
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists { identical: false });
    assert!(error.to_string().contains(&format!("job {job} ")), "{error}");

    fixture.manager.cancel_job(job, "enough").await.unwrap();
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_names_the_first(&error, &fixture, job);
    assert_eq!(fixture.jobs().len(), 1);
}

#[tokio::test]
async fn an_unfinished_target_can_be_taken_over_and_the_first_yields() {
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    let other = other_manager().await;
    let mut request = other_source(&fixture);
    request.options.take_over = true;
    assert!(completed(&run(&other, OTHER_CATALOG, &request).await.unwrap()));
    let manifest = fixture.manifest().await.unwrap();
    assert_eq!(manifest.source, request.source.to_string());
    assert_eq!(fixture.target_files().len(), 3, "one file and two records");

    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists { identical: false });
    assert!(error.to_string().contains(OTHER_CATALOG), "{error}");
    assert_eq!(fixture.manifest().await.unwrap(), manifest);
    let job = fixture.jobs()[0].clone();
    assert_eq!(job.state, copyseg_core::JobState::Failed, "it has no future");
    assert!(job.reason.contains(OTHER_CATALOG), "{}", job.reason);
}

#[tokio::test]
async fn what_a_first_restore_still_copies_never_reaches_segments_of_the_one_that_took_over() {
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    let mut request = other_source(&fixture);
    request.options.take_over = true;
    assert!(completed(&run(&other_manager().await, OTHER_CATALOG, &request).await.unwrap()));
    let restored = fixture.manifest().await.unwrap().segments;
    let first = fixture.manager.snapshot().unwrap();
    let mut planned = first.segments_of_job(fixture.jobs()[0].id);
    assert!(planned.all(|pair| restored.iter().all(|segment| segment.target != pair.target)));
}

#[tokio::test]
async fn a_completed_restore_is_never_taken_over() {
    let fixture = Fixture::new().await;
    fixture.restore().await.unwrap();
    let before = fixture.target_files();
    let mut request = other_source(&fixture);
    request.options.take_over = true;
    for catalog in [CATALOG, OTHER_CATALOG] {
        let error = run(&other_manager().await, catalog, &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists { identical: false });
        assert!(error.to_string().contains("completed"), "{error}");
    }
    assert_eq!(fixture.target_files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_target_from_two_catalogs_at_once_is_restored_by_one() {
    for round in 0..20 {
        let fixture = Fixture::new().await;
        let other = other_manager().await;
        let request = fixture.request();
        let (mine, theirs) = tokio::join!(run(&fixture.manager, CATALOG, &request), async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            run(&other, OTHER_CATALOG, &request).await
        });
        let completed_by = [&mine, &theirs].iter().filter(|it| it.as_ref().is_ok_and(completed)).count();
        assert_eq!(completed_by, 1, "{mine:?} {theirs:?}");
        fixture.assert_restored().await;
    }
}

#[rstest]
#[case::a_segment("5/ids.npy", "5")]
#[case::foreign_records("_copyseg/notes", "_copyseg/notes")]
#[case::an_outcome_without_an_owner("_copyseg/outcome", "_copyseg/outcome")]
#[tokio::test]
async fn a_target_with_foreign_segments_or_records_is_refused(#[case] file: &str, #[case] named: &str) {
    let fixture = Fixture::new().await;
    write(&fixture.target().join(file), "{}");
    let mut request = fixture.request();
    for take_over in [false, true] {
        request.options.take_over = take_over;
        let error = fixture.restore_request(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(text(&fixture.target().join(named))), "{error}");
    }
    assert_eq!(fixture.target_files().len(), 1);
    assert!(fixture.jobs().is_empty());
}

#[tokio::test]
async fn an_owner_that_copyseg_did_not_write_is_refused() {
    let fixture = Fixture::new().await;
    write(&fixture.target().join("_copyseg/owner"), "me");
    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("was not written by copyseg"), "{error}");
    assert_eq!(fixture.target_files().len(), 1);
}

#[rstest]
#[case::owner("owner")]
#[case::outcome("outcome")]
#[tokio::test]
async fn a_target_of_a_newer_version_is_left_alone(#[case] record: &str) {
    let fixture = Fixture::new().await;
    assert!(completed(&fixture.restore().await.unwrap()));
    let path = fixture.target().join("_copyseg").join(record);
    let mut content: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    content["format"] = 2.into();
    write(&path, content.to_string());
    let before = fixture.target_files();
    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("use a newer version"), "{error}");
    assert_eq!(fixture.target_files(), before);
}

#[tokio::test]
async fn foreign_files_in_the_target_stay() {
    let fixture = Fixture::new().await;
    write(&fixture.target().join("notes.txt"), "mine");
    write(&fixture.target().join("photos/1.jpg"), "mine");
    assert!(completed(&fixture.restore().await.unwrap()));
    assert_eq!(fixture.target_files()["notes.txt"], b"mine");
    assert_eq!(fixture.target_files()["photos/1.jpg"], b"mine");
}

/// The same owner, as it would be had it been made on another host.
fn on_another_host(owner: &str) -> String {
    let (unsealed, _) = owner.split_once(",\n  \"crc32c\"").unwrap();
    let host = serde_json::from_str::<serde_json::Value>(owner).unwrap()["host"].to_string();
    let unsealed = unsealed.replace(&format!("\"host\": {host}"), "\"host\": \"elsewhere\"");
    let sum = crc32c::crc32c(format!("{unsealed}\n}}").as_bytes());
    format!("{unsealed},\n  \"crc32c\": {sum}\n}}")
}

#[rstest]
#[case::a_digit("\"job\": \"1", "\"job\": \"3")]
#[case::a_name("\"restore\": \"", "\"restore\": \"0")]
#[case::a_blank("\"job\": ", "\"job\":\t")]
#[case::its_checksum("\"crc32c\"", "\"crc32b\"")]
#[tokio::test]
async fn a_damaged_owner_is_refused_by_name_and_can_be_removed(#[case] was: &str, #[case] is: &str) {
    let mut fixture = Fixture::new().await;
    begin(&fixture).await;
    let owner = fixture.target().join("_copyseg/owner");
    let whole = std::fs::read_to_string(&owner).unwrap();
    assert!(whole.contains(was), "{whole}");
    std::fs::write(&owner, whole.replacen(was, is, 1)).unwrap();
    fixture.restart().await;
    let error = fixture.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("_copyseg/owner is damaged"), "{error}");
    assert!(error.to_string().contains("remove that file"), "{error}");
    std::fs::remove_file(&owner).unwrap();
    assert!(completed(&fixture.restore().await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_lost_catalog_on_this_host_begins_anew_and_on_another_is_asked_about() {
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    let owner = fixture.target().join("_copyseg/owner");
    let here = std::fs::read_to_string(&owner).unwrap();
    std::fs::write(&owner, on_another_host(&here)).unwrap();
    let error = run(&other_manager().await, CATALOG, &fixture.request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists { identical: false });
    assert!(error.to_string().contains("elsewhere"), "{error}");

    std::fs::write(&owner, &here).unwrap();
    assert!(completed(&run(&other_manager().await, CATALOG, &fixture.request()).await.unwrap()));
    fixture.assert_restored().await;
}

#[tokio::test]
async fn a_first_restore_that_still_runs_yields_to_the_one_that_took_over() {
    let first = Fixture::new().await;
    let (taken, ended) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let wait = taken.clone();
    let running = first.restore_hooked(&first.request(), &CancellationToken::new(), move |_| {
        let wait = wait.clone();
        async move {
            wait.notified().await;
            Err(copyseg_restore::Failure::permanent("something else went wrong"))
        }
        .boxed()
    });
    let other = other_manager().await;
    let mut request = other_source(&first);
    request.options.take_over = true;
    let (taken, wait) = (taken.clone(), ended.clone());
    let worker = crate::fixture::hooked(&request, move |_| {
        let (taken, wait) = (taken.clone(), wait.clone());
        async move {
            taken.notify_one();
            wait.notified().await;
            Ok(())
        }
        .boxed()
    });
    let second = async {
        while !first.target_files().keys().any(|name| name.starts_with("_copyseg/plan-")) {
            tokio::task::yield_now().await;
        }
        let progress = tokio::sync::watch::Sender::default();
        let stop = CancellationToken::new();
        copyseg_restore::restore_with(&other, OTHER_CATALOG, &request, worker, &progress, &stop).await
    };
    let first_run = async {
        let outcome = running.await;
        ended.notify_one();
        outcome
    };
    let (first_outcome, second_outcome) = tokio::join!(first_run, second);
    assert!(matches!(first_outcome.unwrap(), Outcome::Failed { .. }));
    assert!(completed(&second_outcome.unwrap()));
    assert_eq!(first.manifest().await.unwrap().source, request.source.to_string());
}

#[tokio::test]
async fn a_target_of_a_cancelled_restore_can_be_taken_over_for_another_source() {
    let fixture = Fixture::new().await;
    begin(&fixture).await;
    fixture.manager.cancel_job(fixture.jobs()[0].id, "the wrong snapshot").await.unwrap();
    let mut request = other_source(&fixture);
    let error = fixture.restore_request(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists { identical: false });
    request.options.take_over = true;
    assert!(completed(&fixture.restore_request(&request).await.unwrap()));
    assert_eq!(fixture.manifest().await.unwrap().source, request.source.to_string());
}

#[tokio::test]
async fn a_restore_beyond_the_quota_is_refused_before_anything_is_written() {
    let fixture = Fixture::new().await;
    let options = ManagerOptions { active_jobs_max: Some(0), ..ManagerOptions::default() };
    let manager = MetaManager::open(Arc::new(MemoryCatalog::new()), options).await.unwrap();
    let error = run(&manager, CATALOG, &fixture.request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(!fixture.target().exists());
}
