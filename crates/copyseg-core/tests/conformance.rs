//! The catalog in memory keeps the whole catalog contract.

use std::sync::Arc;

use async_trait::async_trait;
use copyseg_conformance::Fixture;
use copyseg_core::{Catalog, MemoryCatalog};

/// Each handle is a clone; the store they share stands for the storage.
#[derive(Default)]
struct Memory(MemoryCatalog);

#[async_trait]
impl Fixture for Memory {
    async fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(self.0.clone())
    }

    async fn open_after_kill(&self) -> Arc<dyn Catalog> {
        Arc::new(self.0.clone())
    }
}

copyseg_conformance::suite!(Memory::default());
