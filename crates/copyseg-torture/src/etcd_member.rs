//! etcd members for trials, stores on them, and the values that these consist of.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_test_etcd::{Member, Server};
use etcd_client::{Client, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};

/// What lies under the keys of a store, by what follows the store's prefix in them.
pub type EtcdValues = Vec<(String, Vec<u8>)>;

/// A member of a cluster. Dropped, it is gone with its data.
#[derive(Debug)]
pub struct EtcdMember {
    member: Member,
    stores: AtomicU64,
}

impl EtcdMember {
    /// Starts a cluster of one, as [`cluster`](Self::cluster) does.
    ///
    /// # Panics
    /// When it cannot be started, or does not answer for five minutes.
    pub async fn start() -> Self {
        Self::cluster(1, &[]).await.remove(0)
    }

    /// Starts so many members of the server under test, with more arguments for each, and waits until they answer.
    ///
    /// # Panics
    /// When one cannot be started, or does not answer for five minutes.
    pub async fn cluster(count: usize, arguments: &[&str]) -> Vec<Self> {
        let members = Member::cluster(&Server::of_test(), count, arguments).into_iter();
        let members: Vec<_> = members.map(|member| Self { member, stores: AtomicU64::new(0) }).collect();
        for member in &members {
            member.answers().await;
        }
        members
    }

    /// Its client address, `host:port`.
    pub fn endpoint(&self) -> &str {
        &self.member.endpoint
    }

    /// Ends it at once, as SIGKILL does.
    pub fn kill(&mut self) {
        self.member.kill();
    }

    /// Starts it again after a kill, on the data that it left.
    pub fn restart(&mut self) {
        self.member.restart();
    }

    /// Waits until it serves, which takes a majority of the members.
    ///
    /// # Panics
    /// When it does not for five minutes.
    pub async fn answers(&self) {
        for _ in 0..3_000 {
            if EtcdCatalog::open(self.store_of_its_own()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd at {} does not answer", self.endpoint());
    }

    /// Options for a store on this member that nobody else uses.
    pub fn store_of_its_own(&self) -> EtcdOptions {
        let number = self.stores.fetch_add(1, Ordering::Relaxed);
        EtcdOptions::new([self.endpoint()]).prefix(format!("trial-{number}")).timeout(Duration::from_secs(60))
    }

    /// All that lies under the keys of a store, the key of its leader included.
    ///
    /// # Panics
    /// If it cannot be read.
    pub async fn values(&self, store: &EtcdOptions) -> EtcdValues {
        let prefix = prefix(store);
        let mut client = self.client().await;
        let found = client.get(prefix.as_str(), Some(GetOptions::new().with_prefix())).await.unwrap();
        let values = found
            .kvs()
            .iter()
            .map(|value| (value.key_str().unwrap()[prefix.len()..].to_owned(), value.value().to_vec()));
        values.collect()
    }

    /// Writes these values behind everybody's back, all at once.
    ///
    /// # Panics
    /// If they cannot be written.
    pub async fn put(&self, store: &EtcdOptions, values: EtcdValues) {
        let prefix = prefix(store);
        let puts = values.into_iter().map(|(name, value)| TxnOp::put(format!("{prefix}{name}"), value, None));
        self.client().await.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.unwrap();
    }

    /// Writes one value behind everybody's back, under the lease that the key has.
    ///
    /// # Panics
    /// If the key is not there.
    pub async fn put_leased(&self, store: &EtcdOptions, name: &str, value: Vec<u8>) {
        let key = format!("{}{name}", prefix(store));
        let options = PutOptions::new().with_ignore_lease();
        self.client().await.put(key, value, Some(options)).await.unwrap();
    }

    /// Removes all that lies under the keys of a store whose names begin so.
    ///
    /// # Panics
    /// If it cannot be removed.
    pub async fn remove(&self, store: &EtcdOptions, names: &str) {
        let key = format!("{}{names}", prefix(store));
        self.client().await.delete(key, Some(DeleteOptions::new().with_prefix())).await.unwrap();
    }

    async fn client(&self) -> Client {
        Client::connect([self.endpoint()], None).await.unwrap()
    }
}

fn prefix(store: &EtcdOptions) -> String {
    format!("/{}/v1/", store.prefix)
}
