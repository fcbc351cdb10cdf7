//! A stale worker cannot speak: every report carries the attempt it was given.

use std::time::Duration;

use copyseg_core::{
    Catalog, Claim, ErrorKind, JobId, JobState, NodeId, Result, TaskAction, TaskId, TaskState, Txn,
};
use rstest::rstest;

use super::{Fixture, job, open, task, visible};

#[derive(Debug, Clone, Copy)]
enum Report {
    Complete,
    Fail,
    Release,
    Heartbeat,
}

impl Report {
    async fn send(self, fixture: &Fixture, claim: Claim) -> Result<()> {
        match self {
            Self::Complete => fixture.meta.complete_task(claim).await,
            Self::Fail => fixture.meta.fail_task(claim, "gone").await,
            Self::Release => fixture.meta.release_task(claim, "later").await,
            Self::Heartbeat => fixture.meta.heartbeat(claim),
        }
    }
}

/// How an attempt can be over while its worker does not know.
#[derive(Debug, Clone, Copy)]
enum Over {
    ClaimedAgain,
    Reassigned,
    ReassignedAndCompletedByAnother,
    JobCancelled,
    JobFailed,
    TaskRemoved,
    JobRemoved,
    JobReplacedUnderTheSameIds,
}

impl Over {
    async fn happen(self, fixture: &Fixture, claim: Claim) {
        let (meta, task_id, job_id) = (&fixture.meta, TaskId(11), JobId(1));
        match self {
            Self::ClaimedAgain => {
                meta.release_task(claim, "").await.unwrap();
                meta.claim_task(task_id, NodeId(5)).await.unwrap();
            }
            Self::Reassigned => {
                meta.reassign_node(NodeId(5), "lost").await.unwrap();
                meta.claim_task(task_id, NodeId(6)).await.unwrap();
            }
            Self::ReassignedAndCompletedByAnother => {
                meta.reassign_node(NodeId(5), "lost").await.unwrap();
                let other = meta.claim_task(task_id, NodeId(6)).await.unwrap();
                meta.complete_task(other).await.unwrap();
            }
            Self::JobCancelled => drop(meta.cancel_job(job_id, "stop").await.unwrap()),
            Self::JobFailed => drop(meta.fail_job(job_id, "broken").await.unwrap()),
            Self::TaskRemoved => {
                meta.release_task(claim, "").await.unwrap();
                assert!(meta.remove_task(task_id).await.unwrap());
            }
            Self::JobRemoved => assert!(meta.remove_job(job_id).await.unwrap()),
            Self::JobReplacedUnderTheSameIds => {
                meta.remove_job(job_id).await.unwrap();
                meta.add_job(job(1), vec![task(11)]).await.unwrap();
                let other = meta.claim_task(task_id, NodeId(6)).await.unwrap();
                assert_eq!(other.attempt, claim.attempt, "only the incarnation tells them apart");
            }
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_report_of_an_attempt_that_is_over_is_refused_and_changes_nothing(
    #[values(Report::Complete, Report::Fail, Report::Release, Report::Heartbeat)] report: Report,
    #[values(
        Over::ClaimedAgain,
        Over::Reassigned,
        Over::ReassignedAndCompletedByAnother,
        Over::JobCancelled,
        Over::JobFailed,
        Over::TaskRemoved,
        Over::JobRemoved,
        Over::JobReplacedUnderTheSameIds
    )]
    over: Over,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    over.happen(&fixture, claim).await;
    let before = visible(&fixture.meta.snapshot().unwrap());

    let outcome = report.send(&fixture, claim).await;
    let error = outcome.expect_err("the attempt is over");
    assert_eq!(error.kind(), ErrorKind::StaleClaim, "{error}");
    assert!(error.to_string().contains("task 11"), "{error}");
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
}

/// A lost answer can be asked for again.
#[rstest]
#[tokio::test]
async fn repeating_a_report_is_fine_and_writes_nothing(
    #[values(Report::Complete, Report::Fail, Report::Release)] report: Report,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    report.send(&fixture, claim).await.unwrap();
    let head = fixture.store.head().await.unwrap();
    report.send(&fixture, claim).await.unwrap();
    assert_eq!(fixture.store.head().await.unwrap(), head);
}

#[rstest]
#[case::completed_then_failed(Report::Complete, Report::Fail)]
#[case::completed_then_released(Report::Complete, Report::Release)]
#[case::failed_then_completed(Report::Fail, Report::Complete)]
#[case::released_then_completed(Report::Release, Report::Complete)]
#[case::completed_then_beating(Report::Complete, Report::Heartbeat)]
#[case::released_then_beating(Report::Release, Report::Heartbeat)]
#[tokio::test]
async fn the_first_report_of_an_attempt_is_its_last_word(#[case] first: Report, #[case] second: Report) {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    first.send(&fixture, claim).await.unwrap();
    let before = visible(&fixture.meta.snapshot().unwrap());
    assert_eq!(second.send(&fixture, claim).await.unwrap_err().kind(), ErrorKind::StaleClaim);
    assert_eq!(visible(&fixture.meta.snapshot().unwrap()), before);
}

#[tokio::test]
async fn attempts_go_on_counting_after_a_restart_and_old_claims_stay_good() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12]).await;
    let first = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    let running = fixture.meta.claim_task(TaskId(12), NodeId(5)).await.unwrap();
    fixture.meta.release_task(first, "").await.unwrap();
    fixture.meta.close().await.unwrap();

    let meta = open(&fixture.store).await;
    meta.heartbeat(running).unwrap();
    meta.complete_task(running).await.unwrap();
    assert_eq!(meta.claim_task(TaskId(11), NodeId(6)).await.unwrap().attempt, 2);
    assert_eq!(meta.complete_task(first).await.unwrap_err().kind(), ErrorKind::StaleClaim);
}

#[tokio::test]
async fn a_worker_that_is_silent_for_too_long_is_found_and_a_beating_one_is_not() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12, 13]).await;
    let silent = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    let beating = fixture.meta.claim_task(TaskId(12), NodeId(6)).await.unwrap();
    let timeout = Duration::from_secs(60);
    fixture.clock.advance(Duration::from_secs(59));
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), []);
    let head = fixture.store.head().await.unwrap();
    fixture.meta.heartbeat(beating).unwrap();
    assert_eq!(fixture.store.head().await.unwrap(), head, "a heartbeat costs no write");
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), [silent]);

    fixture.meta.release_task(silent, "no heartbeat").await.unwrap();
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), []);
    let again = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), [], "a claim is its own first heartbeat");
    fixture.clock.advance(timeout);
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), [again, beating]);
}

/// A claim is its own first heartbeat also as part of a larger transaction, or if nobody waits for the answer.
#[rstest]
#[tokio::test]
async fn a_claim_is_not_silent_at_once_however_it_was_made(
    #[values(true, false)] dropped: bool,
    #[values(true, false)] replaced: bool,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let timeout = Duration::from_secs(60);
    fixture.clock.advance(10 * timeout);
    if dropped {
        fixture.slow.hold_commits();
        let meta = fixture.meta.clone();
        let caller = tokio::spawn(async move { meta.claim_task(TaskId(11), NodeId(5)).await });
        fixture.slow.commit_held().await;
        caller.abort();
        fixture.slow.release_commits();
        super::until_idle().await;
    } else {
        fixture.meta.transact(|txn| txn.claim_task(TaskId(11), NodeId(5))).await.unwrap();
    }
    let claim = fixture.meta.get_task(TaskId(11)).unwrap().unwrap().claim().unwrap();
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), []);
    fixture.clock.advance(timeout);
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), [claim]);

    // Changing the task otherwise is no sign of life.
    fixture.meta.update_task(TaskId(11), [TaskAction::Slots(2)]).await.unwrap();
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), [claim]);

    fixture.clock.advance(timeout);
    let given_back = |txn: &mut Txn<'_>| {
        txn.release_task(claim, "")?;
        if replaced {
            txn.remove_task(TaskId(11))?;
            txn.add_task(JobId(1), task(11))?;
        }
        txn.claim_task(TaskId(11), NodeId(5))
    };
    fixture.meta.transact(given_back).await.unwrap();
    assert_eq!(fixture.meta.silent_claims(timeout).unwrap(), [], "whoever has it now has their whole time");
}

/// The wall clock may jump; nobody is declared dead for it.
#[tokio::test]
async fn heartbeats_do_not_depend_on_the_wall_clock() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.clock.set(super::NOW.after(Duration::from_secs(1 << 30)));
    assert_eq!(fixture.meta.silent_claims(Duration::from_secs(1)).unwrap(), []);
}

#[tokio::test]
async fn after_a_restart_every_claim_has_its_whole_time_again() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.meta.close().await.unwrap();
    let reopened = Fixture::on(fixture.store.clone()).await;
    let timeout = Duration::from_secs(60);
    reopened.clock.advance(Duration::from_secs(59));
    assert_eq!(reopened.meta.silent_claims(timeout).unwrap(), []);
    reopened.clock.advance(Duration::from_secs(1));
    assert_eq!(reopened.meta.silent_claims(timeout).unwrap(), [claim]);
}

#[tokio::test]
async fn the_first_claim_starts_the_job_and_of_many_claimers_one_wins() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    fixture.clock.advance(Duration::from_secs(9));
    let claims = (0..20).map(|node| {
        let meta = fixture.meta.clone();
        tokio::spawn(async move { meta.claim_task(TaskId(11), NodeId(node)).await })
    });
    let mut won = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        won.extend(claim.await.unwrap().ok());
    }
    assert_eq!(won.len(), 1);
    let job = fixture.meta.get_job(JobId(1)).unwrap().unwrap();
    assert_eq!(
        (job.state, job.started),
        (JobState::Executing, Some(super::NOW.after(Duration::from_secs(9))))
    );
    let task = fixture.meta.get_task(TaskId(11)).unwrap().unwrap();
    assert_eq!((task.state, task.claim()), (TaskState::InProgress, Some(won[0])));
}
