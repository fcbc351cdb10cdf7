//! One etcd process, or several as a cluster, that a test may freeze, kill and start again.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use copyseg_core::ErrorKind;
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use etcd_client::Client;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// An etcd process with its data. Dropped, both are gone.
pub(crate) struct Member {
    /// Its client address.
    pub(crate) endpoint: String,
    arguments: Vec<String>,
    process: Child,
    _folder: TempDir,
}

impl Member {
    /// Starts a cluster of one, with more arguments, and waits until it answers.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let member = Self::cluster(1, arguments).remove(0);
        member.answers().await;
        member
    }

    /// Starts a cluster, with more arguments for each member.
    pub(crate) fn cluster(count: usize, arguments: &[&str]) -> Vec<Self> {
        let ports: Vec<_> = (0..2 * count).map(|_| free_port()).collect();
        let addresses: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let (clients, peers) = addresses.split_at(count);
        let cluster: Vec<_> =
            peers.iter().enumerate().map(|(index, peer)| format!("m{index}=http://{peer}")).collect();
        let scheme =
            if arguments.iter().any(|argument| argument.contains("cert-file")) { "https" } else { "http" };
        let member = |(index, (client, peer)): (usize, (&String, &String))| {
            let folder = tempfile::tempdir().unwrap();
            let own = [
                format!("--name=m{index}"),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls={scheme}://{client}"),
                format!("--advertise-client-urls={scheme}://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--logger=zap".into(),
                "--log-level=error".into(),
            ];
            let arguments = own.into_iter().chain(arguments.iter().map(ToString::to_string)).collect();
            Self { endpoint: client.clone(), process: spawn(&arguments), arguments, _folder: folder }
        };
        clients.iter().zip(peers).enumerate().map(member).collect()
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

    /// Waits until it serves.
    pub(crate) async fn answers(&self) {
        for _ in 0..600 {
            match EtcdCatalog::open(self.options()).await {
                Ok(_) => return,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd at {} does not answer", self.endpoint);
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn wake(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after a kill, on the data that it left.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(&self.arguments);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended, or be frozen: neither hinders a kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port nobody listens on once the listener is dropped.
pub(crate) fn free_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn spawn(arguments: &Vec<String>) -> Child {
    let mut command = Command::new("etcd");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("`etcd` is on PATH; `cargo xtask etcd` sees to that")
}
