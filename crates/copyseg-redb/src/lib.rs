//! A catalog in one local file.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

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
