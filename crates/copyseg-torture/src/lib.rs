//! What tries to break the promises of copyseg: each file in `tests` is a subject, each test in it a [`Trial`].
//!
//! `cargo test --package copyseg-torture` runs the short form of every trial. `cargo xtask torture --minutes 60`
//! gives each an equal share of an hour.

mod trial;
mod storage;
#[cfg(feature = "etcd-tests")]
mod etcd_member;
mod visible;
mod instance;
pub mod history;
pub mod power_loss;
mod model;

pub mod damage;
pub mod fuzz;
pub mod golden;

#[cfg(feature = "etcd-tests")]
pub use etcd_member::{EtcdMember, EtcdValues};
pub use instance::{Instance, or_dead, run};
pub use model::{Program, follow, program, program_of_jumps};
pub use storage::{Backend, Storage, TINY};
pub use trial::{Round, Trial};
pub use visible::{Visible, records, tamper};
