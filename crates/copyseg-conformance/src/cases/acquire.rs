//! Who owns a store.

use copyseg_core::{Catalog, ErrorKind, Head};
use futures::future::join_all;

use crate::faulty::{Call, Fault, FaultyCatalog};
use crate::fixture::Fixture;
use crate::writer::{Writer, assert_turns_for_others, contents, job, put};

/// A store that nobody has acquired has the default head and no record.
pub async fn a_new_store_is_empty_under_the_default_head(fixture: &dyn Fixture) {
    let catalog = fixture.open().await;
    assert_eq!(catalog.head().await.expect("a new store has a head"), Head::default());
    let loaded = contents(&*catalog).await;
    assert_eq!(loaded.head, Head::default());
    assert!(loaded.records.is_empty());
}

/// An acquire raises the epoch by one, draws a writer and a batch, keeps the rest, and is durable.
pub async fn an_acquire_writes_the_next_epoch_and_a_fresh_writer(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(job(1), "kept")]).await;
    for _ in 0..3 {
        let before = writer.stored.head;
        let after = writer.catalog.acquire().await.expect("an owned store can be acquired");
        assert_eq!(
            after,
            Head { epoch: before.epoch + 1, writer: after.writer, batch: after.batch, ..before }
        );
        assert_ne!(after.writer, before.writer);
        assert_ne!(after.batch, before.batch);
        writer.stored.head = after;
    }
    writer.assert_durable().await;
}

/// After a second acquire nothing of the first owner is taken, however often it tries, and the second goes on.
pub async fn a_second_acquire_fences_the_first(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let fenced = writer.prepare([put(job(1), "fenced")]);
    writer.stored.head = writer.catalog.acquire().await.expect("an owned store can be acquired");
    writer.assert_refused(&fenced, ErrorKind::Fenced).await;
    writer.commit([put(job(2), "owner")]).await;
    writer.assert_refused(&fenced, ErrorKind::Fenced).await;
    writer.assert_durable().await;
}

/// Of acquires at the same time only the one whose head is stored can commit.
pub async fn concurrent_acquires_leave_one_owner(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let heads = join_all((0..8).map(|_| writer.catalog.acquire())).await;
    let owner = writer.catalog.head().await.expect("the head can be read");
    assert!(heads.iter().flatten().any(|head| *head == owner), "nobody owns {owner:?}");
    writer.stored.head = owner;
    let commit = writer.prepare([put(job(1), "owner")]);
    for head in heads.into_iter().flatten().filter(|head| *head != owner) {
        let mut commit = commit.clone();
        commit.expected = head;
        writer.assert_refused(&commit, ErrorKind::Fenced).await;
    }
    writer.commit([put(job(1), "owner")]).await;
    writer.assert_durable().await;
}

/// An acquire whose reply was lost does not hinder the acquire that comes after it.
pub async fn a_lost_acquire_can_be_overtaken(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let faulty = FaultyCatalog::new(writer.catalog.clone());
    faulty.fail_nth_of(Call::Acquire, 0, Fault::After);
    let lost = faulty.acquire().await;
    assert_eq!(lost.map_err(|error| error.kind()), Err(ErrorKind::OutcomeUnknown));
    let unclaimed = writer.catalog.head().await.expect("the head can be read");
    writer.stored.head = writer.catalog.acquire().await.expect("the store can be acquired");
    assert_eq!(writer.stored.head.epoch, unclaimed.epoch + 1);
    assert_ne!(writer.stored.head.writer, unclaimed.writer);
    writer.commit([put(job(1), "owner")]).await;
    writer.assert_durable().await;
}

/// An acquire whose reply was lost fences the owner before it all the same, and can be made again.
pub async fn a_lost_acquire_fences_the_owner(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let fenced = writer.prepare([put(job(1), "fenced")]);
    let faulty = FaultyCatalog::new(writer.catalog.clone());
    faulty.fail_nth_of(Call::Acquire, 0, Fault::After);
    let lost = faulty.acquire().await;
    assert_eq!(lost.map_err(|error| error.kind()), Err(ErrorKind::OutcomeUnknown));
    writer.stored.head = faulty.head().await.expect("the head can be read");
    writer.assert_refused(&fenced, ErrorKind::Fenced).await;
    writer.stored.head = faulty.acquire().await.expect("an acquire can be made again");
    writer.commit([put(job(2), "owner")]).await;
    writer.assert_durable().await;
}

/// While an acquire is under way, other tasks on its thread get their turn.
pub async fn an_acquire_lets_other_tasks_run(fixture: &dyn Fixture) {
    let catalog = fixture.open().await;
    assert_turns_for_others(async || {
        catalog.acquire().await.expect("the store can be acquired");
    })
    .await;
}
