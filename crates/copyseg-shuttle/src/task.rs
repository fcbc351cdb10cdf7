//! The tasks of `tokio`: shuttle's.

pub use shuttle::future::{AbortHandle, JoinHandle, spawn, yield_now};

/// Runs work that may block: here it is a task like any other.
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn(async move { work() })
}
