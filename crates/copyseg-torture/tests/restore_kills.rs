//! The command `copyseg restore`, killed at random moments and started again until a run has ended by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use copyseg_tests::{Random, Stage};
use copyseg_torture::Trial;

const SEGMENTS: usize = 200;
const SEGMENT_BYTES: usize = 20_000;

/// So many kills that some hit every stage of a restore, and so few that it gets to its end.
const KILLS_MAX: u64 = 10;

/// How long a restore takes that is left alone, on this machine at this moment.
fn undisturbed() -> Duration {
    let stage = Stage::new(SEGMENTS, SEGMENT_BYTES, 0);
    let start = Instant::now();
    stage.restore().run().exits(0);
    start.elapsed()
}

#[test]
fn a_restore_killed_at_random_moments_is_whole_in_the_end() {
    let mut trial = Trial::new("a_restore_killed_at_random_moments_is_whole_in_the_end", 1);
    let whole = undisturbed().as_micros() as u64;
    while let Some(mut round) = trial.round() {
        let mut random = Random::seeded(round.seed());
        let stage = Stage::new(SEGMENTS, SEGMENT_BYTES, random.draw());
        for _ in 0..KILLS_MAX {
            let run = stage.restore().start_quietly();
            // Runs that go on have less to do.
            match random.below(2) {
                0 => sleep(Duration::from_micros(random.below(whole / 2))),
                _ => stage.wait_for_segments(&run, random.below(SEGMENTS as u64) as usize),
            }
            if !run.kill() {
                break;
            }
            round.count("kills", 1);
        }
        stage.restore().run().exits(0);
        stage.assert_completed();
        round.count("restores", 1);
    }
}
