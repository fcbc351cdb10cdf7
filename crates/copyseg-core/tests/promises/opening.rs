//! What opening asks of storage, and what it leaves alone.

use std::sync::Arc;

use copyseg_conformance::{Call, Fault, FaultyCatalog};
use copyseg_core::{
    Catalog, ErrorKind, ManagerOptions, MemoryCatalog, MetaManager, RecordKey, RecordKind, Result,
};
use rstest::rstest;

use super::{job, open, records, task};

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
    let format = RecordKey { kind: RecordKind::Store, id: 0 };
    let before = records(&store).await;
    super::tamper(&store, [copyseg_core::Operation::Delete(format)]).await;
    open(&store).await.close().await.unwrap();
    assert_eq!(records(&store).await, before);
}
