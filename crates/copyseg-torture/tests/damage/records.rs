//! The records themselves, whatever keeps them: each bit, each other byte at each place, and each length.

use std::sync::Arc;

use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, ManagerOptions, MemoryCatalog, MetaManager, Operation, Record,
    RecordCounts, RecordKey, RecordKind, Snapshot, decode_record,
};
use copyseg_torture::damage::{Spoil, Written};
use copyseg_torture::{Trial, golden};
use futures::TryStreamExt;

/// Every other byte at every place of every record of every kind and state, and every shorter length.
#[test]
fn a_damaged_record_never_decodes() {
    let mut trial = Trial::new("a_damaged_record_never_decodes", 1);
    while let Some(mut round) = trial.round() {
        for Record { key, bytes } in golden::records() {
            let flips = (0..bytes.len()).flat_map(|at| (1..=u8::MAX).map(move |bits| Spoil::Flip(at, bits)));
            let cuts = (0..bytes.len()).map(Spoil::Cut);
            for spoil in flips.chain(cuts) {
                let mut damaged = bytes.to_vec();
                assert!(spoil.apply(&mut damaged));
                let decoded = decode_record(&Record { key, bytes: damaged.into() });
                let error = decoded.expect_err(&format!("{key}, {spoil}"));
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{key}, {spoil}: {error:?}");
                assert!(error.to_string().contains("is damaged"), "{error}");
                round.count("damaged records", 1);
            }
        }
    }
}

/// The same record under every other key that differs in one bit.
#[test]
fn a_record_never_decodes_under_another_key() {
    let mut trial = Trial::new("a_record_never_decodes_under_another_key", 1);
    while let Some(mut round) = trial.round() {
        for Record { key, bytes } in golden::records() {
            for bit in 0..i64::BITS {
                let other = RecordKey { id: key.id ^ 1 << bit, ..key };
                let error = decode_record(&Record { key: other, bytes: bytes.clone() }).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{key} under {other}: {error:?}");
                round.count("wrong keys", 1);
            }
        }
    }
}

#[test]
fn a_damaged_head_never_decodes() {
    let head = Head {
        epoch: 3,
        writer: 0x0123_4567_89AB_CDEF,
        batch: u64::MAX,
        revision: copyseg_core::Revision(77),
        counts: RecordCounts([2, 3, 12]),
    };
    let bytes = head.to_bytes();
    assert_eq!(Head::from_bytes(&bytes).unwrap(), head);
    let flips = (0..bytes.len()).flat_map(|at| (1..=u8::MAX).map(move |bits| Spoil::Flip(at, bits)));
    for spoil in flips.chain((0..bytes.len()).map(Spoil::Cut)) {
        let mut damaged = bytes.clone();
        assert!(spoil.apply(&mut damaged));
        assert_eq!(Head::from_bytes(&damaged).unwrap_err().kind(), ErrorKind::Corrupt, "{spoil}");
    }
}

/// A whole store with one record damaged: that one is reported, all others are there, and nothing is deleted.
#[tokio::test]
async fn a_store_with_a_damaged_record_shows_all_others() {
    let store = MemoryCatalog::new();
    let manager = MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap();
    let written = Written::fill(&manager).await.unwrap();
    manager.close().await.unwrap();
    let records: Vec<Record> = store.clone().load().await.unwrap().pages.try_concat().await.unwrap();
    let mut trial = Trial::new("a_store_with_a_damaged_record_shows_all_others", 1);
    while let Some(mut round) = trial.round() {
        for record in &records {
            for at in 0..record.bytes.len() {
                let bits = 1 << ((round.seed() as usize + at) % 8);
                for spoil in [Spoil::Flip(at, bits), Spoil::Flip(at, 0xFF), Spoil::Cut(at)] {
                    let mut bytes = record.bytes.to_vec();
                    assert!(spoil.apply(&mut bytes));
                    let damaged = copy(&records, Operation::Put(record.key, bytes.into())).await;
                    let snapshot = Snapshot::load(&damaged).await.unwrap();
                    let set_aside: Vec<_> = snapshot.set_aside().map(|aside| aside.key).collect();
                    assert_eq!(set_aside, [record.key], "{spoil}");
                    let wrong = |wrong: String| panic!("{}, {spoil}: {wrong}", record.key);
                    written.compare(&snapshot).unwrap_or_else(wrong);
                    round.count("damaged stores", 1);
                }
            }
        }
    }
}

async fn copy(records: &[Record], damage: Operation) -> MemoryCatalog {
    let store = MemoryCatalog::new();
    let head = store.acquire().await.unwrap();
    let whole = records.iter().filter(|record| record.key != damage.key());
    let whole = whole.map(|record| Operation::Put(record.key, record.bytes.as_ref().into()));
    let count = |kind| records.iter().filter(|record| record.key.kind == kind).count() as u64;
    let next = Head { counts: RecordCounts(RecordKind::ALL.map(count)), ..head };
    let batch = Batch::from_iter(whole.chain([damage.clone()]));
    store.commit(&head, &next, &batch).await.unwrap();
    store
}
