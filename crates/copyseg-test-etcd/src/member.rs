//! One etcd process, or several as a cluster.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Server, free_address};

/// How long members may take to serve, on a machine that is busy compiling.
const START_MAX: Duration = Duration::from_secs(300);

/// How long one that stands still is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// An etcd process with its data. Dropped, both are gone.
#[derive(Debug)]
pub struct Member {
    /// Its client address, `host:port`.
    pub endpoint: String,
    server: Server,
    arguments: Vec<String>,
    process: Child,
    folder: TempDir,
}

impl Member {
    /// Starts the members of a new cluster, with more arguments for each. They need a moment before they
    /// [serve](Self::serves).
    ///
    /// # Panics
    /// If they cannot be started.
    pub fn cluster(server: &Server, count: usize, arguments: &[&str]) -> Vec<Self> {
        let addresses: Vec<_> = (0..2 * count).map(|_| free_address().to_string()).collect();
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
                "--log-level=warn".into(),
            ];
            let arguments = own.into_iter().chain(arguments.iter().map(ToString::to_string)).collect();
            let process = spawn(server, &arguments, &folder);
            Self { endpoint: client.clone(), server: server.clone(), process, arguments, folder }
        };
        clients.iter().zip(peers).enumerate().map(member).collect()
    }

    /// Waits until it serves, for which a majority of its cluster must be there.
    ///
    /// # Panics
    /// If it has ended, or does not serve for a long time.
    pub fn serves(&mut self) {
        let deadline = Instant::now() + START_MAX;
        while !self.is_healthy() {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("{} at {} does not serve ({ended:?}):\n{log}", self.server, self.endpoint);
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Whether it serves and leads its cluster.
    pub fn leads(&self) -> bool {
        let Ok(status) = self.ask("POST /v3/maintenance/status", "{}") else { return false };
        let leader = &status["leader"];
        leader.is_string() && *leader == status["header"]["member_id"]
    }

    /// How many keys its cluster holds.
    ///
    /// # Panics
    /// If it does not say.
    pub fn keys(&self) -> u64 {
        // From the least key to no end, in base64.
        const ALL: &str = r#"{"key":"AA==","range_end":"AA==","count_only":true}"#;
        let counted = self.ask("POST /v3/kv/range", ALL).unwrap();
        // It is a string in etcd, and left out if it is zero.
        counted["count"].as_str().map_or(0, |count| count.parse().unwrap())
    }

    /// Stops it where it is, and waits until it stands still.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // One that ended is left to be waited for.
        let events = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.process)), events).unwrap();
    }

    /// Has it go on after it was [frozen](Self::freeze).
    ///
    /// # Panics
    /// If it cannot.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it, its data left: as a crash does, unless its version [does not bear that](Server::survives_kills).
    ///
    /// # Panics
    /// If it cannot be ended.
    pub fn kill(&mut self) {
        self.signal(if self.server.survives_kills() { Signal::KILL } else { Signal::TERM });
        self.process.wait().unwrap();
    }

    /// Starts it again after it was [killed](Self::kill), on the data that it left.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart(&mut self) {
        self.process = spawn(&self.server, &self.arguments, &self.folder);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn is_healthy(&self) -> bool {
        // It is a string in etcd.
        self.ask("GET /health", "").is_ok_and(|health| health["health"] == "true")
    }

    /// What it answers over HTTP, as JSON.
    fn ask(&self, request: &str, content: &str) -> io::Result<Value> {
        let mut stream = TcpStream::connect(&self.endpoint)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let length = content.len();
        write!(stream, "{request} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{content}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, content) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(serde_json::from_str(content)?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended, or be frozen: neither hinders a kill. Nobody reads its data again.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(server: &Server, arguments: &Vec<String>, folder: &TempDir) -> Child {
    let log = File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    let mut command = Command::new(server.program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}
