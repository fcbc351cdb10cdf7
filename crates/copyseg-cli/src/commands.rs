//! One module per command.

pub(crate) mod restore;
pub(crate) mod job;
pub(crate) mod gc;
pub(crate) mod stats;
pub(crate) mod check;
pub(crate) mod backends;
