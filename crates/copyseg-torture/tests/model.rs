//! The manager and a simple model of what is documented, side by side through random runs: operations, transactions,
//! claims by stale and live workers, faults, crashes, damage, time that jumps.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::cell::Cell;

use copyseg_torture::{Backend, Round, Trial, play, program, run};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// One run from the seed of the round. A run that fails is made as short as possible first.
fn follow(round: &mut Round<'_>, backend: &Backend, steps_max: usize) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&round.seed().to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 5_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let program = program(steps_max).new_tree(&mut runner).unwrap();
    let asked = Cell::new(0);
    round.count("steps", program.current().steps() as u64);
    let paused = matches!(backend, Backend::Memory);
    let outcome = runner.run_one(program, |program| {
        asked.set(asked.get() + run(paused, play(backend, &program)));
        Ok::<(), TestCaseError>(())
    });
    round.count("queries", asked.get());
    if let Err(TestError::Fail(reason, program)) = outcome {
        panic!("{reason}\nthe shortest run that shows it: \n{program}");
    }
}

fn follow_rounds(name: &'static str, short_rounds: u64, backend: &Backend, steps_max: usize) {
    let mut trial = Trial::new(name, short_rounds);
    while let Some(mut round) = trial.round() {
        follow(&mut round, backend, steps_max);
    }
    assert!(trial.counted("queries") > 0);
}

#[test]
fn the_manager_follows_the_model_in_memory() {
    follow_rounds("the_manager_follows_the_model_in_memory", 60, &Backend::Memory, 80);
}

#[test]
fn the_manager_follows_the_model_on_redb() {
    follow_rounds("the_manager_follows_the_model_on_redb", 3, &Backend::Redb, 40);
}

#[test]
fn the_manager_follows_the_model_on_sled() {
    follow_rounds("the_manager_follows_the_model_on_sled", 3, &Backend::Sled, 40);
}

#[test]
#[cfg(feature = "etcd-tests")]
fn the_manager_follows_the_model_on_etcd() {
    let member = std::sync::Arc::new(run(false, copyseg_torture::EtcdMember::start()));
    follow_rounds("the_manager_follows_the_model_on_etcd", 3, &Backend::Etcd(member), 40);
}
