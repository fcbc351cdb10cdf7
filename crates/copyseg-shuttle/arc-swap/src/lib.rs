//! `arc_swap`, as far as `copyseg-core` uses it.

pub use copyseg_shuttle::{ArcSwap, Guard};
