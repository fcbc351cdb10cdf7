//! Ok means durable; memory equals storage after every fault at every commit; all or nothing.

use std::sync::Arc;

use copyseg_conformance::{Call, CrashCatalog, Fault, FaultyCatalog};
use copyseg_core::{
    Catalog, ErrorKind, JobAction, JobId, ManagerOptions, MemoryCatalog, MetaManager, NewJob, NewTask,
    NodeId, Operation, Result, Revision, TaskAction, TaskId, Txn,
};
use rstest::rstest;

use super::{Fixture, TINY, job, open, records, stored, tamper, task, task_key, until_swept, visible};

/// Every operation that writes, each so that it changes something in a seeded store.
#[derive(Debug, Clone, Copy)]
enum Op {
    AddJob,
    AddLargeJob,
    AddLargeJobWithFreshIds,
    UpdateJob,
    RemoveJob,
    AddTask,
    UpdateTask,
    RemoveTask,
    ClaimTask,
    CompleteTask,
    FailTask,
    ReleaseTask,
    ReassignNode,
    CancelJob,
    FailJob,
    AllocateIds,
    DropSetAside,
    ReplaceJob,
    SeveralAtOnce,
}

impl Op {
    async fn run(self, meta: &MetaManager) -> Result<()> {
        let claim = || meta.get_task(TaskId(12)).unwrap().unwrap().claim().unwrap();
        match self {
            Self::AddJob => meta.add_job(job(50), vec![task(51)]).await.map(drop),
            Self::AddLargeJob => meta.add_job(job(60), (600..640).map(task).collect()).await.map(drop),
            Self::AddLargeJobWithFreshIds => {
                let tasks = (0..9).map(|n| NewTask { id: None, ..task(700 + n) }).collect();
                meta.add_job(job(70), tasks).await.map(drop)
            }
            Self::UpdateJob => meta.update_job(JobId(2), [JobAction::Rows(9)]).await.map(drop),
            Self::RemoveJob => meta.remove_job(JobId(1)).await.map(drop),
            Self::AddTask => meta.add_task(JobId(2), task(21)).await.map(drop),
            Self::UpdateTask => meta.update_task(TaskId(11), [TaskAction::Slots(9)]).await.map(drop),
            Self::RemoveTask => meta.remove_task(TaskId(11)).await.map(drop),
            Self::ClaimTask => meta.claim_task(TaskId(11), NodeId(6)).await.map(drop),
            Self::CompleteTask => meta.complete_task(claim()).await,
            Self::FailTask => meta.fail_task(claim(), "gone").await,
            Self::ReleaseTask => meta.release_task(claim(), "later").await,
            Self::ReassignNode => meta.reassign_node(NodeId(5), "lost").await.map(drop),
            Self::CancelJob => meta.cancel_job(JobId(1), "stop").await.map(drop),
            Self::FailJob => meta.fail_job(JobId(1), "broken").await.map(drop),
            Self::AllocateIds => meta.allocate_ids(10).await.map(drop),
            Self::DropSetAside => meta.drop_set_aside(task_key(99)).await.map(drop),
            Self::ReplaceJob => {
                let replace = |txn: &mut Txn<'_>| {
                    txn.remove_job(JobId(1))?;
                    txn.add_job(job(1), vec![task(11), task(12)]).map(drop)
                };
                meta.transact(replace).await
            }
            Self::SeveralAtOnce => {
                let several = |txn: &mut Txn<'_>| {
                    txn.remove_task(TaskId(11))?;
                    txn.cancel_job(JobId(1), "stop")?;
                    txn.add_task(JobId(2), task(11)).map(drop)
                };
                meta.transact(several).await
            }
        }
    }
}

/// A store with tiny limits: job 1 with task 11 pending, 12 and 13 in progress on node 5 and 14 to 19 more; job 2
/// with room for tasks; and a damaged record of a task 99.
async fn seeded() -> MemoryCatalog {
    let store = MemoryCatalog::with_limits(TINY);
    let meta = open(&store).await;
    meta.add_job(job(1), (11..20).map(task).collect()).await.unwrap();
    meta.add_job(NewJob { segments: Some(9), ..job(2) }, vec![]).await.unwrap();
    for id in [12, 13] {
        meta.claim_task(TaskId(id), NodeId(5)).await.unwrap();
    }
    meta.close().await.unwrap();
    tamper(&store, [Operation::Put(task_key(99), Arc::from([0_u8; 9]))]).await;
    store
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn memory_equals_storage_whatever_fails(
    #[values(
        Op::AddJob,
        Op::AddLargeJob,
        Op::AddLargeJobWithFreshIds,
        Op::UpdateJob,
        Op::RemoveJob,
        Op::AddTask,
        Op::UpdateTask,
        Op::RemoveTask,
        Op::ClaimTask,
        Op::CompleteTask,
        Op::FailTask,
        Op::ReleaseTask,
        Op::ReassignNode,
        Op::CancelJob,
        Op::FailJob,
        Op::AllocateIds,
        Op::DropSetAside,
        Op::ReplaceJob,
        Op::SeveralAtOnce
    )]
    operation: Op,
    #[values(Fault::Before, Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
) {
    for commit in 0..100 {
        let fixture = Fixture::on(seeded().await).await;
        let before = visible(&fixture.meta.snapshot().unwrap());
        fixture.faults.fail_nth_of(Call::Commit, commit, fault);
        let outcome = operation.run(&fixture.meta).await;
        let injected = fixture.faults.faults_injected() > 0;

        let seen = visible(&fixture.meta.snapshot().unwrap());
        assert_eq!(stored(&fixture.store).await, seen, "commit {commit}: memory equals storage");
        match &outcome {
            Ok(()) => assert_ne!(seen, before, "commit {commit}: Ok means done"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "commit {commit}: {}", error.chain());
                assert_eq!(
                    fault,
                    Fault::Before,
                    "commit {commit}: an unknown outcome is settled, not reported"
                );
                assert!(
                    seen.jobs == before.jobs && seen.tasks == before.tasks,
                    "commit {commit}: all or nothing"
                );
                operation.run(&fixture.meta).await.expect("after `Unavailable` it can be tried again");
            }
        }
        let settled = visible(&fixture.meta.snapshot().unwrap());
        drop(fixture.meta);
        assert_eq!(
            visible(&open(&fixture.store).await.snapshot().unwrap()),
            settled,
            "commit {commit}: reopened"
        );
        if !injected {
            assert!(commit > 0, "the operation commits something");
            return;
        }
    }
    panic!("the operation never ran out of commits");
}

/// The process dies at every commit of an operation; what a restart loads is all of it or none of it, what it said
/// was done is done, and nothing that cannot be seen stays in storage.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_leaves_all_or_nothing(
    #[values(Op::AddJob, Op::AddLargeJob, Op::RemoveJob, Op::CancelJob, Op::ReplaceJob, Op::SeveralAtOnce)]
    operation: Op,
) {
    let after = {
        let store = seeded().await;
        let meta = open(&store).await;
        operation.run(&meta).await.unwrap();
        shape(&visible(&meta.snapshot().unwrap()))
    };
    for calls in 0..100 {
        let store = seeded().await;
        let process = Arc::new(CrashCatalog::new(Arc::new(store.clone())));
        let meta = MetaManager::open(Arc::clone(&process) as Arc<dyn Catalog>, ManagerOptions::default())
            .await
            .unwrap();
        let before = shape(&visible(&meta.snapshot().unwrap()));
        process.crash_after(calls);
        let outcome = operation.run(&meta).await;
        super::until_idle().await;
        let crashed = process.crashed();
        process.crash().await.unwrap();
        drop(meta);

        let meta = open(&store).await;
        let found = shape(&visible(&meta.snapshot().unwrap()));
        assert!(found == after || found == before, "after {calls} calls: {found:?}");
        assert!(outcome.is_err() || found == after, "after {calls} calls: Ok means durable");
        until_swept_but_set_aside(&store).await;
        assert_eq!(shape(&visible(&meta.snapshot().unwrap())), found);
        if !crashed {
            assert!(outcome.is_ok() && calls > 0);
            return;
        }
    }
    panic!("the operation never ran out of calls");
}

/// What does not differ from run to run: ids, states and segments.
fn shape(state: &super::Visible) -> Vec<String> {
    let jobs = state.jobs.iter().map(|job| format!("{} {} {}", job.id, job.state, job.reason));
    let tasks =
        state.tasks.iter().map(|task| format!("{} {} {} {:?}", task.id, task.job, task.state, task.segments));
    jobs.chain(tasks).collect()
}

/// The damaged record of task 99 stays where it is.
async fn until_swept_but_set_aside(store: &MemoryCatalog) {
    super::eventually(async || {
        let tasks = records(store).await.into_keys().filter(|key| key.kind == task_key(0).kind).count();
        tasks == stored(store).await.tasks.len() + 1
    })
    .await;
}

/// While storage does not say what became of a commit, no further one is made, and reads are served.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_asked_for_until_it_is_known() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let before = fixture.store.head().await.unwrap();
    fixture.faults.fail_every(Call::Commit, Fault::Lost);
    let (first, second) = (fixture.spawn_update(1, "first"), fixture.spawn_update(1, "second"));
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!first.is_finished() && !second.is_finished(), "nobody is told a guess");
    assert!(fixture.faults.faults_injected() > 10, "it is asked for again and again");
    assert_eq!(fixture.reason(1), "");
    assert_eq!(fixture.store.head().await.unwrap(), before);

    fixture.faults.heal();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(fixture.reason(1), "second");
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

#[rstest]
#[case::the_reply_was_lost(Fault::After)]
#[case::the_request_was_late(Fault::Late)]
#[case::the_request_was_lost(Fault::Lost)]
#[tokio::test(start_paused = true)]
async fn a_change_of_unknown_outcome_is_applied_exactly_once(#[case] fault: Fault) {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let (commits, revision) = (fixture.faults.commits(), fixture.meta.snapshot().unwrap().revision());
    fixture.faults.fail_nth_of(Call::Commit, 0, fault);
    fixture.spawn_update(1, "done").await.unwrap().unwrap();
    assert_eq!(fixture.faults.commits(), commits + 1);
    assert_eq!(fixture.store.head().await.unwrap().revision, Revision(revision.0 + 1));
}

/// That storage refuses the second request says nothing about the first.
#[rstest]
#[tokio::test(start_paused = true)]
async fn an_outcome_stays_unknown_though_storage_refuses_when_it_is_asked_again(
    #[values(Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
) {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, fault);
    fixture.faults.fail_nth_of(Call::Head, 0, Fault::Before);
    fixture.faults.fail_nth_of(Call::Commit, 1, Fault::Before);
    fixture.spawn_update(1, "done").await.unwrap().unwrap();
    assert_eq!(fixture.faults.faults_injected(), 3);
    assert_eq!(fixture.reason(1), "done");
    assert_eq!(stored(&fixture.store).await, visible(&fixture.meta.snapshot().unwrap()));
}

/// The head that decides about an unknown outcome may itself be out of reach for a while.
#[tokio::test(start_paused = true)]
async fn an_outcome_stays_unknown_while_the_head_cannot_be_read() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.faults.fail_nth_of(Call::Commit, 0, Fault::After);
    for call in 0..3 {
        fixture.faults.fail_nth_of(Call::Head, call, Fault::Before);
    }
    fixture.spawn_update(1, "done").await.unwrap().unwrap();
    assert_eq!(fixture.faults.faults_injected(), 4);
    assert_eq!(fixture.reason(1), "done");
}

#[tokio::test(start_paused = true)]
async fn closing_while_an_outcome_is_unknown_says_that_it_is_unknown() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    fixture.faults.fail_every(Call::Commit, Fault::Lost);
    let update = fixture.spawn_update(1, "never");
    super::until_idle().await;
    fixture.meta.close().await.unwrap();
    assert_eq!(update.await.unwrap().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn opening_settles_a_lost_answer_to_taking_over(
    #[values(Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
) {
    let store = seeded().await;
    let before = stored(&store).await;
    let faulty = FaultyCatalog::new(Arc::new(store.clone()));
    faulty.fail_nth_of(Call::Acquire, 0, fault);
    let meta = MetaManager::open(Arc::new(faulty), ManagerOptions::default()).await.unwrap();
    assert_eq!(visible(&meta.snapshot().unwrap()), before);
    meta.update_job(JobId(2), [JobAction::Rows(1)]).await.unwrap();
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn opening_that_fails_at_any_call_loses_nothing_and_can_be_repeated(
    #[values(Fault::Before, Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
) {
    for call in 0..20 {
        let store = seeded().await;
        let before = stored(&store).await;
        let faulty = Arc::new(FaultyCatalog::new(Arc::new(store.clone())));
        faulty.fail_nth(call, fault);
        let opened =
            MetaManager::open(Arc::clone(&faulty) as Arc<dyn Catalog>, ManagerOptions::default()).await;
        let injected = faulty.faults_injected() > 0;
        drop(opened);
        assert_eq!(visible(&open(&store).await.snapshot().unwrap()), before, "call {call}");
        until_swept_but_set_aside(&store).await;
        if !injected {
            assert!(call > 1);
            return;
        }
    }
    panic!("opening never ran out of calls");
}

#[tokio::test]
async fn revisions_grow_across_restarts() {
    let store = MemoryCatalog::new();
    let mut last = Revision(0);
    for _ in 0..3 {
        let meta = open(&store).await;
        assert_eq!(meta.snapshot().unwrap().revision(), last);
        for _ in 0..3 {
            let id = meta.add_job(NewJob::default(), vec![]).await.unwrap();
            let revision = meta.get_job(id).unwrap().unwrap().revision;
            assert!(revision > last, "{revision} after {last}");
            last = revision;
        }
        meta.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_removed_jobs_tasks_are_swept_though_storage_refuses_at_first() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
    fixture.add(1, 11..31).await;
    fixture.slow.hold_commits();
    let meta = fixture.meta.clone();
    let removal = tokio::spawn(async move { meta.remove_job(JobId(1)).await });
    fixture.slow.commit_held().await;
    fixture.faults.fail_nth_of(Call::Commit, 1, Fault::Before);
    fixture.slow.release_commits();
    assert!(removal.await.unwrap().unwrap());
    until_swept(&fixture.store).await;
    assert_eq!(fixture.faults.faults_injected(), 1);
}
