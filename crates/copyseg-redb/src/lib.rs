//! A catalog in one local file.
//!
#![doc = include_str!("../README.md")]

mod options;
mod catalog;
mod source;
mod store;
mod load;
mod keys;
mod file;
mod error;

pub use catalog::RedbCatalog;
pub use options::RedbOptions;
