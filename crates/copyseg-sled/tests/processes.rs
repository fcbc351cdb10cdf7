//! Several processes and one folder: who holds it, what a killed one leaves, and what another user may do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use copyseg_core::{Batch, Catalog, ErrorKind, Head, Operation, RecordKey, RecordKind, Revision};
use copyseg_sled::{SledCatalog, SledOptions};
use futures::TryStreamExt;
use rstest::rstest;

/// Where a child finds the path of its catalog.
const PATH: &str = "COPYSEG_TEST_CATALOG";

/// Runs the test `name` of this binary, which is ignored otherwise, as another process.
fn command(program: &Path, name: &str, path: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([name, "--exact", "--ignored", "--nocapture"]).env(PATH, path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

fn start(name: &str, path: &Path) -> Child {
    command(&std::env::current_exe().unwrap(), name, path).spawn().unwrap()
}

/// The lines that a child said, as they come.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.filter_map(|line| line.strip_prefix("child: ").map(str::to_owned))
}

fn say(what: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    // After the dots and names that the test harness prints without a line end.
    writeln!(out, "\nchild: {what}").and_then(|()| out.flush()).unwrap();
}

async fn open_named_by_parent() -> SledCatalog {
    let path = std::env::var_os(PATH).unwrap();
    SledCatalog::open(path, SledOptions::default()).await.unwrap()
}

#[tokio::test]
#[ignore = "a child of the tests below"]
async fn child_holds() {
    let _catalog = open_named_by_parent().await;
    say("open");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[tokio::test]
#[ignore = "a child of the tests below"]
async fn child_commits_for_ever() {
    let catalog = open_named_by_parent().await;
    let mut head = catalog.acquire().await.unwrap();
    loop {
        let revision = head.revision.0 + 1;
        let next = Head { batch: revision, revision: Revision(revision), ..head };
        catalog.commit(&head, &next, &batch(revision)).await.unwrap();
        say(revision);
        head = next;
    }
}

#[tokio::test]
#[ignore = "a child of the tests below"]
async fn child_tries() {
    let path = std::env::var_os(PATH).unwrap();
    match SledCatalog::open(&path, SledOptions::default()).await {
        Ok(_) => say("wrote"),
        Err(error) => say(format!("{:?} {error}", error.kind())),
    }
    match SledCatalog::open_read_only(&path, SledOptions::default()).await {
        Ok(catalog) => say(format!("read epoch {}", catalog.head().await.unwrap().epoch)),
        Err(error) => say(format!("{:?} {error}", error.kind())),
    }
}

/// Three tasks of its own, one of them removed by the next batch.
fn batch(revision: u64) -> Batch {
    let key = |id: u64| RecordKey { kind: RecordKind::Task, id: id as i64 };
    let put = |id| Operation::Put(key(id), revision.to_be_bytes().as_slice().into());
    [
        put(3 * revision),
        put(3 * revision + 1),
        put(3 * revision + 2),
        Operation::Delete(key(3 * revision - 3)),
    ]
    .into_iter()
    .collect()
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let mut least = 0;
    for round in 1..=6 {
        let mut child = start("child_commits_for_ever", &path);
        let mut lines = said(&mut child);
        let acknowledged = lines.nth(17 * round).expect("the child commits");
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = lines.last().unwrap_or(acknowledged).parse::<u64>().unwrap();
        assert!(acknowledged > least);

        let catalog = SledCatalog::open(&path, SledOptions::default()).await.unwrap();
        let loaded = catalog.load().await.unwrap();
        let revision = loaded.head.revision.0;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&revision),
            "{revision}, not {acknowledged} or one more"
        );
        let pages: Vec<_> = loaded.pages.try_collect().await.unwrap();
        let found: Vec<_> =
            pages.into_iter().flatten().map(|record| (record.key.id as u64, record.bytes)).collect();
        let kept = |id: &u64| !id.is_multiple_of(3) || id / 3 == revision;
        let expected = (3..3 * revision + 3).filter(kept).map(|id| (id, (id / 3).to_be_bytes().to_vec()));
        assert!(found == expected.collect::<Vec<_>>(), "the records of revision {revision}");
        assert_eq!(loaded.head.epoch, round as u64);
        catalog.close().await.unwrap();
        least = revision;
    }
}

#[tokio::test]
async fn a_folder_held_by_another_process_names_it_until_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let note = folder.path().join("catalog.sled/db.holder");
    let mut child = start("child_holds", &path);
    said(&mut child).next().expect("the child opens it");
    let refused = async || {
        let error = SledCatalog::open(&path, SledOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Held);
        assert!(error.to_string().contains("or stop it"), "{error}");
        error.to_string()
    };

    let message = refused().await;
    let held: serde_json::Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    assert_eq!(held["pid"], child.id());
    assert!(held["command"].as_str().unwrap().ends_with(" child_holds"), "{held}");
    held["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for field in ["since", "host", "command"] {
        assert!(message.contains(held[field].as_str().unwrap()), "{message} lacks {field}");
    }
    assert!(message.contains(&format!("process {} ", child.id())), "{message}");
    let reader = SledCatalog::open_read_only(&path, SledOptions::default()).await.unwrap_err();
    assert_eq!((reader.kind(), reader.to_string()), (ErrorKind::Held, message));

    let readable = fs::read(&note).unwrap();
    fs::write(&note, "not a note").unwrap();
    assert!(refused().await.contains("another process"));
    fs::remove_file(&note).unwrap();
    assert!(refused().await.contains("another process"));
    fs::write(&note, readable).unwrap();

    child.kill().unwrap();
    child.wait().unwrap();
    let catalog = SledCatalog::open(&path, SledOptions::default()).await.unwrap();
    assert!(
        refused().await.contains(&format!("process {} ", std::process::id())),
        "the stale note is replaced"
    );
    catalog.close().await.unwrap();
    assert!(!note.exists());
}

/// Root may use everything, so it becomes somebody else.
#[rstest]
#[case::an_unreadable_folder(0o000, 0o600, ["Unavailable ", "Unavailable "])]
#[case::unreadable_files(0o755, 0o000, ["Unavailable ", "Unavailable "])]
#[case::a_folder_and_files_only_to_be_read(0o555, 0o444, ["Unavailable ", "read epoch 1"])]
#[tokio::test]
async fn without_permission_a_folder_is_unavailable_and_reading_needs_no_more_than_reading(
    #[case] folder_mode: u32,
    #[case] file_mode: u32,
    #[case] results: [&str; 2],
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let catalog = SledCatalog::open(&path, SledOptions::default()).await.unwrap();
    catalog.acquire().await.unwrap();
    catalog.close().await.unwrap();
    allow(folder.path(), 0o755);
    for file in ["conf", "db", "copyseg.head"] {
        allow(&path.join(file), file_mode);
    }
    allow(&path, folder_mode);
    assert_tries(folder.path(), &path, &results);
    allow(&path, 0o755);
}

#[test]
fn without_permission_to_create_a_folder_it_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("below");
    fs::create_dir(&below).unwrap();
    allow(folder.path(), 0o755);
    allow(&below, 0o555);
    assert_tries(folder.path(), &below.join("catalog.sled"), &["Unavailable ", "NotFound "]);
    assert_eq!(fs::read_dir(&below).unwrap().count(), 0);
    allow(&below, 0o755);
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Asserts what a child of a user without privileges gets from opening `path`, to write and to read.
fn assert_tries(folder: &Path, path: &Path, results: &[&str]) {
    const NOBODY: u32 = 65534;
    let program = folder.join("program");
    // By another process: a file that any process still has open to be written cannot be run.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut command = command(&program, "child_tries", path);
    if fs::metadata(folder).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().unwrap();
    let lines: Vec<_> = said(&mut child).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.len(), results.len(), "{lines:?}");
    for (line, result) in lines.iter().zip(results) {
        assert!(line.starts_with(result), "{line}, not {result}");
    }
}
