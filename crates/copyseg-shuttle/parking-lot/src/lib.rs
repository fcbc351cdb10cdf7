//! `parking_lot`, as far as `copyseg-core` uses it.

pub use copyseg_shuttle::{Mutex, MutexGuard};
