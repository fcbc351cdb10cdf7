//! The contract of a catalog, kept by a redb file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use copyseg_conformance::Fixture;
use copyseg_core::Catalog;
use copyseg_redb::{RedbCatalog, RedbOptions};
use tempfile::TempDir;

struct Folder {
    folder: TempDir,
    copies: AtomicU32,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), copies: AtomicU32::new(0) }
    }

    async fn open_file(&self, name: &str) -> Arc<dyn Catalog> {
        let path = self.folder.path().join(name);
        Arc::new(RedbCatalog::open(path, RedbOptions::default()).await.unwrap())
    }
}

#[async_trait]
impl Fixture for Folder {
    async fn open(&self) -> Arc<dyn Catalog> {
        self.open_file("catalog.redb").await
    }

    async fn open_after_kill(&self) -> Arc<dyn Catalog> {
        let copy = format!("killed-{}.redb", self.copies.fetch_add(1, Ordering::Relaxed));
        fs::copy(self.folder.path().join("catalog.redb"), self.folder.path().join(&copy)).unwrap();
        self.open_file(&copy).await
    }
}

copyseg_conformance::suite!(Folder::new());
