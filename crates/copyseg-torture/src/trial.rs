//! A test that is repeated with other seeds, and says at its end how often and what it counted.

use std::collections::BTreeMap;
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

/// One test, repeated in rounds: a fixed number of them in CI, as many as fit the time in a long run.
///
/// Every round has a seed from which all that happens in it follows. The first is drawn at random, or given by
/// `COPYSEG_TORTURE_SEED`; the next rounds count up from it. A round that panics says how to repeat it.
///
/// ```
/// use copyseg_torture::Trial;
///
/// let mut trial = Trial::new("sums_do_not_depend_on_the_order", 3);
/// while let Some(mut round) = trial.round() {
///     let (a, b) = (round.seed() / 3, round.seed() / 7);
///     assert_eq!(a + b, b + a);
///     round.count("sums", 1);
/// }
/// assert_eq!(trial.counted("sums"), 3);
/// ```
#[derive(Debug)]
pub struct Trial {
    name: &'static str,
    first_seed: u64,
    rounds: u64,
    short_rounds: u64,
    time: Option<Duration>,
    start: Instant,
    counts: BTreeMap<&'static str, u64>,
}

/// One round of a [`Trial`].
#[derive(Debug)]
pub struct Round<'t> {
    trial: &'t mut Trial,
    seed: u64,
}

impl Trial {
    /// A trial by the name of its test, with so many rounds in its short form.
    ///
    /// # Panics
    ///
    /// When one of the variables `COPYSEG_TORTURE_SEED` and `COPYSEG_TORTURE_SECONDS` is set and not a number.
    pub fn new(name: &'static str, short_rounds: u64) -> Self {
        Self {
            name,
            first_seed: number("COPYSEG_TORTURE_SEED").unwrap_or_else(random_seed),
            rounds: 0,
            short_rounds,
            time: number("COPYSEG_TORTURE_SECONDS").map(Duration::from_secs),
            start: Instant::now(),
            counts: BTreeMap::new(),
        }
    }

    /// The next round, until there were enough. There is always a first one.
    pub fn round(&mut self) -> Option<Round<'_>> {
        let enough = match self.time {
            Some(time) => self.rounds > 0 && self.start.elapsed() >= time,
            None => self.rounds >= self.short_rounds,
        };
        if enough {
            return None;
        }
        // A seed takes 32 bits, so that whoever repeats a round has little to type.
        let seed = self.first_seed.wrapping_add(self.rounds) & u64::from(u32::MAX);
        self.rounds += 1;
        Some(Round { trial: self, seed })
    }

    /// How long a trial that is one long round should last: its share of a long run, or this long.
    pub fn time_or(&self, short: Duration) -> Duration {
        self.time.unwrap_or(short)
    }

    /// What was counted under this name.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    fn summary(&self) -> String {
        let counts: String = self.counts.iter().map(|(what, count)| format!(", {count} {what}")).collect();
        let first = self.first_seed & u64::from(u32::MAX);
        format!("{}: {} rounds from seed {first}{counts}", self.name, self.rounds)
    }
}

impl Round<'_> {
    /// The number that everything random in this round follows from, below 2^32.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds to what the trial reports under this name, for example `fault points`.
    pub fn count(&mut self, what: &'static str, more: u64) {
        *self.trial.counts.entry(what).or_default() += more;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (name, seed) = (self.trial.name, self.seed);
            eprintln!("to repeat this round: cargo xtask torture --only {name} --seed {seed}");
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let summary = self.summary();
        eprintln!("{summary}");
        if let Some(path) = env::var_os("COPYSEG_TORTURE_REPORT") {
            let line = format!("{summary}\n");
            let written = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(line.as_bytes()));
            if let Err(error) = written {
                eprintln!("the report {} was not written: {error}", path.display());
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{variable}={text}: {error}"),
    }
}

fn random_seed() -> u64 {
    match getrandom::u32() {
        Ok(seed) => seed.into(),
        Err(error) => panic!("no random seed: {error}"),
    }
}
