//! A channel that shows its newest value.

use std::sync::Arc;

use tokio::sync::watch;

pub use tokio::sync::watch::{Ref, error};

use self::error::RecvError;
use crate::point::Point;

/// The sending half.
#[derive(Debug)]
pub struct Sender<T> {
    sender: watch::Sender<T>,
    point: Arc<Point>,
}

/// A receiving half.
#[derive(Debug, Clone)]
pub struct Receiver<T> {
    receiver: watch::Receiver<T>,
    point: Arc<Point>,
}

/// A channel that shows `value` first.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A channel without a receiver.
    pub fn new(value: T) -> Self {
        Self { sender: watch::Sender::new(value), point: Arc::new(Point::new()) }
    }

    /// A receiver.
    pub fn subscribe(&self) -> Receiver<T> {
        let receiver = self.point.around(|| self.sender.subscribe());
        Receiver { receiver, point: Arc::clone(&self.point) }
    }

    /// Shows another value from now on, and returns the one before.
    pub fn send_replace(&self, value: T) -> T {
        self.point.around(|| self.sender.send_replace(value))
    }
}

impl<T> Receiver<T> {
    /// The newest value.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.point.pass();
        self.receiver.borrow()
    }

    /// The newest value, which is not new any more.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.point.pass();
        self.receiver.borrow_and_update()
    }

    /// Waits for a value that was not seen yet.
    ///
    /// # Errors
    /// When the sender is gone.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.point.pass();
        let changed = self.receiver.changed().await;
        self.point.pass();
        changed
    }

    /// Waits for a value of this kind.
    ///
    /// # Errors
    /// When the sender is gone.
    pub async fn wait_for(&mut self, is_it: impl FnMut(&T) -> bool) -> Result<(), RecvError> {
        self.point.pass();
        let found = self.receiver.wait_for(is_it).await.map(drop);
        self.point.pass();
        found
    }
}
