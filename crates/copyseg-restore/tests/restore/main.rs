//! What a restore promises, tried from outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod catalogs;
mod dispatch;
mod failures;
mod fixture;
mod outcomes;
mod owners;
mod remote;
mod runs;
mod snapshots;
mod store;
mod takeovers;
