//! What a backend supplies to be tested, and the runner of a case.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copyseg_core::Catalog;

/// One empty storage of the backend under test. It owns what has to be cleaned up, such as a temporary directory.
///
/// Its calls panic when the storage cannot be opened: a backend that is not there has not passed.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens the storage: empty at first, and after a [`close`](Catalog::close) with what was committed. A case
    /// has at most one handle from here open at a time.
    async fn open(&self) -> Arc<dyn Catalog>;

    /// Opens what would be left if the process were killed now, while a handle from [`open`](Self::open) lives and
    /// is not closed: for a catalog in files, a copy of its files; for a server, another client.
    async fn open_after_kill(&self) -> Arc<dyn Catalog>;
}

/// The Tokio runtime that a case runs on.
#[derive(Debug, Clone, Copy)]
pub enum Runtime {
    /// One thread, where a catalog that blocks stops everything else.
    CurrentThread,
    /// Two worker threads.
    MultiThread,
}

/// After this long a case is taken to hang, so that it fails with a name. Nothing honest takes nearly as long, on no machine.
const CASE_TIMEOUT: Duration = Duration::from_secs(1_500);

/// Runs one case. Called by the tests that [`suite!`](crate::suite) makes.
///
/// # Panics
/// If the catalog does not keep the rule that the case is named after.
pub fn run(runtime: Runtime, fixture: impl Fixture, case: impl AsyncFnOnce(&dyn Fixture)) {
    let mut builder = match runtime {
        Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Runtime::MultiThread => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime can be started");
    runtime
        .block_on(async { tokio::time::timeout(CASE_TIMEOUT, case(&fixture)).await })
        .expect("the case ends in time");
}
