//! Throw-away etcd members for tests: real processes on this machine, that a test may freeze, kill and start again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod server;
mod member;

pub use member::{Member, free_port};
pub use server::Server;
