//! The checker accepts what is right, and rejects each kind of wrong history by its name.

use copyseg_core::{RecordKey, RecordKind};

use super::{
    History, Outcome, Partial, Read, Seen, Span, Subscription, Told, Transaction, Values, Violation, check,
};

fn key(id: i64) -> RecordKey {
    RecordKey { kind: RecordKind::Job, id }
}

fn partial(values: &[(i64, Option<u64>)]) -> Partial {
    values.iter().map(|(id, value)| (key(*id), *value)).collect()
}

fn all(values: &[(i64, u64)]) -> Seen {
    Seen::All(values.iter().map(|(id, value)| (key(*id), *value)).collect::<Values>())
}

fn read(start: u64, end: u64, revision: Option<u64>, seen: Seen) -> Read {
    Read { span: Span { life: 0, start, end }, revision, seen }
}

/// An acknowledged transaction from `start` until the tick after it.
fn write(
    start: u64,
    revision: u64,
    reads: &[(i64, Option<u64>)],
    writes: &[(i64, Option<u64>)],
) -> Transaction {
    Transaction {
        span: Span { life: 0, start, end: start + 1 },
        outcome: Outcome::Acknowledged,
        revision: Some(revision),
        reads: Seen::Some(partial(reads)),
        writes: partial(writes),
    }
}

fn told(at: u64, revision: u64, changes: &[(i64, Option<u64>)]) -> Told {
    Told { at, revision, changes: partial(changes) }
}

/// Three transactions, one after the other: record 1 is 10, record 2 is 20, then both are 31 and 32.
fn right() -> History {
    let first = write(10, 1, &[(1, None)], &[(1, Some(10))]);
    let second = write(20, 2, &[(1, Some(10)), (2, None)], &[(2, Some(20))]);
    let third = write(30, 3, &[(1, Some(10)), (2, Some(20))], &[(1, Some(31)), (2, Some(32))]);
    let stream = [
        told(12, 1, &[(1, Some(10))]),
        told(22, 2, &[(2, Some(20))]),
        told(32, 3, &[(1, Some(31)), (2, Some(32))]),
    ];
    History {
        opened: vec![1],
        closed_at: [(0, 3)].into(),
        transactions: vec![first, second, third],
        reads: vec![
            read(2, 3, Some(0), all(&[])),
            read(13, 14, Some(1), all(&[(1, 10)])),
            read(25, 33, None, Seen::Some(partial(&[(1, Some(31)), (2, Some(32))]))),
            read(40, 41, Some(3), all(&[(1, 31), (2, 32)])),
        ],
        subscriptions: vec![Subscription { life: 0, base: 0, told: stream.into(), complete: true }],
        last_revision: 3,
    }
}

/// What the check says of the right history with one thing wrong.
fn with(wrong: impl FnOnce(&mut History)) -> Violation {
    let mut history = right();
    wrong(&mut history);
    check(&history).unwrap_err()
}

#[test]
fn a_right_history_is_accepted() {
    assert_eq!(check(&right()), Ok(()));
}

#[test]
fn a_lost_update_is_rejected() {
    let violation = with(|history| {
        // The third has read record 1 before the first wrote it, and so overwrites it unseen.
        history.transactions[2].reads = Seen::Some(partial(&[(1, None)]));
    });
    assert_eq!(violation, Violation::NotSerializable { revision: 3, key: key(1) });
}

#[test]
fn a_write_skew_is_rejected() {
    let violation = with(|history| history.transactions[1].reads = Seen::Some(partial(&[(1, None)])));
    assert_eq!(violation, Violation::NotSerializable { revision: 2, key: key(1) });
}

#[test]
fn a_torn_read_is_rejected() {
    let torn = read(25, 33, None, Seen::Some(partial(&[(1, Some(31)), (2, Some(20))])));
    assert_eq!(with(|history| history.reads[2] = torn), Violation::Torn { start: 25 });
}

#[test]
fn a_torn_snapshot_is_rejected() {
    let torn = read(40, 41, Some(3), all(&[(1, 10), (2, 32)]));
    assert_eq!(with(|history| history.reads[3] = torn), Violation::WrongState { revision: 3, key: key(1) });
}

#[test]
fn a_snapshot_without_a_record_is_rejected() {
    let violation = with(|history| history.reads[3] = read(40, 41, Some(3), all(&[(1, 31)])));
    assert_eq!(violation, Violation::WrongState { revision: 3, key: key(2) });
}

#[test]
fn a_stale_read_after_an_acknowledgement_is_rejected() {
    let stale = read(40, 41, Some(1), all(&[(1, 10)]));
    assert_eq!(with(|history| history.reads[3] = stale), Violation::Stale { revision: 1, known: 3 });
}

#[test]
fn a_stale_read_that_tells_no_revision_is_rejected() {
    let stale = read(40, 41, None, Seen::Some(partial(&[(1, Some(10)), (2, Some(20))])));
    assert_eq!(with(|history| history.reads[3] = stale), Violation::Stale { revision: 2, known: 3 });
}

#[test]
fn a_read_that_goes_back_behind_another_read_is_rejected() {
    let violation = with(|history| {
        history.transactions[2].outcome = Outcome::Unknown;
        history.reads.push(read(42, 43, Some(2), all(&[(1, 10), (2, 20)])));
    });
    assert_eq!(violation, Violation::Stale { revision: 2, known: 3 });
}

#[test]
fn a_read_behind_what_a_subscriber_was_told_is_rejected() {
    let violation = with(|history| {
        history.transactions[1].span.end = 100;
        history.transactions[2].span.start = 28;
        history.reads = vec![read(23, 24, Some(1), all(&[(1, 10)]))];
    });
    assert_eq!(violation, Violation::Stale { revision: 1, known: 2 });
}

#[test]
fn a_manager_that_opens_without_what_was_acknowledged_is_rejected() {
    let violation = with(|history| {
        history.opened.push(50);
        let span = Span { life: 1, start: 51, end: 52 };
        history.reads.push(Read { span, revision: Some(2), seen: all(&[(1, 10), (2, 20)]) });
    });
    assert_eq!(violation, Violation::Stale { revision: 2, known: 3 });
}

#[test]
fn a_read_of_what_has_not_begun_is_rejected() {
    let early = read(13, 14, Some(2), all(&[(1, 10), (2, 20)]));
    assert_eq!(with(|history| history.reads[1] = early), Violation::FromTheFuture { revision: 2 });
}

#[test]
fn a_read_of_what_did_not_last_is_rejected() {
    let violation = with(|history| {
        history.transactions[2].outcome = Outcome::Unknown;
        history.last_revision = 2;
        history.reads.remove(2);
        history.subscriptions.clear();
    });
    assert_eq!(violation, Violation::NotLasting(3));
}

#[test]
fn an_acknowledged_transaction_that_was_lost_is_rejected() {
    let violation = with(|history| {
        history.last_revision = 2;
        history.reads.truncate(2);
        history.subscriptions.clear();
    });
    assert_eq!(violation, Violation::Lost { revision: Some(3) });
}

#[test]
fn an_acknowledged_addition_that_was_lost_is_rejected() {
    let violation = with(|history| {
        let mut addition = write(50, 4, &[], &[(9, Some(90))]);
        addition.revision = None;
        history.transactions.push(addition);
    });
    assert_eq!(violation, Violation::Lost { revision: None });
}

#[test]
fn a_duplicate_apply_is_rejected() {
    let violation = with(|history| {
        history.subscriptions[0].told.push(told(34, 4, &[(1, Some(10))]));
        history.last_revision = 4;
        history.closed_at = [(0, 4)].into();
    });
    assert_eq!(violation, Violation::AppliedTwice { first: 1, again: 4 });
}

/// Nobody was told of it, but what the first transaction wrote is back.
#[test]
fn a_duplicate_apply_in_silence_is_rejected() {
    let late = read(40, 41, Some(3), all(&[(1, 10), (2, 32)]));
    assert_eq!(with(|history| history.reads[3] = late), Violation::WrongState { revision: 3, key: key(1) });
}

#[test]
fn a_revision_out_of_nowhere_is_rejected() {
    let violation = with(|history| history.last_revision = 4);
    assert_eq!(violation, Violation::NobodyCommitted(4));
}

#[test]
fn an_invented_value_is_rejected() {
    let violation = with(|history| history.reads[3] = read(40, 41, Some(3), all(&[(1, 31), (2, 99)])));
    assert_eq!(violation, Violation::Invented { key: key(2), value: 99 });
}

#[test]
fn a_refused_transaction_that_is_seen_is_rejected() {
    let violation = with(|history| {
        let mut refused = write(35, 4, &[], &[(2, Some(40))]);
        refused.outcome = Outcome::Refused;
        history.transactions.push(refused);
        history.reads.push(read(42, 43, Some(4), all(&[(1, 31), (2, 40)])));
    });
    assert_eq!(violation, Violation::RefusedButSeen { key: key(2), value: 40 });
}

#[test]
fn two_transactions_at_one_revision_are_rejected() {
    let violation = with(|history| history.transactions[2].revision = Some(2));
    assert_eq!(violation, Violation::OneRevisionTwice(2));
}

#[test]
fn revisions_against_real_time_are_rejected() {
    let violation = with(|history| {
        history.transactions[1].span = Span { life: 0, start: 50, end: 51 };
        history.reads.clear();
        history.subscriptions.clear();
    });
    assert_eq!(violation, Violation::Stale { revision: 2, known: 3 });
}

#[test]
fn a_gap_in_a_subscription_is_rejected() {
    let violation = with(|history| drop(history.subscriptions[0].told.remove(1)));
    assert_eq!(violation, Violation::Gap { after: 1, told: Some(3) });
}

#[test]
fn a_subscription_that_ends_too_early_is_rejected() {
    let violation = with(|history| drop(history.subscriptions[0].told.pop()));
    assert_eq!(violation, Violation::Gap { after: 2, told: None });
}

#[test]
fn a_subscriber_told_twice_is_rejected() {
    let violation = with(|history| {
        let again = history.subscriptions[0].told[1].clone();
        history.subscriptions[0].told.insert(2, again);
    });
    assert_eq!(violation, Violation::Gap { after: 2, told: Some(2) });
}

#[test]
fn a_subscriber_told_half_of_a_transaction_is_rejected() {
    let violation = with(|history| history.subscriptions[0].told[2].changes = partial(&[(1, Some(31))]));
    assert_eq!(violation, Violation::WrongChanges(3));
}

#[test]
fn an_unknown_transaction_may_have_been_applied_or_not() {
    let mut history = right();
    let unknown = |revision, value| {
        let mut it = write(35, revision, &[], &[(2, Some(value))]);
        it.outcome = Outcome::Unknown;
        it
    };
    history.transactions.extend([unknown(3, 40), unknown(4, 41)]);
    assert_eq!(check(&history), Ok(()));
    history.last_revision = 4;
    history.closed_at.clear();
    history.reads.push(read(42, 43, Some(4), all(&[(1, 31), (2, 41)])));
    assert_eq!(check(&history), Ok(()));
    history.transactions[3].revision = Some(4);
    assert_eq!(check(&history), Ok(()), "the other of two candidates fits");
}
