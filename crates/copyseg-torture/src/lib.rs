//! What tries to break the promises of copyseg: each file in `tests` is a subject, each test in it a [`Trial`].
//!
//! `cargo test --package copyseg-torture` runs the short form of every trial. `cargo xtask torture --minutes 60`
//! gives each an equal share of an hour.

mod trial;

pub use trial::{Round, Trial};
