//! Throw-away etcd members, started for a check and ended with it; and what it takes to build a client of them.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::cargo::cargo_with;
use crate::workspace::root;

/// How long members may take to answer, on a machine that is busy compiling.
const START_MAX: Duration = Duration::from_secs(60);

/// `cargo xtask etcd`: what can go wrong with a cluster, done to members that the tests start themselves; and what can go
/// wrong with the processes that use one.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    let path = with_etcd_on_path()?;
    let arguments = ["test", "--package", "copyseg-etcd", "--features", "etcd-tests", "--test", "faults"];
    cargo_with(&arguments, &[("PATH", &path)])?;
    let members = Members::start(1)?;
    let arguments = ["test", "--package", "copyseg-tests", "--features", "etcd-tests", "--test", "takeover"];
    cargo_with(&arguments, &[("COPYSEG_TEST_ETCD", &members.endpoints)])
}

/// The PATH on which tests that start members themselves find the server.
pub(crate) fn with_etcd_on_path() -> Result<String, String> {
    let etcd = PathBuf::from(provide_etcd()?);
    eprintln!("{}", version(&etcd.display().to_string()));
    let folder = etcd.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let path = format!("{folder}:{}", env::var("PATH").unwrap_or_default());
    Ok(path.trim_start_matches(':').to_owned())
}

/// Running members of one cluster. Dropped, they are ended, and their folder is removed.
pub(crate) struct Members {
    processes: Vec<Child>,
    folder: PathBuf,
    /// Their client addresses, `host:port,…`.
    pub(crate) endpoints: String,
}

impl Members {
    /// Starts so many members on free ports of this machine, and waits until each answers.
    pub(crate) fn start(count: usize) -> Result<Self, String> {
        let etcd = provide_etcd()?;
        // Held until all are chosen, so that no port is chosen twice.
        let free: Vec<TcpListener> = (0..2 * count)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("no free port: {error}"))?;
        let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
        let addresses: Vec<String> =
            free.iter().map(address).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        drop(free);
        let (clients, peers) = addresses.split_at(count);

        let folder = env::temp_dir().join(format!(
            "copyseg-etcd-{}-{}",
            std::process::id(),
            peers[0].replace(':', "-")
        ));
        let mut members = Self { processes: Vec::new(), folder, endpoints: clients.join(",") };
        let cluster: Vec<String> =
            peers.iter().enumerate().map(|(index, peer)| format!("member{index}=http://{peer}")).collect();
        for (index, (client, peer)) in clients.iter().zip(peers).enumerate() {
            members.spawn(&etcd, &format!("member{index}"), client, peer, &cluster.join(","))?;
        }
        let deadline = Instant::now() + START_MAX;
        for client in clients {
            members.wait_for(client, deadline)?;
        }
        eprintln!("{} on {}", version(&etcd), members.endpoints);
        Ok(members)
    }

    fn spawn(&mut self, etcd: &str, name: &str, client: &str, peer: &str, cluster: &str) -> Outcome {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let log = File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let child = Command::new(etcd)
            .args(["--name", name, "--logger", "zap", "--log-level", "warn"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", cluster])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("`{etcd}` did not start: {error}"))?;
        self.processes.push(child);
        Ok(())
    }

    fn wait_for(&mut self, client: &str, deadline: Instant) -> Outcome {
        loop {
            for (index, process) in self.processes.iter_mut().enumerate() {
                if let Ok(Some(status)) = process.try_wait() {
                    let log = fs::read_to_string(self.folder.join(format!("member{index}/log")))
                        .unwrap_or_default();
                    return Err(format!("etcd member {index} ended with {status}:\n{log}"));
                }
            }
            if TcpStream::connect(client).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("etcd at {client} did not answer within {} s", START_MAX.as_secs()));
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that ended by itself is what was wanted.
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// What the build of etcd's client needs: the compiler of protocol buffers.
pub(crate) fn provide_protoc() -> Outcome {
    if env::var_os("PROTOC").is_some() || runs("protoc") {
        return Ok(());
    }
    apt_get(&["update"])
        .and_then(|()| apt_get(&["install", "--yes", "--no-install-recommends", "protobuf-compiler"]))
        .map_err(|error| format!("`protoc` is missing: put it on PATH, or name it in PROTOC ({error})"))
}

fn apt_get(arguments: &[&str]) -> Outcome {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let (program, first): (&str, &[&str]) = if is_root { ("apt-get", &[]) } else { ("sudo", &["apt-get"]) };
    succeed(Command::new(program).args(first).args(arguments))
}

/// The server, from PATH or out of the Debian package. That is unpacked and not installed: installing it would start
/// a service.
fn provide_etcd() -> Result<String, String> {
    let unpacked = root().join("target/etcd");
    let program = unpacked.join("usr/bin/etcd").display().to_string();
    if let Some(found) = ["etcd", &program].into_iter().find(|program| runs(program)) {
        return Ok(found.to_owned());
    }
    fs::create_dir_all(&unpacked).map_err(|error| format!("{}: {error}", unpacked.display()))?;
    apt_get(&["update"])
        .and_then(|()| {
            succeed(Command::new("apt-get").args(["download", "etcd-server"]).current_dir(&unpacked))
        })
        .and_then(|()| {
            succeed(Command::new("sh").args(["-c", "dpkg-deb -x etcd-server*.deb ."]).current_dir(&unpacked))
        })
        .map_err(|error| format!("`etcd` is missing: put version 3.4 or newer on PATH ({error})"))?;
    Ok(program)
}

fn succeed(command: &mut Command) -> Outcome {
    eprintln!("$ {command:?}");
    match command.stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?} did not start: {error}")),
    }
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn version(etcd: &str) -> String {
    let output = Command::new(etcd).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("etcd").to_owned()
}
