//! One writer: a second manager fences the first, which can never write again.

use copyseg_conformance::{Call, Fault};
use copyseg_core::{Catalog, ErrorKind, JobAction, JobId, MemoryCatalog, NewJob, NodeId, TaskAction, TaskId};
use rstest::rstest;

use super::{Fixture, job, open, stored, task, visible};

#[tokio::test]
async fn a_second_manager_fences_the_first() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let second = open(&fixture.store).await;
    let refused = fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    second.update_job(JobId(1), [JobAction::Rows(2)]).await.unwrap();
    assert_eq!(stored(&fixture.store).await, visible(&second.snapshot().unwrap()));
}

#[tokio::test]
async fn a_fenced_manager_never_writes_again() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    let meta = &fixture.meta;
    let _second = open(&fixture.store).await;
    let head = fixture.store.head().await.unwrap();

    let fenced = ErrorKind::Fenced;
    assert_eq!(meta.add_job(job(2), vec![task(21)]).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.remove_job(JobId(1)).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.cancel_job(JobId(1), "").await.unwrap_err().kind(), fenced);
    assert_eq!(meta.add_task(JobId(1), task(12)).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.update_task(TaskId(11), [TaskAction::Slots(2)]).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.complete_task(claim).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.reassign_node(NodeId(5), "").await.unwrap_err().kind(), fenced);
    assert_eq!(meta.allocate_ids(1).await.unwrap_err().kind(), fenced);
    assert_eq!(meta.transact(|_| Ok(())).await.unwrap_err().kind(), fenced);
    assert_eq!(fixture.store.head().await.unwrap(), head);
}

/// What it knows may be outdated, so it does not pretend to know.
#[tokio::test]
async fn a_manager_that_found_itself_fenced_serves_no_reads() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let _second = open(&fixture.store).await;
    fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap_err();
    assert_eq!(fixture.meta.snapshot().unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(fixture.meta.get_job(JobId(1)).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(fixture.meta.subscribe().unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn everybody_who_waits_is_told_of_the_fencing() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let first = fixture.occupy(1).await;
    let waiting: Vec<_> = (0..8).map(|n| fixture.spawn_update(1, &n.to_string())).collect();
    super::until_idle().await;
    let second = open(&fixture.store).await;
    fixture.slow.release_commits();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    for update in waiting {
        assert_eq!(update.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert_eq!(second.get_job(JobId(1)).unwrap().unwrap().reason, "");
}

/// A commit of the old writer that comes in after the new one took over is refused.
#[tokio::test(start_paused = true)]
async fn a_late_commit_of_a_fenced_manager_is_not_applied() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.slow.hold_commits();
    let update = fixture.spawn_update(1, "late");
    fixture.slow.commit_held().await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::Late);
    let second = open(&fixture.store).await;
    fixture.slow.release_commits();
    update.await.unwrap().unwrap_err();
    assert_eq!(second.get_job(JobId(1)).unwrap().unwrap().reason, "");
    assert_eq!(stored(&fixture.store).await, visible(&second.snapshot().unwrap()));
    second.add_job(NewJob::default(), vec![]).await.unwrap();
}

/// Every kind of error but `OutcomeUnknown` says that nothing was changed, so a change that may have been made before
/// the takeover must not be called `Fenced`.
#[rstest]
#[case::it_was_applied(Fault::After, "done")]
#[case::it_was_not(Fault::Lost, "")]
#[tokio::test(start_paused = true)]
async fn a_change_of_unknown_outcome_stays_unknown_when_another_writer_takes_over(
    #[case] fault: Fault,
    #[case] reason: &str,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, fault);
    fixture.faults.fail_nth_of(Call::Head, 0, Fault::Before);
    let update = fixture.spawn_update(1, "done");
    // The first attempt fails at once, and the head does not tell; the second waits.
    while fixture.faults.faults_injected() < 2 {
        tokio::task::yield_now().await;
    }
    let second = open(&fixture.store).await;
    assert_eq!(second.get_job(JobId(1)).unwrap().unwrap().reason, reason);
    assert_eq!(update.await.unwrap().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let later = fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap_err();
    assert_eq!(later.kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn of_managers_that_open_at_once_one_owns_the_store() {
    let store = copyseg_core::MemoryCatalog::new();
    let opening = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let catalog = std::sync::Arc::new(store);
            copyseg_core::MetaManager::open(catalog, copyseg_core::ManagerOptions::default()).await
        })
    });
    let mut owners = 0;
    let mut managers = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        match opened.await.unwrap() {
            Ok(manager) => managers.push(manager),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced),
        }
    }
    for manager in managers {
        match manager.add_job(NewJob::default(), vec![]).await {
            Ok(_) => owners += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced),
        }
    }
    assert_eq!(owners, 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_manager_learns_that_it_was_fenced() {
    let catalog = MemoryCatalog::new();
    let first = open(&catalog).await;
    let mut subscription = first.subscribe().unwrap();
    let second = open(&catalog).await;
    // Nobody asks the first for anything; its subscribers are told all the same.
    assert_eq!(subscription.next().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(first.snapshot().unwrap_err().kind(), ErrorKind::Fenced);
    second.close().await.unwrap();
}
