//! Throw-away etcd members for tests: real processes on this machine, that a test may freeze, kill and start again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod address;
mod server;
mod member;

pub use address::{free_address, host};
pub use member::Member;
pub use server::Server;
