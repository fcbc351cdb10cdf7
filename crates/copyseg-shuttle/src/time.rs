//! The time of `tokio`, which passes when a test lets it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::watch;

/// A wait was over before what was waited for came.
#[derive(Debug)]
pub struct Elapsed;

shuttle::lazy_static! {
    static ref PATIENCE: watch::Sender<u64> = watch::Sender::new(0);
}

/// Lets everybody who waits in [`timeout`] lose patience.
pub fn run_out_of_patience() {
    PATIENCE.send_modify(|times| *times += 1);
}

/// Waits for `future`, however long that is, unless [`run_out_of_patience`] is called.
pub async fn timeout<F: Future>(_patience: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut patience = PATIENCE.subscribe();
    match select(pin!(future), pin!(patience.changed())).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(Elapsed),
    }
}

/// Gives others their turn. How long it should have been does not matter: they may do anything meanwhile, or nothing.
pub async fn sleep(_duration: Duration) {
    crate::task::yield_now().await;
}
