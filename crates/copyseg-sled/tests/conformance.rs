//! The contract of a catalog, kept by a sled folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use copyseg_conformance::Fixture;
use copyseg_core::Catalog;
use copyseg_sled::{SledCatalog, SledOptions};
use tempfile::TempDir;

struct Folder {
    folder: TempDir,
    copies: AtomicU32,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), copies: AtomicU32::new(0) }
    }

    async fn open_folder(&self, name: &str) -> Arc<dyn Catalog> {
        let path = self.folder.path().join(name);
        Arc::new(SledCatalog::open(path, SledOptions::default()).await.unwrap())
    }
}

#[async_trait]
impl Fixture for Folder {
    async fn open(&self) -> Arc<dyn Catalog> {
        self.open_folder("catalog.sled").await
    }

    async fn open_after_kill(&self) -> Arc<dyn Catalog> {
        let name = format!("killed-{}.sled", self.copies.fetch_add(1, Ordering::Relaxed));
        let (from, to) = (self.folder.path().join("catalog.sled"), self.folder.path().join(&name));
        fs::create_dir_all(to.join("blobs")).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        self.open_folder(&name).await
    }
}

copyseg_conformance::suite!(Folder::new());
