//! The store that every operation starts from: something in every state, something damaged, something left over.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    Claim, CollectionId, JobAction, JobId, JobState, ManagerOptions, ManualClock, MetaManager, NewJob,
    NewTask, NodeId, Operation, RecordKey, RecordKind, SegmentId, SegmentPair, TaskId, Timestamp,
};
use copyseg_torture::{Backend, Storage, TINY, Visible, records, tamper};
use tokio::sync::OnceCell;

/// Ids from the durable counter start above this, so that they are told from those of the seed.
pub(crate) const LAST_BROUGHT_ID: i64 = 1_000;

pub(crate) fn job_key(id: i64) -> RecordKey {
    RecordKey { kind: RecordKind::Job, id }
}

pub(crate) fn task_key(id: i64) -> RecordKey {
    RecordKey { kind: RecordKind::Task, id }
}

/// Time stands still, so that what happens twice happens at the same time.
pub(crate) fn options() -> ManagerOptions {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_760_000_000_000)));
    // An idle manager looks at the head only in the operation that waits for it.
    ManagerOptions { clock, head_check: Duration::from_secs(3600), ..ManagerOptions::default() }
}

pub(crate) fn job(id: i64) -> NewJob {
    NewJob {
        id: Some(JobId(id)),
        collection: CollectionId(7),
        snapshot: "nightly".into(),
        ..NewJob::default()
    }
}

/// A task with one segment pair, made from its id.
pub(crate) fn task(id: i64) -> NewTask {
    let pair = SegmentPair::new(SegmentId(10_000 + id), SegmentId(20_000 + id));
    NewTask { id: Some(TaskId(id)), ..NewTask::new([pair]) }
}

/// The claim of the first attempt at a task, as its worker keeps it.
pub(crate) fn first_claim(meta: &MetaManager, id: i64) -> Claim {
    let task = meta.get_task(TaskId(id)).unwrap().unwrap();
    Claim { task: task.id, incarnation: task.incarnation, attempt: 1 }
}

/// A storage of its own with what every operation starts from:
/// - job 1 is executing: task 11 is pending, 12 and 13 are on node 5, 14 was given back, 15 and 16 are pending, and 17
///   to 19 are on node 6;
/// - job 2 is pending and has room for 9 segments; job 3 is copied; job 4 is publishing;
/// - job 5 is completed, 6 cancelled with task 61, 8 pending with task 81;
/// - tasks 71 and 72 are left over from a removed job 7;
/// - the record of task 99 is damaged; and so is that of job 98, which has tasks 981 and 982, if that is asked for.
///   Nothing is swept then, because what is left over might belong to it.
pub(crate) async fn seeded(backend: &Backend, with_damaged_job: bool) -> Storage {
    static SEED: OnceCell<Storage> = OnceCell::const_new();
    let storage = Storage::new(backend, TINY);
    storage.copy_from(SEED.get_or_init(make_seed).await).await;
    if with_damaged_job {
        damage(&storage, job_key(98)).await;
    }
    storage
}

/// Damages this record while nobody has the store open.
pub(crate) async fn damage(storage: &Storage, key: RecordKey) {
    let catalog = storage.open().await;
    tamper(&*catalog, [Operation::Put(key, Arc::from([0_u8; 9]))]).await;
    catalog.close().await.unwrap();
}

/// How many tasks are kept though nothing shows them: those of job 98 and those that are left over, while the damaged
/// record of the job is there.
pub(crate) fn kept(stored: &Visible) -> usize {
    if stored.set_aside.contains(&job_key(98)) { 4 } else { 0 }
}

async fn make_seed() -> Storage {
    let storage = Storage::new(&Backend::Memory, TINY);
    let catalog = storage.open().await;
    let meta = MetaManager::open(Arc::clone(&catalog), options()).await.unwrap();
    let taken = meta.allocate_ids(LAST_BROUGHT_ID as u64).await.unwrap();
    assert_eq!(taken.end, LAST_BROUGHT_ID + 1);
    let small = meta.transact(|txn| {
        txn.add_job(NewJob { segments: Some(9), ..job(2) }, vec![])?;
        txn.add_job(job(5), vec![])?;
        for state in [JobState::Executing, JobState::Publishing, JobState::Completed] {
            txn.update_job(JobId(5), [JobAction::State(state)])?;
        }
        txn.add_job(job(6), vec![task(61)])?;
        txn.cancel_job(JobId(6), "not wanted")?;
        txn.add_job(job(8), vec![task(81)])
    });
    small.await.unwrap();
    for (id, tasks) in [(1, 11..20), (3, 31..32), (4, 41..42), (7, 71..73), (98, 981..983)] {
        meta.add_job(job(id), tasks.map(task).collect()).await.unwrap();
    }
    for (id, node) in [(12, 5), (13, 5), (17, 6), (18, 6), (19, 6)] {
        meta.claim_task(TaskId(id), NodeId(node)).await.unwrap();
    }
    let dispatched = meta.transact(|txn| {
        let claim = txn.claim_task(TaskId(14), NodeId(5))?;
        txn.release_task(claim, "busy")
    });
    dispatched.await.unwrap();
    let copied = meta.transact(|txn| {
        for id in [31, 41] {
            let claim = txn.claim_task(TaskId(id), NodeId(5))?;
            txn.complete_task(claim)?;
        }
        txn.update_job(JobId(4), [JobAction::State(JobState::Publishing)])
    });
    copied.await.unwrap();
    let leftovers = records(&*catalog).await;
    meta.remove_job(JobId(7)).await.unwrap();
    meta.close().await.unwrap();

    let catalog = storage.open().await;
    let leftover = |id| Operation::Put(task_key(id), Arc::clone(&leftovers[&task_key(id)]));
    tamper(&*catalog, [leftover(71), leftover(72)]).await;
    catalog.close().await.unwrap();
    damage(&storage, task_key(99)).await;
    storage
}
