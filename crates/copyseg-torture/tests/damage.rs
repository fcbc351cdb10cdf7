//! Damage: every byte of what is stored is changed, and every file cut, one after the other. Whoever opens the store
//! then finds all that was written but what is reported as set aside, or is told what is broken.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[cfg(feature = "etcd-tests")]
#[path = "damage/etcd.rs"]
mod etcd;
#[path = "damage/files.rs"]
mod files;
#[path = "damage/records.rs"]
mod records;
#[path = "damage/restore.rs"]
mod restore;
