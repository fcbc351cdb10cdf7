//! Many schedules of one scenario.

use std::future::Future;

use copyseg_torture::Trial;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::store::all_ended;

/// How many schedules a round tries in each of the two ways.
const SCHEDULES: usize = 50;

/// How many unlikely moments shuttle looks for at once: a bug that needs so many switches at the right places is
/// found with a probability that is known (Burckhardt et al., ASPLOS 2010).
const DEPTH: usize = 3;

/// Runs `scenario` under schedules of two kinds: with a random task at each point, and with random priorities that change
/// at a few points.
pub(crate) fn explore<F: Future<Output = ()> + Send + 'static>(name: &'static str, scenario: fn() -> F) {
    let mut trial = Trial::new(name, 2);
    while let Some(mut round) = trial.round() {
        let seed = round.seed();
        let run = move || {
            shuttle::future::block_on(async {
                scenario().await;
                all_ended().await;
            });
        };
        let random = Runner::new(RandomScheduler::new_from_seed(seed, SCHEDULES), config()).run(run);
        let priorities = PctScheduler::new_from_seed(seed, DEPTH, SCHEDULES);
        let priorities = Runner::new(priorities, config()).run(run);
        round.count("schedules", (random + priorities) as u64);
    }
}

fn config() -> Config {
    let mut config = Config::new();
    // Without optimisation a transaction needs more than the 32 KiB that shuttle gives a task.
    config.stack_size = 512 << 10;
    config
}
