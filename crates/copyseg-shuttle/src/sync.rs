//! The channels of `tokio`, its semaphore and its notification.

pub mod broadcast;
pub mod oneshot;
pub mod watch;

use std::sync::Arc;

pub use tokio::sync::{AcquireError, OwnedSemaphorePermit};

use crate::point::Point;

/// Wakes one task that waits, or the next that will.
#[derive(Debug)]
pub struct Notify {
    notify: tokio::sync::Notify,
    point: Point,
}

impl Notify {
    /// Nobody is to be woken yet.
    #[allow(clippy::new_without_default, reason = "it has what is used of tokio's, and no more")]
    pub fn new() -> Self {
        Self { notify: tokio::sync::Notify::new(), point: Point::new() }
    }

    /// Wakes one.
    pub fn notify_one(&self) {
        self.point.around(|| self.notify.notify_one());
    }

    /// Wakes all that wait.
    pub fn notify_waiters(&self) {
        self.point.around(|| self.notify.notify_waiters());
    }

    /// Waits to be woken.
    pub async fn notified(&self) {
        self.point.pass();
        self.notify.notified().await;
        self.point.pass();
    }
}

/// A number of places.
#[derive(Debug)]
pub struct Semaphore {
    places: Arc<tokio::sync::Semaphore>,
    point: Point,
}

impl Semaphore {
    /// The most places that there can be.
    pub const MAX_PERMITS: usize = tokio::sync::Semaphore::MAX_PERMITS;

    /// So many free places.
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(tokio::sync::Semaphore::new(places)), point: Point::new() }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// When it was closed.
    pub async fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.point.pass();
        let place = Arc::clone(&self.places).acquire_owned().await;
        self.point.pass();
        place
    }

    /// Gives out no more places, and says so to everybody who waits.
    pub fn close(&self) {
        self.point.around(|| self.places.close());
    }
}
