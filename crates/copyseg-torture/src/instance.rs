//! One life of a manager, from an open to a crash, on a storage that fails as planned.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use copyseg_conformance::{CrashCatalog, FaultyCatalog};
use copyseg_core::{Catalog, ManagerOptions, MetaManager, RecordKind, Result};

use crate::storage::Storage;
use crate::visible::{Visible, records};

/// What a process holds of its storage.
#[derive(Debug)]
pub struct Instance {
    /// The storage itself, without faults, for looking at it.
    pub storage: Arc<dyn Catalog>,
    /// Fails calls as planned.
    pub faults: Arc<FaultyCatalog>,
    /// Between the faults and the storage: a crash leaves nothing of what is still under way.
    pub crash: Arc<CrashCatalog>,
}

impl Instance {
    /// Opens `storage`.
    pub async fn new(storage: &Storage) -> Self {
        let storage = storage.open().await;
        let crash = Arc::new(CrashCatalog::new(Arc::clone(&storage)));
        let faults = Arc::new(FaultyCatalog::new(Arc::clone(&crash) as Arc<dyn Catalog>));
        Self { storage, faults, crash }
    }

    /// Opens a manager on it.
    ///
    /// # Errors
    /// Those of [`MetaManager::open`].
    pub async fn manager(&self, options: ManagerOptions) -> Result<MetaManager> {
        MetaManager::open(Arc::clone(&self.faults) as Arc<dyn Catalog>, options).await
    }

    /// Asserts that readers see what a restart would load, and returns it.
    pub async fn memory_equals_storage(&self, manager: &MetaManager) -> Visible {
        let (memory, stored) =
            (Visible::of(&manager.snapshot().unwrap()), Visible::stored(&*self.storage).await);
        assert_eq!(memory, stored, "memory (left) equals storage (right)");
        memory
    }

    /// Waits until no task is stored that nothing shows, but for `kept` ones that belong to a job which was set aside;
    /// or until a crash.
    pub async fn swept(&self, kept: usize) {
        for _ in 0..2_000 {
            let shown = Visible::stored(&*self.storage).await;
            let shown =
                shown.tasks.len() + shown.set_aside.iter().filter(|key| key.kind == RecordKind::Task).count();
            let stored = records(&*self.storage).await;
            let tasks = stored.keys().filter(|key| key.kind == RecordKind::Task).count();
            if tasks == shown + kept || self.crash.crashed() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (shown, stored) = (Visible::stored(&*self.storage).await, records(&*self.storage).await);
        panic!(
            "what nothing shows is never swept: {:?} and {:?} are shown of {:?}",
            shown.tasks.keys(),
            shown.set_aside,
            stored.keys()
        );
    }

    /// Ends it as a kill would, so that the storage can be opened again. What was made of it fails from then on.
    pub async fn end(self) {
        self.crash.crash().await.unwrap();
    }
}

/// Does `work`; `None` if the process died under it.
pub async fn or_dead<T>(instance: &Instance, work: impl Future<Output = T>) -> Option<T> {
    let died = async {
        while !instance.crash.crashed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Whoever can still be answered is.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        biased;
        outcome = work => Some(outcome),
        () = died => None,
    }
}

/// Runs `work` on a runtime of its own, with one thread. `paused` lets time run ahead whenever everybody waits for it,
/// which suits a storage in memory; others wait for real.
pub fn run<T>(paused: bool, work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(paused).build().unwrap().block_on(work)
}
