//! A store whose content is known, damaged one byte at a time, and what is then made of it.

mod spoil;
mod written;

pub use spoil::{Spoil, spoils};
pub use written::{Finding, Opened, Written};
