//! An etcd member for trials, with its data in a folder of its own.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use tempfile::TempDir;

/// A cluster of one. Dropped, it is gone with its data.
#[derive(Debug)]
pub struct EtcdMember {
    endpoint: String,
    stores: AtomicU64,
    process: Child,
    _folder: TempDir,
}

impl EtcdMember {
    /// Starts `etcd`, which has to be on `PATH`, and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started, or does not answer for a minute.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [client, peer] = ports.map(|port| port.local_addr().unwrap().to_string());
        let process = Command::new("etcd")
            .args(["--name=m0", "--logger=zap", "--log-level=error"])
            .arg(format!("--data-dir={}", folder.path().join("data").display()))
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster=m0=http://{peer}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`etcd` is on PATH; `cargo xtask torture` sees to that");
        let member = Self { endpoint: client, stores: AtomicU64::new(0), process, _folder: folder };
        for _ in 0..600 {
            if EtcdCatalog::open(member.store_of_its_own()).await.is_ok() {
                return member;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd at {} does not answer", member.endpoint);
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
