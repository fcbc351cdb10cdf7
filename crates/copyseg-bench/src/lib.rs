//! Benchmarks of copyseg beside the design it replaces and beside what the machine allows, in one run.
//!
//! `cargo xtask bench` prints the table, `cargo xtask bench --growth` draws how cost grows. Figures of two contenders are
//! only ever compared when they took turns in the same run: this way a noisy machine is noisy to both.

pub mod workload;
pub mod prepared;
pub mod reference;
pub mod measure;
pub mod table;
mod child;
pub mod memory;
pub mod rows;
pub mod growth;

/// What a benchmark answers: nothing here is worth telling errors apart.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
