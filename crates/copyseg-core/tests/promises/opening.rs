//! What opening asks of storage, and what it leaves alone.

use std::path::Path;
use std::sync::Arc;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{
    Catalog, DecodedRecord, ErrorKind, ManagerOptions, MemoryCatalog, MetaManager, NodeId, Operation, Record,
    RecordKey, RecordKind, Result, Snapshot, StoreFormat, TaskId, TaskState, decode_record,
};
use rstest::rstest;

use super::{job, open, records, task};

const FORMAT: RecordKey = RecordKey { kind: RecordKind::Store, id: 0 };

async fn sound() -> MemoryCatalog {
    let store = MemoryCatalog::new();
    let meta = open(&store).await;
    meta.add_job(job(1), vec![task(11)]).await.unwrap();
    meta.allocate_ids(1).await.unwrap();
    meta.close().await.unwrap();
    store
}

async fn open_faulty(faulty: &Arc<FaultyCatalog>) -> Result<MetaManager> {
    MetaManager::open(Arc::clone(faulty) as Arc<dyn Catalog>, ManagerOptions::default()).await
}

#[rstest]
#[case::refused(Fault::Before, ErrorKind::Unavailable, 1)]
#[case::lost(Fault::Lost, ErrorKind::OutcomeUnknown, 6)]
#[tokio::test(start_paused = true)]
async fn a_takeover_is_asked_for_again_a_few_times_and_only_if_its_answer_was_lost(
    #[case] fault: Fault,
    #[case] kind: ErrorKind,
    #[case] asked: u64,
) {
    let faulty = Arc::new(FaultyCatalog::new(Arc::new(sound().await)));
    faulty.fail_every(Call::Acquire, fault);
    assert_eq!(open_faulty(&faulty).await.unwrap_err().kind(), kind);
    assert_eq!(faulty.faults_injected(), asked);
}

#[tokio::test(start_paused = true)]
async fn opening_a_sound_store_commits_nothing() {
    let faulty = Arc::new(FaultyCatalog::new(Arc::new(sound().await)));
    let _meta = open_faulty(&faulty).await.unwrap();
    super::until_idle().await;
    assert_eq!(faulty.commits(), 0);
}

#[tokio::test]
async fn a_store_whose_format_was_dropped_is_given_it_again() {
    let store = sound().await;
    let before = records(&store).await;
    super::tamper(&store, [Operation::Delete(FORMAT)]).await;
    open(&store).await.close().await.unwrap();
    assert_eq!(records(&store).await, before);
}

/// A store of the first format, of which the golden files are.
async fn of_format_1() -> MemoryCatalog {
    let record = |kind, id, name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1").join(name);
        Operation::Put(RecordKey { kind, id }, std::fs::read(path).unwrap().into())
    };
    let store = MemoryCatalog::new();
    let records = [
        record(FORMAT.kind, FORMAT.id, "store_format.bin"),
        record(RecordKind::Store, 1, "store_counter.bin"),
        record(RecordKind::Job, 501, "job_executing.bin"),
        record(RecordKind::Task, 901, "task_pending.bin"),
    ];
    super::tamper(&store, records).await;
    store
}

async fn format(store: &MemoryCatalog) -> StoreFormat {
    let bytes = records(store).await.remove(&FORMAT).unwrap();
    match decode_record(&Record { key: FORMAT, bytes: bytes.into() }) {
        Ok(DecodedRecord::Format(format)) => format,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_of_an_older_format_is_used_and_older_builds_refuse_it_from_then_on() {
    let store = of_format_1().await;
    let before = (format(&store).await, store.head().await.unwrap().counts);
    let read = Snapshot::load(&store).await.unwrap();
    assert_eq!(format(&store).await, before.0, "who reads only writes nothing");

    let meta = open(&store).await;
    let raised = format(&store).await;
    assert_eq!((raised.format, raised.min_reader), (2, 2), "before any record of this build");
    assert_eq!(raised.created_by, before.0.created_by);
    let task = meta.get_task(TaskId(901)).unwrap().unwrap();
    assert_eq!(read.task(TaskId(901)).unwrap(), &task);
    meta.claim_task(task.id, NodeId(1)).await.unwrap();
    meta.close().await.unwrap();

    assert_eq!(store.head().await.unwrap().counts, before.1);
    let task = open(&store).await.get_task(task.id).unwrap().unwrap();
    assert_eq!((task.state, task.segments.len()), (TaskState::InProgress, 2));
}

/// Whether or not the answer to that commit comes, nobody has a manager of a store that is not marked yet.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_store_is_used_only_once_it_is_marked_as_one_of_this_version(
    #[values(Fault::Before, Fault::After, Fault::Lost, Fault::Late)] fault: Fault,
) {
    let store = of_format_1().await;
    let faulty = Arc::new(FaultyCatalog::new(Arc::new(store.clone())));
    faulty.fail_nth_of(Call::Commit, 0, fault);
    let opened = open_faulty(&faulty).await;
    assert_eq!(faulty.faults_injected(), 1);
    let expected = if fault == Fault::Before { (1, Some(ErrorKind::Unavailable)) } else { (2, None) };
    assert_eq!((format(&store).await.min_reader, opened.err().map(|error| error.kind())), expected);
}
