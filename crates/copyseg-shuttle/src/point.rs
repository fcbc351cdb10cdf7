//! A point at which another task may run.

use shuttle::sync::atomic::{AtomicBool, Ordering};

/// Before and after each operation of the primitive that it belongs to, another task may run.
#[derive(Debug)]
pub(crate) struct Point(AtomicBool);

impl Point {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Does `operation` with nothing else in between.
    pub(crate) fn around<T>(&self, operation: impl FnOnce() -> T) -> T {
        self.pass();
        let result = operation();
        self.pass();
        result
    }

    /// Lets another task run.
    pub(crate) fn pass(&self) {
        // Shuttle may switch at every access to an atomic.
        self.0.load(Ordering::SeqCst);
    }
}
