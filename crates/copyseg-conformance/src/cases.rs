//! The cases, by topic. Each asserts the rule of the catalog contract that it is named after.

pub mod acquire;
pub mod commit;
pub mod outcome;
pub mod limits;
pub mod records;
pub mod load;
pub mod close;
