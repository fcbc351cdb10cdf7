//! The lock of the accepted state, for which tasks wait and not their threads.

use std::hint::spin_loop;
use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// How often a task tries before it waits like a thread, which is sure to come to an end.
const TRIES: usize = 16;

/// How often a thread tries before it sleeps, and how long it waits in between: 100 us in all on the processor it was
/// measured on, where a change takes 15, and less on others.
const ROUNDS: usize = 16;
const ROUND: usize = 128;

/// Lets one caller at a time have what it holds, for the time of one change.
///
/// A task that finds it taken leaves its thread to other tasks. Then most changes are made one after the other by one
/// thread, which has in its caches what they share; threads that take turns fetch it from each other, and are put to sleep
/// and woken for each change.
pub(super) struct Turns<T> {
    inner: Mutex<T>,
    over: Notify,
}

/// Ends when it is dropped.
pub(super) struct Turn<'a, T> {
    inner: MutexGuard<'a, T>,
    /// Dropped after the lock, because the task that it wakes tries at once.
    _over: Over<'a>,
}

struct Over<'a>(&'a Notify);

impl<T> Turns<T> {
    pub(super) fn new(value: T) -> Self {
        Self { inner: Mutex::new(value), over: Notify::new() }
    }

    /// Waits as a task. Whoever comes while nobody has a turn goes before those who wait, whose thread may not run yet.
    pub(super) async fn turn(&self) -> Turn<'_, T> {
        for _ in 0..TRIES {
            if let Some(inner) = self.inner.try_lock() {
                return self.begin(inner);
            }
            // The turn that let this try fail wakes somebody at its end, or the next who waits if nobody does yet.
            self.over.notified().await;
        }
        self.lock()
    }

    /// Waits as a thread, for callers that must not be given up while they wait, or for whom others wait.
    pub(super) fn lock(&self) -> Turn<'_, T> {
        // Not yet as `parking_lot` waits, which begins by offering the processor to others: those would have it for much
        // longer than a turn takes.
        for _ in 0..ROUNDS {
            if let Some(inner) = self.inner.try_lock() {
                return self.begin(inner);
            }
            (0..ROUND).for_each(|_| spin_loop());
        }
        self.begin(self.inner.lock())
    }

    /// Wakes everybody who waits. Once no turn follows another, a task that was woken and is never polled again would keep
    /// the others waiting.
    pub(super) fn wake_everybody(&self) {
        self.over.notify_waiters();
    }

    fn begin<'a>(&'a self, inner: MutexGuard<'a, T>) -> Turn<'a, T> {
        Turn { inner, _over: Over(&self.over) }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::task::{Context, Waker};
    use std::time::Duration;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_waiter_that_gives_up_passes_its_turn_on() {
        let turns = Turns::new(());
        let held = turns.lock();
        let (mut first, mut second) = (Box::pin(turns.turn()), Box::pin(turns.turn()));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(held);
        drop(first);
        assert!(poll!(&mut second).is_ready());
    }

    #[tokio::test]
    async fn whoever_comes_first_after_a_turn_has_the_next_and_wakes_the_one_that_waited() {
        let turns = Turns::new(());
        let held = turns.lock();
        let mut waiting = Box::pin(turns.turn());
        assert!(poll!(&mut waiting).is_pending());
        drop(held);
        let barging = turns.lock();
        assert!(poll!(&mut waiting).is_pending(), "two have a turn");
        drop(barging);
        assert!(poll!(&mut waiting).is_ready());
    }

    #[tokio::test]
    async fn a_waiter_that_is_woken_and_never_polled_again_holds_nobody_up_at_the_end() {
        let turns = Turns::new(());
        let held = turns.lock();
        let (mut stuck, mut other) = (Box::pin(turns.turn()), Box::pin(turns.turn()));
        assert!(poll!(&mut stuck).is_pending() && poll!(&mut other).is_pending());
        drop(held);
        assert!(poll!(&mut other).is_pending(), "the first of them was woken");
        turns.wake_everybody();
        assert!(poll!(&mut other).is_ready());
    }

    #[test]
    fn a_task_that_lost_often_waits_as_a_thread() {
        let turns = Turns::new(());
        let held = turns.lock();
        let (tried, has_tried) = mpsc::channel();
        std::thread::scope(|scope| {
            let turns = &turns;
            let waiting = scope.spawn(move || {
                let mut turn = Box::pin(turns.turn());
                let mut context = Context::from_waker(Waker::noop());
                for _ in 0..TRIES {
                    assert!(turn.as_mut().poll(&mut context).is_pending());
                    turns.over.notify_one();
                }
                tried.send(()).unwrap();
                assert!(turn.as_mut().poll(&mut context).is_ready());
            });
            // Fails if the thread does, which then tells more.
            let _ = has_tried.recv();
            drop(held);
            waiting.join().unwrap();
        });
    }

    /// Those who take turns as threads, as the committer does, wake tasks as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everybody_comes_to_a_turn() {
        const EACH: u64 = 500;
        let turns = Arc::new(Turns::new(0));
        let tasks = (0..16).map(|task| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                for change in 0..EACH {
                    match (task, change % 8) {
                        (0, _) => *turns.lock() += 1,
                        // Given up while it waits, or had and let go.
                        (_, 0) => {
                            drop(tokio::time::timeout(Duration::ZERO, turns.turn()).await);
                            *turns.turn().await += 1;
                        }
                        _ => *turns.turn().await += 1,
                    }
                }
            })
        });
        let all = futures::future::try_join_all(tasks.collect::<Vec<_>>());
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("somebody waits for ever").unwrap();
        assert_eq!(*turns.lock(), 16 * EACH);
    }
}
