//! The tasks of `tokio`: shuttle's.

pub use shuttle::future::{AbortHandle, JoinHandle, spawn, yield_now};
