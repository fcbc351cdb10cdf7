//! etcd members for trials, and stores on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_test_etcd::{Member, Server};

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
    /// When it cannot be started, or does not answer for a minute.
    pub async fn start() -> Self {
        Self::cluster(1, &[]).await.remove(0)
    }

    /// Starts so many members of the server under test, with more arguments for each, and waits until they answer.
    ///
    /// # Panics
    /// When one cannot be started, or does not answer for a minute.
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
    /// When it does not for a minute.
    pub async fn answers(&self) {
        for _ in 0..600 {
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
}
