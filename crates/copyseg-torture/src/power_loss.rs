//! Power cuts: what was synced is there afterwards, and any part of what was not.

mod disk;
mod witness;

pub use disk::{Cuts, Disk, Remains};
pub use witness::Witness;
