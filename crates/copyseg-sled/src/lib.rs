//! A catalog in one local folder.
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
mod wake;
mod error;

pub use catalog::SledCatalog;
pub use options::SledOptions;
