//! A run from the seed of a round, made as short as possible if it fails.

use std::cell::Cell;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::play::play;
use super::program::Program;
use crate::instance::run;
use crate::storage::Backend;
use crate::trial::Round;

/// Draws one of `programs` by the seed of the round, and lets the manager follow the model through it.
///
/// # Panics
/// When they differ, with the shortest run that was found to show it.
pub fn follow(round: &mut Round<'_>, backend: &Backend, programs: impl Strategy<Value = Program>) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&round.seed().to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 5_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let program = programs.new_tree(&mut runner).unwrap();
    round.count("steps", program.current().len() as u64);
    let asked = Cell::new(0);
    let paused = matches!(backend, Backend::Memory);
    let outcome = runner.run_one(program, |program| {
        asked.set(asked.get() + run(paused, play(backend, &program)));
        Ok::<(), TestCaseError>(())
    });
    round.count("queries", asked.get());
    if let Err(TestError::Fail(reason, program)) = outcome {
        panic!("{reason}\nthe shortest run that shows it:\n{program}");
    }
}

/// Draws one of `programs` by the first 32 bytes, and lets the manager follow the model through it.
///
/// # Panics
/// When they differ.
pub(crate) fn follow_bytes(backend: &Backend, bytes: &[u8], programs: impl Strategy<Value = Program>) {
    // A seed, not the draws themselves: where those end proptest draws zeros, and where it rejects them, for ever.
    let mut seed = [0; 32];
    seed.iter_mut().zip(bytes).for_each(|(seed, byte)| *seed = *byte);
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let Ok(program) = programs.new_tree(&mut runner) else { return };
    run(matches!(backend, Backend::Memory), play(backend, &program.current()));
}
