//! Histories: what concurrent callers did and saw, and the check that one order of transactions explains all of it.

mod check;
mod record;
mod clients;
#[cfg(test)]
mod tests;

pub use check::{Violation, check};
pub use clients::{Client, plan_faults};
pub use record::{Recorder, Steps, values};

use std::collections::BTreeMap;

use copyseg_core::RecordKey;

/// The records of a state, each with a number that stands for its content.
pub type Values = BTreeMap<RecordKey, u64>;

/// Some records; `None` is one that is not there.
pub type Partial = BTreeMap<RecordKey, Option<u64>>;

/// When something happened: between two readings of one clock that only counts, so that of two things that do not
/// overlap one is known to be the earlier.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Which manager was asked, in the order in which they were opened.
    pub life: usize,
    /// Before the call.
    pub start: u64,
    /// After it returned.
    pub end: u64,
}

/// What became of a transaction, as far as its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable and visible.
    Acknowledged,
    /// It has certainly changed nothing.
    Refused,
    /// The caller was told that nobody knows, or was gone before the answer.
    Unknown,
}

/// A transaction that changed something.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// When its caller called, and was answered.
    pub span: Span,
    /// What the caller was answered.
    pub outcome: Outcome,
    /// The revision that it was given; `None` if the call does not tell.
    pub revision: Option<u64>,
    /// What its closure read.
    pub reads: Seen,
    /// What it left.
    pub writes: Partial,
}

/// What a reader saw in one call.
#[derive(Debug, Clone)]
pub struct Read {
    /// When it read.
    pub span: Span,
    /// The revision that it was shown; `None` if the call does not tell.
    pub revision: Option<u64>,
    /// What it saw.
    pub seen: Seen,
}

/// How much a reader saw.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Everything there was.
    All(Values),
    /// Some records.
    Some(Partial),
}

/// What a subscriber was told, from its beginning or its last lag on.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Of which manager.
    pub life: usize,
    /// The revision that it began at.
    pub base: u64,
    /// What came since, in order.
    pub told: Vec<Told>,
    /// Whether its manager was closed in an orderly way, so that it was told of everything.
    pub complete: bool,
}

/// One transaction as a subscriber was told of it.
#[derive(Debug, Clone)]
pub struct Told {
    /// When it had arrived.
    pub at: u64,
    /// Its revision.
    pub revision: u64,
    /// The records it changed.
    pub changes: Partial,
}

/// Everything that was recorded of one store.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// When the opening of each manager began, in order.
    pub opened: Vec<u64>,
    /// The last revision of each manager that was closed in an orderly way, by its life.
    pub closed_at: BTreeMap<usize, u64>,
    /// The transactions.
    pub transactions: Vec<Transaction>,
    /// The reads, among them the first of every manager, and of transactions that changed nothing.
    pub reads: Vec<Read>,
    /// The subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// The revision that the store ended with.
    pub last_revision: u64,
}
