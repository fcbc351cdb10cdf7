//! The largest batch that a catalog takes.

use copyseg_core::{ErrorKind, Limits, Operation, RECORD_BYTES_MAX};

use crate::fixture::Fixture;
use crate::writer::{Writer, put, task};

/// What [`Operation::size`] counts for the key alone.
const KEY_SIZE: usize = 32;

/// The limits leave room for any single record, and for a step of several.
pub async fn limits_fit_any_single_record(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let limits = writer.catalog.limits();
    assert!(limits.operations_max >= Limits::OPERATIONS_MIN, "{limits:?}");
    assert!(limits.bytes_max >= Limits::BYTES_MIN, "{limits:?}");
    writer.commit([put(task(1), vec![7; RECORD_BYTES_MAX])]).await;
    writer.assert_durable().await;
}

/// A batch of as many operations as the limit says is taken whole.
pub async fn a_batch_at_the_operations_limit_is_taken(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let limits = writer.catalog.limits();
    writer.commit(empty_records(limits.operations_max.min(limits.bytes_max / KEY_SIZE))).await;
    writer.assert_durable().await;
}

/// A batch of one operation more than the limit says is refused, and nothing is written.
pub async fn a_batch_beyond_the_operations_limit_is_too_large(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(task(0), "kept")]).await;
    let commit = writer.prepare(empty_records(writer.catalog.limits().operations_max + 1));
    writer.assert_refused(&commit, ErrorKind::TooLarge).await;
    writer.assert_durable().await;
}

/// A batch of as many bytes as the limit says is taken whole.
pub async fn a_batch_at_the_bytes_limit_is_taken(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let limits = writer.catalog.limits();
    let reachable = limits.bytes_max.min(limits.operations_max.saturating_mul(KEY_SIZE + RECORD_BYTES_MAX));
    writer.commit(records_of(reachable)).await;
    writer.assert_durable().await;
}

/// A batch of one byte more than the limit says is refused, and nothing is written.
pub async fn a_batch_beyond_the_bytes_limit_is_too_large(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit([put(task(0), "kept")]).await;
    let commit = writer.prepare(records_of(writer.catalog.limits().bytes_max + 1));
    writer.assert_refused(&commit, ErrorKind::TooLarge).await;
    writer.assert_durable().await;
}

fn empty_records(count: usize) -> Vec<Operation> {
    (0..count as i64).map(|id| put(task(id), [])).collect()
}

/// As few records as add up to exactly `size`, which must be at least twice the size of a key.
fn records_of(size: usize) -> Vec<Operation> {
    let (mut operations, mut left) = (Vec::new(), size);
    while left > 0 {
        // The last record needs room for its key.
        let most = if left <= KEY_SIZE + RECORD_BYTES_MAX { left } else { left - KEY_SIZE };
        let value = (most - KEY_SIZE).min(RECORD_BYTES_MAX);
        operations.push(put(task(operations.len() as i64), vec![7; value]));
        left -= KEY_SIZE + value;
    }
    operations
}
