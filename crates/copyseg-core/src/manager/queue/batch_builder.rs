//! Builds one batch from many changes, within what the catalog takes at once.

use std::collections::BTreeMap;

use crate::catalog::{Batch, Limits, Operation, RecordKey};

/// The operations of a batch, the last write to each key winning.
pub(in crate::manager) struct BatchBuilder {
    limits: Limits,
    operations: BTreeMap<RecordKey, Operation>,
    size: usize,
}

impl BatchBuilder {
    pub(in crate::manager) fn new(limits: Limits) -> Self {
        Self { limits, operations: BTreeMap::new(), size: 0 }
    }

    pub(in crate::manager) fn contains(&self, key: RecordKey) -> bool {
        self.operations.contains_key(&key)
    }

    pub(in crate::manager) fn fits(&self, operations: &[Operation]) -> bool {
        let fresh = operations.iter().filter(|operation| !self.contains(operation.key())).count();
        let size: usize = operations.iter().map(Operation::size).sum();
        self.operations.len() + fresh <= self.limits.operations_max
            && self.size + size <= self.limits.bytes_max
    }

    /// Whether no other record fits.
    pub(in crate::manager) fn is_full(&self) -> bool {
        self.operations.len() >= self.limits.operations_max
    }

    pub(in crate::manager) fn add(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.size += operation.size();
            if let Some(earlier) = self.operations.insert(operation.key(), operation.clone()) {
                self.size -= earlier.size();
            }
        }
    }

    pub(in crate::manager) fn build(self) -> Batch {
        self.operations.into_values().collect()
    }
}
