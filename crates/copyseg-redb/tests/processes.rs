//! A redb file among other processes and users, on a disk that is full, and with no open files left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_conformance::LocalCatalog;
use copyseg_core::{Catalog, Result};
use copyseg_redb::{RedbCatalog, RedbOptions};

struct Redb;

#[async_trait]
impl LocalCatalog for Redb {
    const NAME: &'static str = "catalog.redb";

    async fn open(path: &Path) -> Result<Arc<dyn Catalog>> {
        Ok(Arc::new(RedbCatalog::open(path, RedbOptions::default()).await?))
    }

    async fn open_read_only(path: &Path) -> Result<Arc<dyn Catalog>> {
        Ok(Arc::new(RedbCatalog::open_read_only(path, RedbOptions::default()).await?))
    }

    fn holder_file(path: &Path) -> PathBuf {
        path.with_extension("redb.holder")
    }
}

copyseg_conformance::local_suite!(Redb);
