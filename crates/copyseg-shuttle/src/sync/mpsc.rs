//! A channel without bounds for many values.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;

use crate::point::Point;

/// The sending half.
#[derive(Debug)]
pub struct UnboundedSender<T> {
    sender: mpsc::UnboundedSender<T>,
    point: Arc<Point>,
}

/// The receiving half.
#[derive(Debug)]
pub struct UnboundedReceiver<T> {
    receiver: mpsc::UnboundedReceiver<T>,
    point: Arc<Point>,
}

/// A channel without bounds.
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let point = Arc::new(Point::new());
    (UnboundedSender { sender, point: Arc::clone(&point) }, UnboundedReceiver { receiver, point })
}

impl<T> UnboundedSender<T> {
    /// Sends it.
    ///
    /// # Errors
    /// The value, when the receiver is gone.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.point.around(|| self.sender.send(value))
    }
}

impl<T> UnboundedReceiver<T> {
    /// Waits for the next; `None` once the sender is gone.
    pub async fn recv(&mut self) -> Option<T> {
        self.point.pass();
        let value = self.receiver.recv().await;
        self.point.pass();
        value
    }
}
