//! What a catalog on the local disk that one process has open at a time has to stand, beyond the contract: other
//! processes, other users, a full disk, no more open files, and a file that goes away. [`local_suite!`](crate::local_suite)
//! makes tests of it.

mod place;
mod child;
#[doc(hidden)]
pub mod cases;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_core::{Catalog, Result};

pub use child::child;
pub use place::Place;

/// A catalog in a file or a folder of the local disk.
#[async_trait]
pub trait LocalCatalog: 'static {
    /// What its file or folder is called in the tests.
    const NAME: &'static str;

    /// Opens the catalog at `path`, creating it if it is not there.
    async fn open(path: &Path) -> Result<Arc<dyn Catalog>>;

    /// Opens the catalog at `path` only to be read.
    async fn open_read_only(path: &Path) -> Result<Arc<dyn Catalog>>;

    /// The file that says who holds the catalog at `path`.
    fn holder_file(path: &Path) -> PathBuf;
}

/// Runs one case. Called by the tests that [`local_suite!`](crate::local_suite) makes.
///
/// # Panics
/// If the catalog does not do what the case is named after.
#[doc(hidden)]
pub fn run<L: LocalCatalog>(module: &str, case: impl AsyncFnOnce(&Place)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be started").block_on(case(&Place::new::<L>(module)));
}

/// Turns every case of a catalog on the local disk into a test of it. Takes a type that is a
/// [`LocalCatalog`](crate::LocalCatalog). Some cases start the test's executable again, as another process.
#[macro_export]
macro_rules! local_suite {
    ($catalog:ty) => {
        $crate::local_cases! { $catalog:
            what_was_acknowledged_before_a_kill_is_there_after_it,
            a_catalog_held_by_another_process_names_it_until_it_is_killed,
            of_many_that_create_a_catalog_at_once_one_holds_it,
            an_unreadable_folder_is_unavailable,
            an_unreadable_catalog_is_unavailable,
            a_catalog_only_to_be_read_is_read_and_not_written,
            a_catalog_in_a_folder_only_to_be_read_is_read_and_not_written,
            without_permission_to_create_a_catalog_it_is_unavailable_and_nothing_is_left,
            a_full_disk_takes_no_part_of_a_commit_and_writing_goes_on_once_there_is_space,
            a_full_disk_leaves_no_half_made_catalog,
            a_read_only_file_system_is_read_and_not_written,
            a_file_system_that_becomes_read_only_keeps_nobody_waiting_and_loses_nothing,
            without_open_files_nothing_is_lost_and_all_goes_on_once_there_are_some,
            a_few_open_files_are_enough,
            a_catalog_that_was_removed_takes_no_commit_until_it_is_put_back,
            a_catalog_that_was_replaced_takes_no_commit,
        }

        #[test]
        #[ignore = "another process of the tests above"]
        fn child() {
            $crate::local::child::<$catalog>();
        }
    };
}

/// Makes tests of the list of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! local_cases {
    ($catalog:ty: $($case:ident,)*) => {$(
        #[test]
        fn $case() {
            $crate::local::run::<$catalog>(module_path!(), $crate::local::cases::$case::<$catalog>);
        }
    )*};
}
