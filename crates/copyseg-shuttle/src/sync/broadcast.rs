//! A channel on which every receiver gets every value.

pub use tokio::sync::broadcast::error;

use std::sync::Arc;

use tokio::sync::broadcast;

use self::error::{RecvError, SendError};
use crate::point::Point;

/// The sending half.
#[derive(Debug)]
pub struct Sender<T> {
    sender: broadcast::Sender<T>,
    point: Arc<Point>,
}

/// A receiving half.
#[derive(Debug)]
pub struct Receiver<T> {
    receiver: broadcast::Receiver<T>,
    point: Arc<Point>,
}

/// A channel that keeps so many values for those who are slow.
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(capacity);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T: Clone> Sender<T> {
    /// A channel without a receiver.
    pub fn new(capacity: usize) -> Self {
        Self { sender: broadcast::Sender::new(capacity), point: Arc::new(Point::new()) }
    }

    /// A receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        let receiver = self.point.around(|| self.sender.subscribe());
        Receiver { receiver, point: Arc::clone(&self.point) }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.point.around(|| self.sender.receiver_count())
    }

    /// Sends to every receiver there is.
    ///
    /// # Errors
    /// When there is none.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        self.point.around(|| self.sender.send(value))
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    /// When values were lost because there were too many, or the sender is gone.
    pub async fn recv(&mut self) -> Result<T, RecvError> {
        self.point.pass();
        let value = self.receiver.recv().await;
        self.point.pass();
        value
    }

    /// Another receiver, of what is sent from now on.
    pub fn resubscribe(&self) -> Self {
        let receiver = self.point.around(|| self.receiver.resubscribe());
        Self { receiver, point: Arc::clone(&self.point) }
    }
}
