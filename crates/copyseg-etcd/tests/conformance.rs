//! The contract of a catalog, kept by running etcd members. `cargo xtask conformance --backend etcd` starts them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use copyseg_conformance::Fixture;
use copyseg_core::Catalog;
use copyseg_etcd::{EtcdCatalog, EtcdOptions};

/// A store of its own in the members that all cases share.
struct Prefix(EtcdOptions);

impl Prefix {
    fn new() -> Self {
        static STORES: AtomicU32 = AtomicU32::new(0);
        let members = env::var("COPYSEG_TEST_ETCD").expect(
            "COPYSEG_TEST_ETCD names running members as `host:port,…`; `cargo xtask conformance` sets it",
        );
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let prefix = format!("conformance/{now}-{}", STORES.fetch_add(1, Ordering::Relaxed));
        let options = EtcdOptions::new(members.split(',')).prefix(prefix);
        // Cases are about what is right, not about how fast a busy machine is.
        Self(options.timeout(Duration::from_secs(60)))
    }
}

#[async_trait]
impl Fixture for Prefix {
    async fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(EtcdCatalog::open(self.0.clone()).await.unwrap())
    }

    async fn open_after_kill(&self) -> Arc<dyn Catalog> {
        self.open().await
    }
}

copyseg_conformance::suite!(Prefix::new());
