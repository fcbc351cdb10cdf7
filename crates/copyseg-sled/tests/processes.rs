//! A sled folder among other processes and users, on a disk that is full, and with no open files left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use copyseg_conformance::LocalCatalog;
use copyseg_core::{Catalog, Result};
use copyseg_sled::{SledCatalog, SledOptions};

struct Sled;

#[async_trait]
impl LocalCatalog for Sled {
    const NAME: &'static str = "catalog.sled";

    async fn open(path: &Path) -> Result<Arc<dyn Catalog>> {
        Ok(Arc::new(SledCatalog::open(path, SledOptions::default()).await?))
    }

    async fn open_read_only(path: &Path) -> Result<Arc<dyn Catalog>> {
        Ok(Arc::new(SledCatalog::open_read_only(path, SledOptions::default()).await?))
    }

    fn holder_file(path: &Path) -> PathBuf {
        path.join("db.holder")
    }
}

copyseg_conformance::local_suite!(Sled);
