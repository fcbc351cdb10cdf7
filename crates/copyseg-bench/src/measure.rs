//! Measuring: contenders that take turns, medians with their spread, and latencies of single calls.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::workload::Random;

static TURNS: AtomicUsize = AtomicUsize::new(5);

/// How often every contender has its turn: 5 times, unless [`set_turns`] says otherwise.
pub fn turns() -> usize {
    TURNS.load(Ordering::Relaxed)
}

/// Fewer turns for a quick look, or more for a steadier median.
pub fn set_turns(turns: usize) {
    TURNS.store(turns.max(1), Ordering::Relaxed);
}

/// One figure for each repeat.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// The middle one.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The smallest and the largest.
    pub fn range(&self) -> (f64, f64) {
        self.0.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), it| (min.min(*it), max.max(*it)))
    }

    /// Each figure by the one that `other` had in the same turn.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, others)| own / others).collect())
    }

    /// Each figure changed by `change`.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }

    /// The median and the range, in `unit`.
    pub fn show(&self, unit: Unit) -> String {
        let (min, max) = self.range();
        format!("{} [{}–{}]", unit.show(self.median()), unit.show(min), unit.show(max))
    }
}

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// So many a second.
    Rate,
    /// A ratio.
    Ratio,
    /// Bytes.
    Bytes,
    /// Percent.
    Percent,
}

impl Unit {
    /// The figure with its unit, to three digits.
    pub fn show(self, figure: f64) -> String {
        match self {
            Self::Nanos if figure < 1e3 => format!("{figure:.0} ns"),
            Self::Nanos if figure < 1e6 => format!("{} µs", Digits(figure / 1e3)),
            Self::Nanos if figure < 1e9 => format!("{} ms", Digits(figure / 1e6)),
            Self::Nanos => format!("{} s", Digits(figure / 1e9)),
            Self::Rate if figure < 1e4 => format!("{}/s", Digits(figure)),
            Self::Rate if figure < 1e6 => format!("{} k/s", Digits(figure / 1e3)),
            Self::Rate => format!("{} M/s", Digits(figure / 1e6)),
            Self::Ratio => Digits(figure).to_string(),
            Self::Bytes if figure < 1e5 => format!("{figure:.0} B"),
            Self::Bytes => format!("{} MB", Digits(figure / 1e6)),
            Self::Percent => format!("{} %", Digits(figure)),
        }
    }
}

/// Three digits, whatever the size.
struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            size if size >= 100.0 => write!(f, "{:.0}", self.0),
            size if size >= 10.0 => write!(f, "{:.1}", self.0),
            size if size >= 0.1 => write!(f, "{:.2}", self.0),
            size if size >= 0.001 => write!(f, "{:.4}", self.0),
            _ => write!(f, "{:.1e}", self.0),
        }
    }
}

/// A contender: runs once and answers its figure.
pub type Contender<'a> = &'a mut dyn FnMut() -> Result<f64>;

/// Lets the contenders take turns, [`turns`] times after one turn that does not count.
///
/// # Errors
/// The first error of a contender.
pub fn alternate<const N: usize>(contenders: [Contender<'_>; N]) -> Result<[Samples; N]> {
    alternate_times(turns(), true, contenders)
}

/// Lets the contenders take turns, `repeats` times, after one turn that does not count if `warm_up`. Every other time in
/// reverse, so that nobody always comes after the same: what one leaves behind, such as a disk that is busy yet, the next
/// one meets.
///
/// # Errors
/// The first error of a contender.
pub fn alternate_times<const N: usize>(
    repeats: usize,
    warm_up: bool,
    contenders: [Contender<'_>; N],
) -> Result<[Samples; N]> {
    let mut samples = [(); N].map(|()| Samples::default());
    for repeat in 0..repeats + usize::from(warm_up) {
        for position in 0..N {
            let turn = if repeat % 2 == 0 { position } else { N - 1 - position };
            let figure = contenders[turn]()?;
            if repeat >= usize::from(warm_up) {
                samples[turn].0.push(figure);
            }
        }
    }
    Ok(samples)
}

/// How many nanoseconds `work` takes for one of `count`.
pub fn nanos_per<T>(count: usize, work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_nanos() as f64 / count as f64
}

/// A reader whose reads come due at random, `period` apart on average, for as long as `length`: how many nanoseconds
/// each call took, in order of size. What it waits for its turn on a core is not the call's.
pub fn paced(length: Duration, period: Duration, seed: u64, read: impl FnMut()) -> Vec<u64> {
    let start = Instant::now();
    paced_until(|| start.elapsed() >= length, period, seed, read)
}

/// The same, until `is_over`.
pub fn paced_until(
    is_over: impl Fn() -> bool,
    period: Duration,
    seed: u64,
    mut read: impl FnMut(),
) -> Vec<u64> {
    let (mut random, mut nanos) = (Random(seed), Vec::new());
    while !is_over() {
        let period = period.as_nanos() as usize;
        sleep(Duration::from_nanos((period / 2 + random.below(period)) as u64));
        let call = Instant::now();
        read();
        nanos.push(call.elapsed().as_nanos() as u64);
    }
    nanos.sort_unstable();
    nanos
}

/// The figure below which `share` of the sorted figures are.
pub fn percentile(sorted: &[u64], share: f64) -> f64 {
    let position = (sorted.len() as f64 * share) as usize;
    sorted.get(position.min(sorted.len().saturating_sub(1))).map_or(f64::NAN, |nanos| *nanos as f64)
}

/// Processor time that this process has used so far, on all cores.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory that a [`burn`] walks through: as large as what the contenders touch, and nothing of theirs.
const UNRELATED_WORDS: usize = 32 << 20;

/// Uses `share` of a core on memory of its own until told to stop, in stretches of about a millisecond.
pub fn burn(share: f64, stop: &AtomicBool) {
    let cycle = Duration::from_millis(1);
    let mut memory = vec![1u64; UNRELATED_WORDS];
    let mut random = Random(1);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        while start.elapsed() < cycle.mul_f64(share.min(1.0)) {
            for _ in 0..64 {
                let word = &mut memory[random.below(UNRELATED_WORDS)];
                *word = word.wrapping_mul(31);
            }
        }
        if share < 1.0 {
            sleep(cycle.saturating_sub(start.elapsed()));
        }
    }
    black_box(&memory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_and_the_first_turn_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let turn = |name: f64| {
            order.borrow_mut().push(name);
            Ok(name)
        };
        let [first, second] = alternate([&mut || turn(1.0), &mut || turn(2.0)]).unwrap();
        assert_eq!((first.0, second.0), (vec![1.0; turns()], vec![2.0; turns()]));
        assert_eq!(order.borrow()[..6], [1.0, 2.0, 2.0, 1.0, 1.0, 2.0]);
        assert_eq!(order.borrow().len(), 2 * (turns() + 1));
    }

    #[test]
    fn a_median_ignores_an_outlier_and_a_percentile_does_not() {
        assert_eq!(Samples(vec![3.0, 900.0, 1.0]).median(), 3.0);
        assert_eq!(percentile(&[1, 2, 3, 900], 0.99), 900.0);
        assert_eq!(percentile(&[1, 2, 3, 900], 0.5), 3.0);
    }

    #[test]
    fn figures_are_shown_with_three_digits() {
        assert_eq!(Unit::Nanos.show(295.0), "295 ns");
        assert_eq!(Unit::Nanos.show(1_394_000_000.0), "1.39 s");
        assert_eq!(Unit::Rate.show(58_123.0), "58.1 k/s");
        assert_eq!(Unit::Ratio.show(0.000_31), "3.1e-4");
    }
}
