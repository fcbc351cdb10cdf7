//! The pointer of `arc_swap`.

use std::sync::Arc;

pub use arc_swap::Guard;

use crate::point::Point;

/// A pointer that is read without a lock, and replaced.
#[derive(Debug)]
pub struct ArcSwap<T> {
    pointer: arc_swap::ArcSwap<T>,
    point: Point,
}

impl<T> ArcSwap<T> {
    /// A pointer to `value`.
    pub fn from_pointee(value: T) -> Self {
        Self { pointer: arc_swap::ArcSwap::from_pointee(value), point: Point::new() }
    }

    /// What it points to now.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.point.around(|| self.pointer.load())
    }

    /// Makes it point to something else.
    pub fn store(&self, value: Arc<T>) {
        self.point.around(|| self.pointer.store(value));
    }
}
