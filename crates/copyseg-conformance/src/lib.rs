//! The test suite that every storage catalog of copyseg passes, and wrappers that make a catalog fail on
//! purpose.
//!
//! # Testing a catalog
//!
//! Say how to open your storage, and run every case with one line in a file below `tests/`:
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use copyseg_conformance::Fixture;
//! use copyseg_core::{Catalog, MemoryCatalog};
//!
//! #[derive(Default)]
//! struct Memory(MemoryCatalog);
//!
//! #[async_trait]
//! impl Fixture for Memory {
//!     async fn open(&self) -> Arc<dyn Catalog> {
//!         Arc::new(self.0.clone())
//!     }
//!
//!     async fn open_after_kill(&self) -> Arc<dyn Catalog> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! copyseg_conformance::suite!(Memory::default());
//! # assert!(copyseg_conformance::CASES.contains(&("commit", "an_empty_batch_moves_the_head")));
//! ```
//!
//! Each case becomes a test of its own, on a current-thread and on a multi-thread runtime, named
//! `commit::an_empty_batch_moves_the_head::case_1_current_thread`. A case is named after the rule of
//! [`Catalog`](copyseg_core::Catalog) that it holds a catalog to.
//!
//! A catalog in files of its own is also to be tested with [`local_suite!`]: with other processes, a full disk and the
//! like; and with [`disk_suite!`], if its disk can be made to fail.
//!
//! # Testing what is built on a catalog
//!
//! The wrappers go around any catalog, and into one another: [`FaultyCatalog`] fails calls by number,
//! [`SlowCatalog`] holds commits up, and [`CrashCatalog`] cuts a process off from its storage.

mod fixture;
mod writer;
#[doc(hidden)]
pub mod cases;
mod faulty;
mod slow;
mod crash;
#[cfg(unix)]
#[doc(hidden)]
pub mod local;
#[doc(hidden)]
pub mod disk;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod system_calls;

pub use crash::CrashCatalog;
pub use disk::FailingDisk;
pub use faulty::{Call, Fault, FaultyCatalog};
pub use fixture::{Fixture, Runtime, run};
#[cfg(unix)]
pub use local::LocalCatalog;
#[doc(hidden)]
pub use rstest;
pub use slow::SlowCatalog;

/// Every case as `(topic, name)`; the list from which [`suite!`] makes its tests.
pub const CASES: &[(&str, &str)] = cases!(names);

/// Turns every case into tests of a catalog. Takes an expression that makes a fresh [`Fixture`]; it is evaluated
/// once for each test.
///
/// Put it into a file or module of its own, since it adds one module for each topic.
#[macro_export]
macro_rules! suite {
    ($fixture:expr) => {
        $crate::cases!(tests $fixture);
    };
}

/// The one list of cases: passes it to `expand!`, for the use that is named first.
#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($($for_what:tt)*) => {
        $crate::expand! { [$($for_what)*]
            acquire {
                a_new_store_is_empty_under_the_default_head,
                an_acquire_writes_the_next_epoch_and_a_fresh_writer,
                a_second_acquire_fences_the_first,
                concurrent_acquires_leave_one_owner,
                a_lost_acquire_can_be_overtaken,
                a_lost_acquire_fences_the_owner,
                an_acquire_lets_other_tasks_run,
            }
            commit {
                a_commit_writes_its_batch_and_the_head,
                an_empty_batch_moves_the_head,
                deleting_an_absent_record_is_fine,
                a_commit_on_another_head_writes_nothing,
                concurrent_commits_on_one_head_have_one_winner,
                commits_under_way_together_are_applied_in_order,
                the_next_head_is_stored_as_given,
                any_sequence_of_batches_leaves_what_it_wrote,
                a_commit_lets_other_tasks_run,
                a_spawned_committer_commits,
                a_spawned_committer_may_panic,
            }
            outcome {
                a_repeated_commit_is_refused,
                a_resend_after_a_lost_request_is_applied,
                a_resend_after_a_lost_reply_is_refused,
                a_late_original_is_refused_after_an_empty_batch,
                a_dropped_commit_is_all_or_nothing,
            }
            limits {
                limits_fit_any_single_record,
                a_batch_at_the_operations_limit_is_taken,
                a_batch_beyond_the_operations_limit_is_too_large,
                a_batch_at_the_bytes_limit_is_taken,
                a_batch_beyond_the_bytes_limit_is_too_large,
            }
            records {
                any_id_of_any_kind_round_trips,
                kinds_do_not_share_ids,
                values_up_to_64_kib_round_trip,
                bytes_are_never_interpreted,
            }
            load {
                store_records_come_first,
                a_load_returns_what_its_head_counts,
                a_load_while_writing_is_one_point_in_time,
                loads_beside_a_writer_see_whole_commits,
                a_large_store_loads_in_bounded_pages,
                an_abandoned_load_hinders_nothing,
                a_load_across_a_close_is_complete_or_fails,
                a_load_lets_other_tasks_run,
            }
            close {
                every_call_after_a_close_is_refused,
                closing_twice_is_fine,
                a_closed_store_opens_again_at_once,
                a_close_waits_for_commits_under_way,
                a_spawned_committer_goes_on_after_a_close,
            }
        }
    };
}

/// Makes the list of cases into what it is needed for: their names, or tests.
#[doc(hidden)]
#[macro_export]
macro_rules! expand {
    ([names] $($topic:ident { $($case:ident,)* })*) => {
        &[$($((stringify!($topic), stringify!($case)),)*)*]
    };
    ([tests $fixture:expr] $($topic:ident { $($case:ident,)* })*) => {$(
        mod $topic {
            #[allow(unused_imports, reason = "the expression that makes the fixture may name things outside")]
            use super::*;
            use $crate::rstest;
            $(
                #[rstest::rstest]
                #[case::current_thread($crate::Runtime::CurrentThread)]
                #[case::multi_thread($crate::Runtime::MultiThread)]
                fn $case(#[case] runtime: $crate::Runtime) {
                    $crate::run(runtime, $fixture, $crate::cases::$topic::$case);
                }
            )*
        }
    )*};
}
