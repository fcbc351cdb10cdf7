//! Members of etcd, and how to reach them.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use copyseg_test_etcd::{Member as Process, Server};
use etcd_client::Client;

/// An etcd process with its data. Dropped, both are gone.
pub(crate) struct Member(Process);

impl Member {
    /// Starts a cluster of one, with more arguments, and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut member = Self::cluster(1, arguments).remove(0);
        member.serves();
        member
    }

    /// Starts a cluster, with more arguments for each member.
    pub(crate) fn cluster(count: usize, arguments: &[&str]) -> Vec<Self> {
        Process::cluster(&Server::of_test(), count, arguments).into_iter().map(Self).collect()
    }

    /// Options for a catalog on this member, with time for a busy machine.
    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions::new([&self.endpoint]).timeout(Duration::from_secs(30))
    }

    /// A catalog on this member.
    pub(crate) async fn catalog(&self) -> EtcdCatalog {
        EtcdCatalog::open(self.options()).await.unwrap()
    }

    /// An operator's client.
    pub(crate) async fn client(&self) -> Client {
        Client::connect([&self.endpoint], None).await.unwrap()
    }
}

impl Deref for Member {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}
