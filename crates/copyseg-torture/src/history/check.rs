//! The check of a history: there is one order of transactions, that of their revisions, and everybody saw it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use copyseg_core::RecordKey;

use super::{History, Outcome, Partial, Read, Seen, Transaction, Values};

/// How a history breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what the sentence above each is about")]
pub enum Violation {
    /// Somebody saw a value that no transaction wrote.
    Invented { key: RecordKey, value: u64 },
    /// Somebody saw a value that only a refused transaction wrote.
    RefusedButSeen { key: RecordKey, value: u64 },
    /// Two acknowledged transactions were given one revision.
    OneRevisionTwice(u64),
    /// There is a revision that no transaction accounts for.
    NobodyCommitted(u64),
    /// A revision repeats the changes of an earlier one.
    AppliedTwice { first: u64, again: u64 },
    /// An acknowledged transaction is not part of the state that the store ended with.
    Lost { revision: Option<u64> },
    /// A transaction read something else than what the transactions before it had left: one update was lost.
    NotSerializable { revision: u64, key: RecordKey },
    /// A reader saw something else than the state at the revision that it was shown.
    WrongState { revision: u64, key: RecordKey },
    /// A reader was shown a revision that did not last.
    NotLasting(u64),
    /// A reader saw what was together at no instant of its call.
    Torn { start: u64 },
    /// A read, or a transaction, does not see what was acknowledged or seen before it began.
    Stale { revision: u64, known: u64 },
    /// Somebody saw a transaction that had not begun.
    FromTheFuture { revision: u64 },
    /// A subscriber missed a revision, or was told of one twice.
    Gap { after: u64, told: Option<u64> },
    /// A subscriber was told something else than what the transaction changed.
    WrongChanges(u64),
}

/// Checks that the transactions, in the order of their revisions, explain everything that was seen, and that the
/// order keeps to real time.
///
/// # Errors
/// The first violation that was found.
pub fn check(history: &History) -> Result<(), Violation> {
    check_sources(history)?;
    let chain = Chain::build(history)?;
    check_order(history, &chain)?;
    let known = Known::of(history, &chain);
    for read in &history.reads {
        chain.check_instant(read, known.in_life(read.span.life, read.span.start))?;
    }
    check_subscriptions(history)
}

/// Everything that was seen was written by a transaction that may have been applied.
fn check_sources(history: &History) -> Result<(), Violation> {
    let written = |refused: bool| -> BTreeSet<(RecordKey, u64)> {
        let matching = history.transactions.iter().filter(|it| (it.outcome == Outcome::Refused) == refused);
        matching.flat_map(|it| &it.writes).filter_map(|(key, value)| Some((*key, (*value)?))).collect()
    };
    let (sound, refused) = (written(false), written(true));
    let read = history.reads.iter().flat_map(|read| match &read.seen {
        Seen::All(values) => values.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(),
        Seen::Some(values) => present(values).collect(),
    });
    let told = history.subscriptions.iter().flat_map(|it| &it.told).flat_map(|told| present(&told.changes));
    match read.chain(told).find(|seen| !sound.contains(seen)) {
        Some((key, value)) if refused.contains(&(key, value)) => {
            Err(Violation::RefusedButSeen { key, value })
        }
        Some((key, value)) => Err(Violation::Invented { key, value }),
        None => Ok(()),
    }
}

fn present(values: &Partial) -> impl Iterator<Item = (RecordKey, u64)> {
    values.iter().filter_map(|(key, value)| Some((*key, (*value)?)))
}

/// The one order: the state at every revision, and the transaction that led to it.
struct Chain {
    states: Vec<Values>,
    transactions: Vec<usize>,
    /// When the last of the transactions up to a revision began.
    began: Vec<u64>,
}

impl Chain {
    /// Finds the transaction of every revision. An acknowledged one has its place; where there is none, one of those
    /// whose outcome is unknown has to fit, and if several do, each is tried.
    fn build(history: &History) -> Result<Self, Violation> {
        let mut acknowledged = BTreeMap::new();
        let mut others: BTreeMap<Option<u64>, Vec<usize>> = BTreeMap::new();
        for (index, it) in history.transactions.iter().enumerate() {
            match (it.outcome, it.revision) {
                (Outcome::Refused, _) => {}
                (Outcome::Acknowledged, Some(revision)) => {
                    if acknowledged.insert(revision, index).is_some() {
                        return Err(Violation::OneRevisionTwice(revision));
                    }
                    if revision > history.last_revision {
                        return Err(Violation::Lost { revision: Some(revision) });
                    }
                }
                (_, revision) => others.entry(revision).or_default().push(index),
            }
        }
        let witnesses = witnesses(history)?;
        let mut reads: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        for read in &history.reads {
            reads.entry(read.revision.unwrap_or(u64::MAX)).or_default().push(&read.seen);
        }
        check_state(&reads, 0, &Values::new())?;
        let candidates = |revision: u64| -> VecDeque<usize> {
            let unplaced = [Some(revision), None].map(|key| others.get(&key).into_iter().flatten());
            match acknowledged.get(&revision) {
                Some(index) => [*index].into(),
                None => unplaced.into_iter().flatten().copied().collect(),
            }
        };
        let search = Search { history, witnesses, reads, states: vec![Values::new()], placed: Vec::new() };
        let (states, transactions) = search.run(candidates)?;
        let mut began = vec![0];
        for index in &transactions {
            let before = began.last().copied().unwrap_or_default();
            began.push(before.max(history.transactions[*index].span.start));
        }
        Ok(Self { states, transactions, began })
    }

    /// A read shows one instant between the newest state that was known when it began, and its end.
    fn check_instant(&self, read: &Read, known: u64) -> Result<(), Violation> {
        let newest = self.began.partition_point(|began| *began < read.span.end) as u64 - 1;
        if let Some(revision) = read.revision {
            return match revision {
                _ if revision >= self.states.len() as u64 => Err(Violation::NotLasting(revision)),
                _ if revision < known => Err(Violation::Stale { revision, known }),
                _ if revision > newest => Err(Violation::FromTheFuture { revision }),
                _ => Ok(()),
            };
        }
        let fits = |revision: &u64| difference(&self.states[*revision as usize], &read.seen).is_none();
        if (known..=newest).any(|revision| fits(&revision)) {
            return Ok(());
        }
        let last = self.states.len() as u64;
        match ((0..known).rev().find(fits), (newest + 1..last).find(fits)) {
            (Some(revision), _) => Err(Violation::Stale { revision, known }),
            (_, Some(revision)) => Err(Violation::FromTheFuture { revision }),
            _ => Err(Violation::Torn { start: read.span.start }),
        }
    }
}

/// The search for the transaction of every revision.
struct Search<'h> {
    history: &'h History,
    witnesses: BTreeMap<u64, &'h Partial>,
    /// What was seen at each revision.
    reads: BTreeMap<u64, Vec<&'h Seen>>,
    states: Vec<Values>,
    placed: Vec<usize>,
}

impl Search<'_> {
    fn run(
        mut self,
        candidates: impl Fn(u64) -> VecDeque<usize>,
    ) -> Result<(Vec<Values>, Vec<usize>), Violation> {
        let mut left: Vec<VecDeque<usize>> = Vec::new();
        let mut deepest = (0, None);
        while (self.placed.len() as u64) < self.history.last_revision {
            let revision = self.placed.len() as u64 + 1;
            if left.len() < revision as usize {
                left.push(candidates(revision));
            }
            let violation = match left.last_mut().and_then(VecDeque::pop_front) {
                Some(index) => match self.place(revision, index) {
                    Ok(()) => continue,
                    Err(violation) => violation,
                },
                None => {
                    left.pop();
                    let violation = self.unaccounted(revision);
                    self.states.pop();
                    if self.placed.pop().is_none() {
                        return Err(deepest.1.unwrap_or(violation));
                    }
                    violation
                }
            };
            if revision > deepest.0 {
                deepest = (revision, Some(violation));
            }
        }
        let placed: BTreeSet<_> = self.placed.iter().collect();
        let transactions = self.history.transactions.iter().enumerate();
        let lost = transactions
            .filter(|(index, it)| it.outcome == Outcome::Acknowledged && !placed.contains(index))
            .map(|(_, it)| it.revision)
            .next();
        lost.map_or(Ok((self.states, self.placed)), |revision| Err(Violation::Lost { revision }))
    }

    fn place(&mut self, revision: u64, index: usize) -> Result<(), Violation> {
        let it = &self.history.transactions[index];
        if self.placed.contains(&index) {
            return Err(Violation::NobodyCommitted(revision));
        }
        let Some(state) = self.states.last() else { return Err(Violation::NobodyCommitted(revision)) };
        if let Some(key) = difference(state, &it.reads) {
            return Err(Violation::NotSerializable { revision, key });
        }
        let next = applied(state, &it.writes);
        check_state(&self.reads, revision, &next)?;
        match self.witnesses.get(&revision) {
            Some(changes) if applied(state, changes) != next => Err(Violation::WrongChanges(revision)),
            _ => {
                self.states.push(next);
                self.placed.push(index);
                Ok(())
            }
        }
    }

    /// Nothing fits at this revision: it may be an earlier one over again.
    fn unaccounted(&self, revision: u64) -> Violation {
        let changes = self.witnesses.get(&revision);
        let same =
            |index: &usize| changes.is_some_and(|told| **told == self.history.transactions[*index].writes);
        match self.placed.iter().position(same) {
            Some(first) => Violation::AppliedTwice { first: first as u64 + 1, again: revision },
            None => Violation::NobodyCommitted(revision),
        }
    }
}

/// Whoever was shown a revision saw its state.
fn check_state(reads: &BTreeMap<u64, Vec<&Seen>>, revision: u64, state: &Values) -> Result<(), Violation> {
    let differing = reads.get(&revision).into_iter().flatten().find_map(|seen| difference(state, seen));
    differing.map_or(Ok(()), |key| Err(Violation::WrongState { revision, key }))
}

/// What subscribers were told of each revision: all of them the same.
fn witnesses(history: &History) -> Result<BTreeMap<u64, &Partial>, Violation> {
    let mut witnesses = BTreeMap::new();
    for told in history.subscriptions.iter().flat_map(|it| &it.told) {
        match witnesses.insert(told.revision, &told.changes) {
            Some(other) if *other != told.changes => return Err(Violation::WrongChanges(told.revision)),
            _ if told.revision > history.last_revision => return Err(Violation::NotLasting(told.revision)),
            _ => {}
        }
    }
    Ok(witnesses)
}

/// Transactions keep to real time across managers: an earlier writer was fenced, so what it acknowledged came first.
fn check_order(history: &History, chain: &Chain) -> Result<(), Violation> {
    let acknowledged = Marks::new(placed(history, chain).filter_map(|(revision, it)| {
        (it.outcome == Outcome::Acknowledged).then_some((it.span.end, revision))
    }));
    for (revision, it) in placed(history, chain) {
        let known = acknowledged.before(it.span.start);
        if revision <= known {
            return Err(Violation::Stale { revision, known });
        }
        if it.outcome == Outcome::Acknowledged && chain.began[revision as usize] > it.span.end {
            return Err(Violation::FromTheFuture { revision });
        }
    }
    Ok(())
}

fn placed<'h>(history: &'h History, chain: &'h Chain) -> impl Iterator<Item = (u64, &'h Transaction)> {
    chain.transactions.iter().zip(1..).map(|(index, revision)| (revision, &history.transactions[*index]))
}

/// What was known of each manager, and when: a later read of it sees at least that.
struct Known(Vec<Marks>);

impl Known {
    fn of(history: &History, chain: &Chain) -> Self {
        let acknowledged: Vec<_> = placed(history, chain)
            .filter(|(_, it)| it.outcome == Outcome::Acknowledged)
            .map(|(revision, it)| (it.span.life, it.span.end, revision))
            .collect();
        let anywhere = Marks::new(acknowledged.iter().map(|(_, end, revision)| (*end, *revision)));
        let read = history.reads.iter().filter_map(|it| Some((it.span.life, it.span.end, it.revision?)));
        let told = history
            .subscriptions
            .iter()
            .flat_map(|it| it.told.iter().map(|told| (it.life, told.at, told.revision)));
        let seen: Vec<_> = read.chain(told).chain(acknowledged).collect();
        let marks = history.opened.iter().enumerate().map(|(life, opened)| {
            let own = seen.iter().filter(|(of, ..)| *of == life).map(|(_, at, revision)| (*at, *revision));
            Marks::new(own.chain([(*opened, anywhere.before(*opened))]))
        });
        Self(marks.collect())
    }

    fn in_life(&self, life: usize, at: u64) -> u64 {
        self.0.get(life).map_or(0, |marks| marks.before(at))
    }
}

/// Revisions that were known from some moments on.
struct Marks(Vec<(u64, u64)>);

impl Marks {
    fn new(marks: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut marks: Vec<_> = marks.collect();
        marks.sort_unstable();
        let mut newest = 0;
        for (_, revision) in &mut marks {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Self(marks)
    }

    fn before(&self, at: u64) -> u64 {
        let count = self.0.partition_point(|(moment, _)| *moment < at);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Each revision follows the one before; after an orderly close none is missing.
fn check_subscriptions(history: &History) -> Result<(), Violation> {
    for subscription in &history.subscriptions {
        let mut after = subscription.base;
        for told in &subscription.told {
            if told.revision != after + 1 {
                return Err(Violation::Gap { after, told: Some(told.revision) });
            }
            after = told.revision;
        }
        let closed_at = history.closed_at.get(&subscription.life).filter(|_| subscription.complete);
        if closed_at.is_some_and(|revision| *revision != after) {
            return Err(Violation::Gap { after, told: None });
        }
    }
    Ok(())
}

fn applied(state: &Values, changes: &Partial) -> Values {
    let mut state = state.clone();
    for (key, value) in changes {
        match value {
            Some(value) => state.insert(*key, *value),
            None => state.remove(key),
        };
    }
    state
}

/// A record that was seen otherwise than it is in `state`.
fn difference(state: &Values, seen: &Seen) -> Option<RecordKey> {
    match seen {
        Seen::All(values) => {
            let keys = state.keys().chain(values.keys());
            keys.copied().find(|key| state.get(key) != values.get(key))
        }
        Seen::Some(values) => {
            values.iter().find(|(key, value)| state.get(key) != value.as_ref()).map(|(key, _)| *key)
        }
    }
}
