//! Random numbers that a printed seed replays.

use std::hash::{BuildHasher, RandomState};

/// A generator of random numbers (splitmix64): the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with a seed from the environment variable `COPYSEG_TEST_SEED`, or a fresh one. It is printed,
    /// so that a failure can be replayed.
    ///
    /// # Panics
    /// If the variable is set to something that is no number.
    pub fn replayable() -> Self {
        let seed = match std::env::var("COPYSEG_TEST_SEED") {
            Ok(text) => text.parse().expect("COPYSEG_TEST_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        };
        eprintln!("replay with COPYSEG_TEST_SEED={seed}");
        Self(seed)
    }

    /// A generator with this seed.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `0` to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}
