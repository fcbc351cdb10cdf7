//! What the tests of whole processes share: the built command, scratch directories, generated snapshots.

mod random;
mod scratch;
mod binary;
mod terminal;
mod snapshot;
mod restore;
mod watch;

pub use binary::{Command, Finished, OPERATOR_COMMANDS, Running, copyseg};
pub use random::Random;
pub use restore::{OUTCOME, Stage};
pub use scratch::Scratch;
pub use snapshot::{Generated, files_below, write_snapshot};
pub use terminal::{on_a_terminal, on_terminal};
pub use watch::Watch;
