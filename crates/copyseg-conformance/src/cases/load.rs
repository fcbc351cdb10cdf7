//! Reading a whole store.

use copyseg_core::{ErrorKind, RecordKind};
use futures::TryStreamExt;
use futures::future::join;

use crate::fixture::Fixture;
use crate::writer::{Writer, assert_turns_for_others, contents, delete, drain, job, key, put, task};

/// The records that say how to read the others come before them.
pub async fn store_records_come_first(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.fill((-1000..1000).map(|id| (task(id), vec![1]))).await;
    writer.fill((-1000..1000).map(|id| (job(id), vec![2]))).await;
    writer.fill([i64::MIN, 0, i64::MAX].map(|id| (key(RecordKind::Store, id), vec![3]))).await;
    let mut pages = writer.catalog.load().await.expect("a store can be loaded").pages;
    let mut kinds = Vec::new();
    while let Some(page) = pages.try_next().await.expect("a load ends well") {
        kinds.extend(page.into_iter().map(|record| record.key.kind));
    }
    assert_eq!(kinds.len(), 4003);
    assert_eq!(kinds.iter().rposition(|kind| *kind == RecordKind::Store), Some(2));
    writer.assert_durable().await;
}

/// A load returns the head that its records were written with, so that the counts in it can be checked.
pub async fn a_load_returns_what_its_head_counts(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    for round in 0..10 {
        writer
            .commit([put(key(RecordKind::Store, 0), [0]), put(job(round), [1]), put(job(round + 1), [2])])
            .await;
        writer.commit([put(task(round), [3]), put(task(-1 - round), [4]), delete(job(round - 1))]).await;
        let loaded = contents(&*writer.catalog).await;
        assert_eq!(loaded.head, writer.stored.head);
        assert_eq!(loaded.head.counts, loaded.counts());
    }
    writer.assert_durable().await;
}

/// A load that has begun returns the store as it was then, whatever is written before it ends.
pub async fn a_load_while_writing_is_one_point_in_time(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.fill((0..5000).map(|id| (task(2 * id), vec![1]))).await;
    let then = writer.stored.clone();
    let mut loaded = writer.catalog.load().await.expect("a store can be loaded");
    let first = loaded.pages.try_next().await.expect("a load ends well").expect("a first page");
    for id in (0..5000).step_by(500) {
        writer.commit([put(task(2 * id), [2]), put(task(2 * id + 1), [2]), delete(task(2 * id + 2))]).await;
    }
    let mut rest = drain(loaded).await.expect("a load ends well");
    rest.records.extend(first.into_iter().map(|record| (record.key, record.bytes.as_ref().into())));
    rest.assert_is(&then, "in a load that began before the writes");
    writer.assert_durable().await;
}

/// Loads at the same time as commits see each commit wholly or not at all, and the head that belongs to it.
pub async fn loads_beside_a_writer_see_whole_commits(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let records = writer.catalog.limits().operations_max.min(50) as i64;
    writer.commit((0..records).map(|id| put(task(id), writer_mark(1)))).await;
    let catalog = writer.catalog.clone();
    let writing = async {
        for mark in 2..=40 {
            writer.commit((0..records).map(|id| put(task(id), writer_mark(mark)))).await;
        }
    };
    let loading = async {
        for _ in 0..40 {
            let loaded = contents(&*catalog).await;
            assert_eq!(loaded.records.len() as i64, records);
            let mark = writer_mark(loaded.head.revision.0);
            assert!(loaded.records.values().all(|bytes| **bytes == mark), "half of a commit was loaded");
        }
    };
    join(writing, loading).await;
    writer.assert_durable().await;
}

fn writer_mark(revision: u64) -> [u8; 8] {
    revision.to_be_bytes()
}

/// A store of 100,000 records comes in pages of bounded size, every record once.
pub async fn a_large_store_loads_in_bounded_pages(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.fill((0..100_000).map(|id| (task(id * 7919), id.to_be_bytes().to_vec()))).await;
    assert_eq!(writer.stored.records.len(), 100_000);
    writer.assert_durable().await;
}

/// A load dropped before its end holds up neither commits, nor other loads, nor the close.
pub async fn an_abandoned_load_hinders_nothing(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.fill((0..5000).map(|id| (task(id), vec![1]))).await;
    for id in 0..5 {
        let mut loaded = writer.catalog.load().await.expect("a store can be loaded");
        loaded.pages.try_next().await.expect("a load ends well").expect("a first page");
        writer.commit([put(task(id), [2])]).await;
        drop(loaded);
        writer.commit([put(task(id), [3])]).await;
    }
    writer.assert_durable().await;
}

/// A load that is still held does not keep the store from closing; it then ends completely or in an error, never
/// short.
pub async fn a_load_across_a_close_is_complete_or_fails(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.fill((0..5000).map(|id| (task(id), vec![1]))).await;
    let loaded = writer.catalog.load().await.expect("a store can be loaded");
    writer.catalog.close().await.expect("a store can be closed under a load");
    match drain(loaded).await {
        Ok(loaded) => loaded.assert_is(&writer.stored, "in a load that went on after the close"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
    }
    writer.catalog = fixture.open().await;
    writer.assert_durable().await;
}

/// While a load is under way, other tasks on its thread get their turn.
pub async fn a_load_lets_other_tasks_run(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.fill((0..5000).map(|id| (task(id), vec![1]))).await;
    assert_turns_for_others(async || drop(contents(&*writer.catalog).await)).await;
}
