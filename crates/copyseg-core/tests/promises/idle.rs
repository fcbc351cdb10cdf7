//! What a manager does when nobody asks it for anything: it sweeps what no job claims, and looks at the head.

use std::time::Duration;

use copyseg_conformance::{Call, Fault};
use copyseg_core::{JobAction, JobId, ManagerOptions, MemoryCatalog, RecordKind};

use super::{Fixture, TINY, open, records, until_idle, until_swept};

fn looking_every(head_check: Duration) -> ManagerOptions {
    ManagerOptions { head_check, ..ManagerOptions::default() }
}

#[tokio::test(start_paused = true)]
async fn a_refused_sweep_is_tried_again_however_rarely_the_head_is_looked_at() {
    let options = looking_every(Duration::from_secs(3_600));
    let fixture = Fixture::with(MemoryCatalog::with_limits(TINY), options).await;
    fixture.add(1, 11..31).await;
    fixture.faults.fail_nth_of(Call::Commit, 1, Fault::Before);
    assert!(fixture.meta.remove_job(JobId(1)).await.unwrap());
    until_swept(&fixture.store).await;
    assert_eq!(fixture.faults.faults_injected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_manager_with_nothing_to_do_leaves_storage_alone_until_it_looks_at_the_head() {
    let fixture = Fixture::with(MemoryCatalog::new(), looking_every(Duration::from_secs(60))).await;
    fixture.add(1, []).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::Before);
    fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap_err();
    let calls = fixture.faults.calls();
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(fixture.faults.calls(), calls);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.faults.calls(), calls + 1);
}

#[tokio::test]
async fn closing_does_not_wait_for_what_is_left_to_sweep() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
    fixture.add(1, 11..31).await;
    fixture.slow.hold_commits();
    let meta = fixture.meta.clone();
    let removal = tokio::spawn(async move { meta.remove_job(JobId(1)).await });
    fixture.slow.commit_held().await;
    let meta = fixture.meta.clone();
    let closing = tokio::spawn(async move { meta.close().await });
    until_idle().await;
    fixture.slow.release_commits();
    assert!(removal.await.unwrap().unwrap());
    closing.await.unwrap().unwrap();
    let left = records(&fixture.store).await.into_keys().filter(|key| key.kind == RecordKind::Task);
    assert_eq!(left.count(), 20);
    let _meta = open(&fixture.store).await;
    until_swept(&fixture.store).await;
}
