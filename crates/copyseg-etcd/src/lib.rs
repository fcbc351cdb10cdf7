//! copyseg's catalog on an etcd cluster.
#![doc = include_str!("../README.md")]

mod options;
mod url;
mod catalog;
mod store;
mod leader;
mod requests;
mod load;
mod follow;
mod history;
mod cluster;
mod keys;
mod error;

pub use catalog::EtcdCatalog;
pub use options::{EtcdOptions, Password, Tls};
