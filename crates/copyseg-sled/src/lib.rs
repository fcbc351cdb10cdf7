//! A catalog in one local folder.
//!
#![doc = include_str!("../README.md")]

mod options;
mod catalog;
mod source;
mod store;
mod load;
mod keys;
mod file;
mod wake;
mod error;

pub use catalog::SledCatalog;
pub use options::SledOptions;
