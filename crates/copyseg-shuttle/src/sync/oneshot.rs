//! A channel for one value.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use crate::point::Point;

/// The sending half.
#[derive(Debug)]
pub struct Sender<T> {
    sender: oneshot::Sender<T>,
    point: Arc<Point>,
}

/// The receiving half: a future.
#[derive(Debug)]
pub struct Receiver<T> {
    receiver: oneshot::Receiver<T>,
    point: Arc<Point>,
}

/// A channel for one value.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = oneshot::channel();
    let point = Arc::new(Point::new());
    (Sender { sender, point: Arc::clone(&point) }, Receiver { receiver, point })
}

impl<T> Sender<T> {
    /// Sends it.
    ///
    /// # Errors
    /// The value, when the receiver is gone.
    pub fn send(self, value: T) -> Result<(), T> {
        let Self { sender, point } = self;
        point.around(|| sender.send(value))
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.point.pass();
        let answer = Pin::new(&mut self.receiver).poll(context);
        self.point.pass();
        answer
    }
}
