//! What can go wrong with a cluster, done to real etcd processes. `cargo xtask etcd` runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "faults/member.rs"]
mod member;
#[path = "faults/writer.rs"]
mod writer;
#[path = "faults/outages.rs"]
mod outages;
#[path = "faults/space.rs"]
mod space;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/access.rs"]
mod access;
#[path = "faults/certificates.rs"]
mod certificates;
#[path = "faults/following.rs"]
mod following;
#[path = "faults/lost_messages.rs"]
mod lost_messages;
#[path = "faults/leading.rs"]
mod leading;
#[path = "faults/requests.rs"]
mod requests;
#[path = "faults/large_job.rs"]
mod large_job;
#[path = "faults/members.rs"]
mod members;
