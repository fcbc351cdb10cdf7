//! The tables of the file. Names and types are part of the stored format.

use copyseg_core::RecordKind;
use redb::TableDefinition;

/// What is not a record.
pub(crate) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// Where [`META`] holds the head, as written by `Head::to_bytes`.
pub(crate) const HEAD: &str = "head";

/// The records of one kind by id. redb orders `i64` by value, so that records load in id order.
pub(crate) const fn records(kind: RecordKind) -> TableDefinition<'static, i64, &'static [u8]> {
    TableDefinition::new(match kind {
        RecordKind::Store => "store",
        RecordKind::Job => "job",
        RecordKind::Task => "task",
    })
}
