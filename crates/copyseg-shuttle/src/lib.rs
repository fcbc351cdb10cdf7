//! What `copyseg-core` synchronises with, under the schedules of shuttle.
//!
//! `copyseg-shuttle-core` builds the source of `copyseg-core`, file by file the same, with this crate under the names of
//! `tokio`, `parking_lot` and `arc_swap`. The channels, the semaphore and the notification are tokio's own, and the pointer that is swapped is
//! arc-swap's: before and after each of their operations another task may run, and within one none can. So shuttle
//! decides the order of whole operations. It does not look into them, nor into the memory order of atomics; both have
//! tests of their own.

mod point;
mod lock;
mod pointer;
pub mod runtime;
pub mod sync;
pub mod task;
pub mod time;

pub use lock::{Mutex, MutexGuard};
pub use pointer::{ArcSwap, Guard};
pub use task::spawn;
