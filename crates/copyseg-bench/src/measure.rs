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

/// Lets the contenders take turns, `repeats` times, after one turn that does not count if `warm_up`. Each time in another
/// order, the same in every run, so that nobody always comes after the same: what one leaves behind, such as a disk that is
/// busy yet, the next one meets. Nobody comes after itself, which would find its own data in the caches.
///
/// # Errors
/// The first error of a contender.
pub fn alternate_times<const N: usize>(
    repeats: usize,
    warm_up: bool,
    contenders: [Contender<'_>; N],
) -> Result<[Samples; N]> {
    let mut samples = [(); N].map(|()| Samples::default());
    let (mut order, mut random): ([usize; N], _) = (std::array::from_fn(|position| position), Random(9));
    for repeat in 0..repeats + usize::from(warm_up) {
        for turn in order {
            let figure = contenders[turn]()?;
            if repeat >= usize::from(warm_up) {
                samples[turn].0.push(figure);
            }
        }
        let last = order.last().copied();
        random.shuffle(&mut order);
        if N > 1 && order.first().copied() == last {
            order.swap(0, N - 1);
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

/// How many nanoseconds one of `count` takes of which `pass` does all, over as many passes as it takes to last a while.
pub fn nanos_per_of_passes<T>(count: usize, mut pass: impl FnMut() -> T) -> f64 {
    let (start, mut passes) = (Instant::now(), 0);
    while passes == 0 || start.elapsed() < PASSES {
        black_box(pass());
        passes += 1;
    }
    start.elapsed().as_nanos() as f64 / (count * passes) as f64
}

/// As long as the turns of the Go baseline.
const PASSES: Duration = Duration::from_millis(500);

/// A reader whose reads come due at random, `period` apart on average, for as long as `length`: how many nanoseconds
/// each call took, in order of size. Of a call that could begin when it was due, what the thread waited to be woken is not
/// counted; of one that came late because those before it took so long, all since it was due.
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
    let (mut random, mut nanos, mut due) = (Random(seed), Vec::new(), Instant::now());
    let period = period.as_nanos() as usize;
    while !is_over() {
        due += Duration::from_nanos((period / 2 + random.below(period)) as u64);
        let wait = due.checked_duration_since(Instant::now());
        let begin = match wait {
            Some(wait) => {
                sleep(wait);
                Instant::now()
            }
            None => due,
        };
        read();
        nanos.push(begin.elapsed().as_nanos() as u64);
        if wait.is_some() {
            // A thread that was woken late is not behind for that.
            due = begin;
        }
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

/// Memory of its own that a [`burn`] walks through: as large as what the contenders touch, and nothing of theirs. Made
/// before anything is measured.
pub fn unrelated_memory() -> Vec<u64> {
    vec![1; 32 << 20]
}

/// Uses `share` of a core on `memory` until told to stop, in stretches as short as those of a writer that prepares and commits:
/// longer ones would hold a reader up for longer than any writer does.
pub fn burn(share: f64, memory: &mut [u64], stop: &AtomicBool) {
    const STRETCH: Duration = Duration::from_micros(25);
    let (mut random, mut burnt, begin) = (Random(1), Duration::ZERO, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        if burnt > begin.elapsed().mul_f64(share) {
            sleep(STRETCH);
            continue;
        }
        let start = Instant::now();
        while start.elapsed() < STRETCH {
            for _ in 0..64 {
                let word = &mut memory[random.below(memory.len())];
                *word = word.wrapping_mul(31);
            }
        }
        burnt += start.elapsed();
    }
    black_box(memory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_in_changing_order_and_the_first_turn_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let turn = |name: f64| {
            order.borrow_mut().push(name);
            Ok(name)
        };
        let [first, second, third] =
            alternate([&mut || turn(1.0), &mut || turn(2.0), &mut || turn(3.0)]).unwrap();
        assert_eq!([first.0, second.0, third.0], [1.0, 2.0, 3.0].map(|name| vec![name; turns()]));
        let order = order.into_inner();
        assert_eq!(order.len(), 3 * (turns() + 1));
        assert!(order.windows(2).all(|two| two[0] != two[1]), "nobody comes after itself: {order:?}");
        assert!(order.chunks(3).any(|turn| turn != [1.0, 2.0, 3.0]), "the order changes: {order:?}");
    }

    #[test]
    fn a_read_that_comes_late_counts_from_when_it_was_due() {
        let mut reads = 0;
        let nanos = paced(Duration::from_millis(200), Duration::from_millis(1), 5, || {
            reads += 1;
            if reads == 3 {
                sleep(Duration::from_millis(100));
            }
        });
        let waited = nanos.iter().filter(|nanos| **nanos > 20_000_000).count();
        assert!(waited > 20, "those that came due meanwhile waited too: {waited}");
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
