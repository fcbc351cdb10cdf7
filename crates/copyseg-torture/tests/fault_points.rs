//! Every point at which storage can fail an operation of the meta manager, one after the other: memory equals storage,
//! all or nothing, and calling again does what is documented.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "fault_points/operations.rs"]
mod operations;
#[path = "fault_points/point.rs"]
mod point;
#[path = "fault_points/seed.rs"]
mod seed;
#[path = "fault_points/opening.rs"]
mod opening;

use copyseg_conformance::Fault;
use copyseg_torture::{Backend, Trial, run};

use operations::{Operation, operations};
use point::{Failure, Plan, Reference};

/// Fails the first call of every operation, then the second, and so on, until it makes no further one; in every way.
/// Returns how many points there were.
async fn every_point(backend: &Backend, operation: &Operation, failures: &[Failure]) -> u64 {
    let reference = Reference::take(backend, operation).await;
    let mut points = 0;
    for &failure in failures {
        for call in 0.. {
            assert!(call < 200, "{}: it never runs out of calls", operation.name);
            if reference.try_point(backend, operation, &[Plan { call, failure }]).await == 0 {
                break;
            }
            points += 1;
        }
    }
    points
}

#[test]
fn every_fault_point_of_every_operation() {
    let mut trial = Trial::new("every_fault_point_of_every_operation", 1);
    while let Some(mut round) = trial.round() {
        for operation in operations() {
            let points = run(true, every_point(&Backend::Memory, &operation, &Failure::ALL));
            round.count("operations", 1);
            round.count("fault points", points);
        }
    }
    assert!(trial.counted("fault points") >= 300);
}

/// Each round tries an operation with two kinds of failure, at every pair of its calls.
#[test]
fn every_pair_of_fault_points() {
    let mut trial = Trial::new("every_pair_of_fault_points", 12);
    let all = operations();
    while let Some(mut round) = trial.round() {
        let mut random = fastrand::Rng::with_seed(round.seed());
        let operation = &all[random.usize(..all.len())];
        let first = Failure::Fault(Fault::ALL[random.usize(..Fault::ALL.len())]);
        // All but the last, which are two failures by themselves.
        let second = Failure::ALL[random.usize(..Failure::ALL.len() - 1)];
        round.count("pairs of fault points", run(true, every_pair(operation, [first, second])));
    }
}

async fn every_pair(operation: &Operation, [first, second]: [Failure; 2]) -> u64 {
    let reference = Reference::take(&Backend::Memory, operation).await;
    let mut pairs = 0;
    for call in 0.. {
        let mut failures = 0;
        for later in call + 1.. {
            assert!(later < 200, "{}: it never runs out of calls", operation.name);
            let plan = [Plan { call, failure: first }, Plan { call: later, failure: second }];
            failures = reference.try_point(&Backend::Memory, operation, &plan).await;
            if failures < 2 {
                break;
            }
            pairs += 1;
        }
        if failures == 0 {
            break;
        }
    }
    pairs
}

/// On storage that takes its time, each round tries one kind of failure for each operation.
fn some_fault_points(name: &'static str, backend: &Backend, operations_at_once: usize) {
    let mut trial = Trial::new(name, 1);
    let all = operations();
    while let Some(mut round) = trial.round() {
        let mut random = fastrand::Rng::with_seed(round.seed());
        for _ in 0..operations_at_once {
            let operation = &all[random.usize(..all.len())];
            let failure = Failure::ALL[random.usize(..Failure::ALL.len())];
            let points = run(false, every_point(backend, operation, &[failure]));
            round.count("operations", 1);
            round.count("fault points", points);
        }
    }
    assert!(trial.counted("operations") > 0);
}

#[test]
fn fault_points_on_redb() {
    some_fault_points("fault_points_on_redb", &Backend::Redb, 4);
}

#[test]
fn fault_points_on_sled() {
    some_fault_points("fault_points_on_sled", &Backend::Sled, 4);
}

#[test]
#[cfg(feature = "etcd-tests")]
fn fault_points_on_etcd() {
    let member = run(false, copyseg_torture::EtcdMember::start());
    some_fault_points("fault_points_on_etcd", &Backend::Etcd(std::sync::Arc::new(member)), 4);
}
