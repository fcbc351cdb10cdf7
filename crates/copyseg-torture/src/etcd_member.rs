//! etcd members for trials, each with its data in a folder of its own.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use tempfile::TempDir;

/// A member of a cluster. Dropped, it is gone with its data.
#[derive(Debug)]
pub struct EtcdMember {
    endpoint: String,
    stores: AtomicU64,
    arguments: Vec<String>,
    process: Child,
    _folder: TempDir,
}

impl EtcdMember {
    /// Starts a cluster of one, as [`cluster`](Self::cluster) does.
    ///
    /// # Panics
    /// When it cannot be started, or does not answer for a minute.
    pub async fn start() -> Self {
        Self::cluster(1, &[]).await.remove(0)
    }

    /// Starts so many members by `etcd`, which has to be on `PATH`, with more arguments for each, and waits until they
    /// answer.
    ///
    /// # Panics
    /// When one cannot be started, or does not answer for a minute.
    pub async fn cluster(count: usize, arguments: &[&str]) -> Vec<Self> {
        let ports: Vec<_> =
            (0..2 * count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let addresses: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let (clients, peers) = addresses.split_at(count);
        let cluster: Vec<_> =
            peers.iter().enumerate().map(|(index, peer)| format!("m{index}=http://{peer}")).collect();
        let member = |(index, (client, peer)): (usize, (&String, &String))| {
            let folder = tempfile::tempdir().unwrap();
            let own = [
                format!("--name=m{index}"),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--logger=zap".into(),
                "--log-level=error".into(),
            ];
            let arguments: Vec<_> =
                own.into_iter().chain(arguments.iter().map(ToString::to_string)).collect();
            let process = spawn(&arguments);
            Self { endpoint: client.clone(), stores: AtomicU64::new(0), arguments, process, _folder: folder }
        };
        let members: Vec<_> = clients.iter().zip(peers).enumerate().map(member).collect();
        for member in &members {
            member.answers().await;
        }
        members
    }

    /// Its client address, `host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Ends it at once, as SIGKILL does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after a kill, on the data that it left.
    pub fn restart(&mut self) {
        self.process = spawn(&self.arguments);
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
        panic!("etcd at {} does not answer", self.endpoint);
    }

    /// Options for a store on this member that nobody else uses.
    pub fn store_of_its_own(&self) -> EtcdOptions {
        let number = self.stores.fetch_add(1, Ordering::Relaxed);
        EtcdOptions::new([&self.endpoint]).prefix(format!("trial-{number}")).timeout(Duration::from_secs(60))
    }
}

impl Drop for EtcdMember {
    fn drop(&mut self) {
        // It may have ended: that does not hinder a kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("etcd");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("`etcd` is on PATH; `cargo xtask torture` sees to that")
}
