//! One bad record never blocks a start: it is set aside, reported, never overwritten, never lost, and never lets a
//! job look more complete than it is.

use std::sync::Arc;

use copyseg_core::{
    Catalog, ErrorKind, JobAction, JobId, JobState, ManagerOptions, MemoryCatalog, MetaManager, NewJob,
    NodeId, Operation, Record, RecordKey, RecordKind, Snapshot, TaskId, decode_record,
};
use rstest::rstest;

use super::{Fixture, job, job_key, open, records, tamper, task, task_key, until_idle};

const FORMAT: RecordKey = RecordKey { kind: RecordKind::Store, id: 0 };
const COUNTER: RecordKey = RecordKey { kind: RecordKind::Store, id: 1 };

/// Job 1 with tasks 11 and 12, of which 11 is completed, and job 2 with task 21; then one byte of `key` is damaged.
/// Returns the whole record too.
async fn damaged(key: RecordKey) -> (MemoryCatalog, Vec<u8>) {
    let fixture = Fixture::new().await;
    fixture.add(1, [11, 12]).await;
    fixture.add(2, [21]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.meta.complete_task(claim).await.unwrap();
    fixture.meta.close().await.unwrap();
    let whole = records(&fixture.store).await[&key].clone();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    tamper(&fixture.store, [Operation::Put(key, bytes.into())]).await;
    (fixture.store, whole)
}

/// Puts the store's own record into an envelope with the right checksum, as a newer version would.
fn sealed(key: RecordKey, schema: u8, flags: u8, payload: &[u8]) -> Arc<[u8]> {
    let mut bytes = vec![0xC5, schema, flags];
    bytes.extend(payload);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[key.kind as u8]);
    hasher.update(&key.id.to_be_bytes());
    hasher.update(&bytes);
    bytes.extend(hasher.finalize().to_le_bytes());
    bytes.into()
}

#[rstest]
#[tokio::test]
async fn a_damaged_record_is_set_aside_and_stays_as_it_is(
    #[values(job_key(1), task_key(12), task_key(11), COUNTER, FORMAT)] key: RecordKey,
) {
    let (store, _) = damaged(key).await;
    let bytes = records(&store).await[&key].clone();
    for _ in 0..3 {
        let meta = open(&store).await;
        let snapshot = meta.snapshot().unwrap();
        let set_aside: Vec<_> = snapshot.set_aside().collect();
        assert_eq!(set_aside.len(), 1);
        assert_eq!(set_aside[0].key, key);
        assert!(set_aside[0].reason.contains("checksum"), "{}", set_aside[0].reason);
        assert_eq!(meta.get_task(TaskId(21)).unwrap().unwrap().job, JobId(2), "the rest is served");
        // Work goes on around it, and nothing of that touches it.
        let id = meta.add_job(NewJob::default(), vec![copyseg_core::NewTask::new([])]).await.unwrap();
        meta.update_job(JobId(2), [JobAction::Rows(1)]).await.unwrap();
        meta.remove_job(id).await.unwrap();
        until_idle().await;
        meta.close().await.unwrap();
        assert_eq!(records(&store).await[&key], bytes);
    }
    let read_only = Snapshot::load(&store).await.unwrap();
    assert_eq!(read_only.set_aside().next().unwrap().key, key);
}

#[rstest]
#[tokio::test]
async fn strict_refuses_to_open_a_damaged_store(
    #[values(job_key(1), task_key(12), COUNTER, FORMAT)] key: RecordKey,
) {
    let (store, _) = damaged(key).await;
    let before = records(&store).await;
    let options = ManagerOptions { strict: true, ..ManagerOptions::default() };
    let error = MetaManager::open(Arc::new(store.clone()), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&key.to_string()), "{error}");
    assert!(error.to_string().contains("copyseg check"), "{error}");
    assert_eq!(records(&store).await, before);
}

#[tokio::test]
async fn the_id_of_a_job_that_was_set_aside_is_refused_everywhere() {
    let (store, _) = damaged(job_key(1)).await;
    let meta = open(&store).await;
    let before = records(&store).await;
    let set_aside = ErrorKind::SetAside;
    assert_eq!(meta.get_job(JobId(1)).unwrap(), None);
    assert_eq!(meta.add_job(job(1), vec![]).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.cancel_job(JobId(1), "").await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.remove_job(JobId(1)).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.add_task(JobId(1), task(13)).await.unwrap_err().kind(), set_aside);
    assert_eq!(records(&store).await, before);
}

#[tokio::test]
async fn the_id_of_a_task_that_was_set_aside_is_refused_everywhere() {
    let (store, _) = damaged(task_key(12)).await;
    let meta = open(&store).await;
    let before = records(&store).await;
    let set_aside = ErrorKind::SetAside;
    assert_eq!(meta.get_task(TaskId(12)).unwrap(), None);
    assert_eq!(meta.add_job(job(3), vec![task(12)]).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.add_task(JobId(2), task(12)).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.claim_task(TaskId(12), NodeId(5)).await.unwrap_err().kind(), set_aside);
    let actions = [copyseg_core::TaskAction::Slots(2)];
    assert_eq!(meta.update_task(TaskId(12), actions).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.remove_task(TaskId(12)).await.unwrap_err().kind(), set_aside);
    assert_eq!(records(&store).await, before);
}

/// Its worker is told why nothing can be reported, rather than that the task is gone.
#[tokio::test]
async fn the_claim_on_a_task_that_was_set_aside_is_refused_as_set_aside() {
    let fixture = Fixture::new().await;
    fixture.add(1, [11]).await;
    let claim = fixture.meta.claim_task(TaskId(11), NodeId(5)).await.unwrap();
    fixture.meta.close().await.unwrap();
    tamper(&fixture.store, [Operation::Put(task_key(11), Arc::from([0_u8; 9]))]).await;
    let meta = open(&fixture.store).await;
    let set_aside = ErrorKind::SetAside;
    assert_eq!(meta.heartbeat(claim).unwrap_err().kind(), set_aside);
    assert_eq!(meta.complete_task(claim).await.unwrap_err().kind(), set_aside);
    assert_eq!(meta.release_task(claim, "").await.unwrap_err().kind(), set_aside);
}

/// Its tasks are invisible, but they are not leftovers: with the job's record restored, all is as it was.
#[tokio::test]
async fn the_tasks_of_a_job_that_was_set_aside_wait_for_it() {
    let (store, whole) = damaged(job_key(1)).await;
    let meta = open(&store).await;
    assert_eq!(meta.tasks_of_job(JobId(1)).unwrap(), []);
    let taken = ErrorKind::AlreadyExists { identical: false };
    assert_eq!(meta.add_job(job(3), vec![task(11)]).await.unwrap_err().kind(), taken, "their ids stay taken");
    meta.update_job(JobId(2), [JobAction::Rows(1)]).await.unwrap();
    until_idle().await;
    meta.close().await.unwrap();

    tamper(&store, [Operation::Put(job_key(1), whole.into())]).await;
    let meta = open(&store).await;
    let ids: Vec<i64> = meta.tasks_of_job(JobId(1)).unwrap().iter().map(|task| task.id.0).collect();
    assert_eq!(ids, [11, 12]);
    assert_eq!(meta.snapshot().unwrap().set_aside().count(), 0);
}

/// Damage to a key in storage: the record is found under an id that no task names.
#[tokio::test]
async fn the_tasks_of_a_job_that_was_set_aside_under_another_id_wait_for_it() {
    let (store, whole) = damaged(job_key(1)).await;
    let moved = Operation::Put(job_key(77), whole.clone().into());
    tamper(&store, [Operation::Delete(job_key(1)), moved]).await;
    let meta = open(&store).await;
    assert_eq!(meta.snapshot().unwrap().set_aside().next().unwrap().key, job_key(77));
    let taken = ErrorKind::AlreadyExists { identical: false };
    assert_eq!(meta.add_job(job(3), vec![task(11)]).await.unwrap_err().kind(), taken, "their ids stay taken");
    meta.update_job(JobId(2), [JobAction::Rows(1)]).await.unwrap();
    until_idle().await;
    meta.close().await.unwrap();

    tamper(&store, [Operation::Delete(job_key(77)), Operation::Put(job_key(1), whole.into())]).await;
    let ids = open(&store).await.tasks_of_job(JobId(1)).unwrap();
    assert_eq!(ids.iter().map(|task| task.id.0).collect::<Vec<_>>(), [11, 12]);
}

#[tokio::test]
async fn a_job_that_lacks_a_damaged_task_is_shown_as_damaged_and_cannot_be_published() {
    let (store, whole) = damaged(task_key(12)).await;
    let meta = open(&store).await;
    assert!(meta.snapshot().unwrap().is_damaged(JobId(1)));
    assert!(!meta.snapshot().unwrap().is_damaged(JobId(2)));
    let progress = meta.snapshot().unwrap().progress(JobId(1)).unwrap();
    assert_eq!(progress.tasks.total(), 1, "every task in sight is completed");
    let publish = || meta.update_job(JobId(1), [JobAction::State(JobState::Publishing)]);
    assert_eq!(publish().await.unwrap_err().kind(), ErrorKind::IllegalTransition);
    meta.drop_set_aside(task_key(12)).await.unwrap();
    assert_eq!(
        publish().await.unwrap_err().kind(),
        ErrorKind::IllegalTransition,
        "not by dropping it either"
    );
    meta.close().await.unwrap();

    tamper(&store, [Operation::Put(task_key(12), whole.into())]).await;
    let meta = open(&store).await;
    assert!(!meta.snapshot().unwrap().is_damaged(JobId(1)));
    let claim = meta.claim_task(TaskId(12), NodeId(5)).await.unwrap();
    meta.complete_task(claim).await.unwrap();
    meta.update_job(JobId(1), [JobAction::State(JobState::Publishing)]).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_dropped_record_is_gone_for_good_and_its_id_is_free(
    #[values(job_key(1), task_key(12), COUNTER, FORMAT)] key: RecordKey,
) {
    let (store, _) = damaged(key).await;
    let meta = open(&store).await;
    assert!(!meta.drop_set_aside(job_key(2)).await.unwrap(), "only what was set aside can be dropped");
    assert!(meta.drop_set_aside(key).await.unwrap());
    assert!(!meta.drop_set_aside(key).await.unwrap());
    assert_eq!(meta.snapshot().unwrap().set_aside().count(), 0);
    assert!(!records(&store).await.contains_key(&key));
    meta.close().await.unwrap();

    let meta = open(&store).await;
    assert_eq!(meta.snapshot().unwrap().set_aside().count(), 0);
    super::until_swept(&store).await;
    match key.kind {
        RecordKind::Job => drop(meta.add_job(job(1), vec![task(11), task(12)]).await.unwrap()),
        RecordKind::Task => drop(meta.add_task(JobId(1), task(12)).await.unwrap()),
        RecordKind::Store => drop(meta.allocate_ids(1).await.unwrap()),
    }
    assert_eq!(super::stored(&store).await, super::visible(&meta.snapshot().unwrap()));
}

/// Ids may have been given out that no record names, so the counter starts again far beyond all that do.
#[tokio::test]
async fn a_record_is_dropped_together_with_whatever_else_a_transaction_does() {
    let (store, _) = damaged(task_key(12)).await;
    let meta = open(&store).await;
    let dropped = meta.transact(|txn| {
        txn.remove_job(JobId(2))?;
        Ok(txn.drop_set_aside(task_key(12)))
    });
    assert!(dropped.await.unwrap());
    assert!(!records(&store).await.contains_key(&task_key(12)));
    meta.close().await.unwrap();
    assert_eq!(open(&store).await.snapshot().unwrap().set_aside().count(), 0);
}

/// Dropping a record and writing another under its id is one change of one record.
#[tokio::test]
async fn a_dropped_id_is_used_again_by_the_same_transaction_up_to_the_limits() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(super::TINY)).await;
    fixture.add(1, [11]).await;
    fixture.meta.close().await.unwrap();
    tamper(&fixture.store, [Operation::Put(job_key(1), Arc::from([0_u8; 9]))]).await;
    let meta = open(&fixture.store).await;
    let replaced = meta.transact(|txn| {
        assert!(txn.drop_set_aside(job_key(1)));
        txn.add_job(job(1), vec![task(21), task(22), task(23)])
    });
    replaced.await.unwrap();
    assert_eq!(super::stored(&fixture.store).await, super::visible(&meta.snapshot().unwrap()));
    assert_eq!(super::visible(&open(&fixture.store).await.snapshot().unwrap()).tasks.len(), 3);
}

#[tokio::test]
async fn a_damaged_counter_gives_out_no_id_twice() {
    let store = MemoryCatalog::new();
    let given: Vec<i64> = open(&store).await.allocate_ids(500).await.unwrap().collect();
    open(&store).await.add_job(NewJob::default(), vec![]).await.unwrap();
    tamper(&store, [Operation::Put(COUNTER, Arc::from([0_u8; 9]))]).await;
    let mut last = 500;
    for drop_it in [false, true, false] {
        let meta = open(&store).await;
        let next = meta.allocate_ids(1).await.unwrap().start;
        assert!(!given.contains(&next) && next > last, "{next} after {last}");
        last = next;
        if drop_it {
            assert!(meta.drop_set_aside(COUNTER).await.unwrap());
        }
        meta.close().await.unwrap();
    }
}

/// Ids may have been given out of which nothing is left.
#[tokio::test]
async fn a_damaged_counter_of_a_store_without_jobs_gives_out_no_id_twice() {
    let fixture = Fixture::new().await;
    let taken = fixture.meta.allocate_ids(10).await.unwrap();
    fixture.meta.close().await.unwrap();
    tamper(&fixture.store, [Operation::Put(COUNTER, Arc::from([0_u8; 9]))]).await;
    assert!(open(&fixture.store).await.allocate_ids(1).await.unwrap().start >= taken.end);
}

#[rstest]
#[case::a_job_of_a_newer_schema(job_key(1), 2, 0)]
#[case::a_task_of_a_newer_schema(task_key(12), 9, 0)]
#[case::a_record_with_flags(job_key(1), 1, 1)]
#[case::a_format_of_a_newer_schema(FORMAT, 2, 0)]
#[tokio::test]
async fn a_store_from_the_future_is_refused_whole(
    #[case] key: RecordKey,
    #[case] schema: u8,
    #[case] flags: u8,
) {
    let (store, _) = damaged(task_key(12)).await;
    let bytes = sealed(key, schema, flags, b"whatever it will be");
    tamper(&store, [Operation::Put(key, Arc::clone(&bytes))]).await;
    let (before, head) = (records(&store).await, store.head().await.unwrap());
    let error = MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    if key.kind == RecordKind::Store {
        assert_eq!(store.head().await.unwrap(), head, "its owner keeps it");
    }
    assert!(error.to_string().contains("newer version of copyseg"), "{error}");
    let error = Snapshot::load(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let record = Record { key, bytes: bytes.to_vec().into() };
    assert_eq!(decode_record(&record).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(records(&store).await, before);
}

/// A counter that had to be rebuilt does not depend on the records that it was rebuilt from.
#[tokio::test]
async fn a_rebuilt_counter_outlives_what_it_was_rebuilt_from() {
    let fixture = Fixture::new().await;
    fixture.add(5_000_000, []).await;
    fixture.meta.close().await.unwrap();
    tamper(&fixture.store, [Operation::Put(COUNTER, Arc::from([0_u8; 9]))]).await;
    let meta = open(&fixture.store).await;
    meta.remove_job(JobId(5_000_000)).await.unwrap();
    meta.drop_set_aside(COUNTER).await.unwrap();
    meta.close().await.unwrap();
    let next = open(&fixture.store).await.allocate_ids(1).await.unwrap().start;
    assert!(next > 5_000_000, "{next} may have been given out before");
}

/// The format record says which readers understand the rest: format 9, at least reader 3, created by "9".
#[tokio::test]
async fn a_store_whose_format_needs_a_newer_reader_is_refused_whole() {
    let (store, _) = damaged(task_key(12)).await;
    tamper(&store, [Operation::Put(FORMAT, sealed(FORMAT, 1, 0, &[9, 3, 1, b'9']))]).await;
    let head = store.head().await.unwrap();
    let error = MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 9"), "{error}");
    assert_eq!(store.head().await.unwrap(), head, "its owner, of the newer version, is not fenced");

    tamper(&store, [Operation::Put(FORMAT, sealed(FORMAT, 1, 0, &[9, 2, 1, b'9']))]).await;
    open(&store).await.update_job(JobId(2), [JobAction::Rows(1)]).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_store_that_lost_rows_is_found_out(#[values(job_key(1), task_key(12), COUNTER)] lost: RecordKey) {
    let (store, _) = damaged(task_key(11)).await;
    let head = store.head().await.unwrap();
    let batch = copyseg_core::Batch::from_iter([Operation::Delete(lost)]);
    // The head goes on counting the row that is no longer there.
    store.commit(&head, &head, &batch).await.unwrap();
    let error = MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("copyseg check"), "{error}");
    assert_eq!(Snapshot::load(&store).await.unwrap_err().kind(), ErrorKind::Corrupt);
}
