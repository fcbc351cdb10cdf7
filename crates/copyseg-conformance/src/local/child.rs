//! What the other processes do. Each says what it finds, line by line.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use copyseg_core::{Catalog, Error, ErrorKind, ManagerOptions, MetaManager};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;

use super::LocalCatalog;
use super::cases::{Revisions, assert_holds};

/// Where a child finds the path of its catalog.
pub(super) const PATH: &str = "COPYSEG_TEST_CATALOG";

/// What each line begins with; the harness of the tests prints others.
pub(super) const SAID: &str = "child: ";

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// What a child does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// Holds the catalog until it is told to end.
    Holds,
    /// Commits for ever, and says each revision.
    Commits,
    /// Tries to open the catalog, to write and to read, and says what comes of it.
    Tries,
    /// Fills the disk, and goes on when it has been made larger.
    FillsDisk,
    /// Creates a catalog on a disk that is too small for it, and again when it has been made larger.
    CreatesOnFullDisk,
    /// Tries, on a disk that has become read-only.
    TriesReadOnlyDisk,
    /// Has a manager of the catalog when its disk becomes read-only.
    LosesWritableDisk,
    /// Goes on with no open files left, and then with some.
    LacksFiles,
    /// Does everything with few open files.
    HasFewFiles,
}

impl Role {
    pub(super) const VARIABLE: &str = "COPYSEG_TEST_ROLE";

    const ALL: [Self; 9] = [
        Self::Holds,
        Self::Commits,
        Self::Tries,
        Self::FillsDisk,
        Self::CreatesOnFullDisk,
        Self::TriesReadOnlyDisk,
        Self::LosesWritableDisk,
        Self::LacksFiles,
        Self::HasFewFiles,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Commits => "commits",
            Self::Tries => "tries",
            Self::FillsDisk => "fills_disk",
            Self::CreatesOnFullDisk => "creates_on_full_disk",
            Self::TriesReadOnlyDisk => "tries_read_only_disk",
            Self::LosesWritableDisk => "loses_writable_disk",
            Self::LacksFiles => "lacks_files",
            Self::HasFewFiles => "has_few_files",
        }
    }

    fn given() -> Self {
        let given = std::env::var(Self::VARIABLE).expect("a case starts it");
        Self::ALL.into_iter().find(|role| role.as_str() == given).expect("it is one of them")
    }
}

/// Does what the case that started this process wants. Called by the test `child` that
/// [`local_suite!`](crate::local_suite) makes.
///
/// # Panics
/// If the catalog does not do what the case is named after.
#[doc(hidden)]
pub fn child<L: LocalCatalog>() {
    let path = PathBuf::from(std::env::var_os(PATH).expect("a case starts it"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be started").block_on(async {
        match Role::given() {
            Role::Holds => holds::<L>(&path).await,
            Role::Commits => commits::<L>(&path).await,
            Role::Tries => tries::<L>(&path).await,
            Role::FillsDisk => fills_disk::<L>(&path).await,
            Role::CreatesOnFullDisk => creates_on_full_disk::<L>(&path).await,
            Role::TriesReadOnlyDisk => tries_read_only_disk::<L>(&path).await,
            Role::LosesWritableDisk => loses_writable_disk::<L>(&path).await,
            Role::LacksFiles => lacks_files::<L>(&path).await,
            Role::HasFewFiles => has_few_files::<L>(&path).await,
        }
    });
}

fn say(what: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    // After the dots and names that the test harness prints without a line end.
    writeln!(out, "\n{SAID}{what}").and_then(|()| out.flush()).expect("somebody listens");
}

async fn holds<L: LocalCatalog>(path: &Path) {
    let _catalog = L::open(path).await.expect("nobody else holds it");
    say("open");
    io::stdin().read_to_end(&mut Vec::new()).expect("stdin can be read");
}

async fn commits<L: LocalCatalog>(path: &Path) {
    let mut revisions = Revisions::open::<L>(path).await;
    loop {
        revisions.commit(8).await.expect("nothing fails");
        say(revisions.head.revision);
    }
}

async fn tries<L: LocalCatalog>(path: &Path) {
    match L::open(path).await {
        Ok(_) => say("wrote"),
        Err(error) => say(format_args!("{:?} {error}", error.kind())),
    }
    match L::open_read_only(path).await {
        Ok(catalog) => say(format_args!("read epoch {}", epoch(&*catalog).await)),
        Err(error) => say(format_args!("{:?} {error}", error.kind())),
    }
}

async fn epoch(catalog: &dyn Catalog) -> u64 {
    catalog.head().await.expect("it can be read").epoch
}

/// As much as one record may have, nearly, so that a disk is soon full.
const LARGE: usize = 60_000;

async fn fills_disk<L: LocalCatalog>(path: &Path) {
    let mut revisions = Revisions::open::<L>(path).await;
    let error = loop {
        if let Err(error) = revisions.commit(LARGE).await {
            break error;
        }
    };
    // An engine that needs space to look at what it has written cannot say yet whether it was written.
    if error.kind() == ErrorKind::OutcomeUnknown {
        assert!(error.chain().contains("No space left"), "{error:?}");
    } else {
        assert_advises(&error, "free some");
        assert_eq!(revisions.catalog.head().await.expect("reading goes on"), revisions.head);
        assert_holds(&*revisions.catalog, revisions.head, LARGE).await;
    }
    for _ in 0..3 {
        assert_advises(&revisions.commit(LARGE).await.expect_err("it is full"), "free some");
    }
    assert_advises(&L::open(&path.with_file_name("another")).await.expect_err("it is full"), "free some");
    remount(path, "size=200m");
    revisions.settle().await;
    for _ in 0..20 {
        revisions.commit(LARGE).await.expect("there is space");
    }
    revisions.reopen::<L>(path).await;
    assert_holds(&*revisions.catalog, revisions.head, LARGE).await;
    say(revisions.head.revision);
}

async fn creates_on_full_disk<L: LocalCatalog>(path: &Path) {
    assert_advises(&L::open(path).await.expect_err("it is full"), "free some");
    let read = L::open_read_only(path).await.expect_err("it was not made");
    assert_eq!(read.kind(), ErrorKind::NotFound, "{read:?}");
    remount(path, "size=200m");
    let mut revisions = Revisions::open::<L>(path).await;
    assert_eq!(revisions.head.epoch, 1);
    revisions.commit(8).await.expect("there is space");
    say("made");
}

async fn tries_read_only_disk<L: LocalCatalog>(path: &Path) {
    let mut revisions = Revisions::open::<L>(path).await;
    revisions.commit(8).await.expect("nothing fails");
    revisions.catalog.close().await.expect("it can be closed");
    remount(path, "ro");
    assert_advises(&L::open(path).await.expect_err("it is read-only"), "read-only");
    let another = L::open(&path.with_file_name("another")).await;
    assert_advises(&another.expect_err("it is read-only"), "read-only");
    let reader = L::open_read_only(path).await.expect("it can be read");
    assert_holds(&*reader, revisions.head, 8).await;
    reader.close().await.expect("it can be closed");
    remount(path, "rw");
    let mut revisions = Revisions::open::<L>(path).await;
    revisions.commit(8).await.expect("it can be written again");
    say("went on");
}

async fn loses_writable_disk<L: LocalCatalog>(path: &Path) {
    let catalog = L::open(path).await.expect("nothing fails");
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.expect("nothing fails");
    let before = manager.allocate_ids(10).await.expect("nothing fails");
    #[cfg(target_os = "linux")]
    crate::system_calls::fail_in_all_threads(&crate::system_calls::WRITES, crate::system_calls::EROFS);
    let change = async || {
        let change = manager.allocate_ids(10);
        let answer = timeout(ANSWER_MAX, change).await.expect("nobody waits for ever");
        answer.expect_err("nothing can be written")
    };
    let first = change().await;
    assert!(matches!(first.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Closed), "{first:?}");
    for error in [first, change().await, change().await] {
        assert!(error.chain().contains("read-only: make it writable, then open"), "{error:?}");
    }
    assert_eq!(change().await.kind(), ErrorKind::Closed);
    say(before.end);
}

async fn lacks_files<L: LocalCatalog>(path: &Path) {
    let mut revisions = Revisions::open::<L>(path).await;
    revisions.commit(300).await.expect("nothing fails");
    let before = limit_open_files(0);
    let mut refusals = 0;
    for _ in 0..50 {
        match revisions.commit(300).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => break,
            Err(error) => {
                assert_advises(&error, "open files");
                refusals += 1;
            }
        }
    }
    for refused in [L::open(&path.with_file_name("another")).await, L::open_read_only(path).await] {
        assert_advises(&refused.expect_err("no file can be opened"), "open files");
    }
    setrlimit(Resource::Nofile, before).expect("a limit can be raised again");
    revisions.settle().await;
    revisions.commit(300).await.expect("files can be opened");
    assert_holds(&*revisions.catalog, revisions.head, 300).await;
    revisions.reopen::<L>(path).await;
    assert_holds(&*revisions.catalog, revisions.head, 300).await;
    say(format_args!("{refusals} refused"));
}

async fn has_few_files<L: LocalCatalog>(path: &Path) {
    const FEW: usize = 24;
    limit_open_files(FEW);
    let mut revisions = Revisions::open::<L>(path).await;
    for _ in 0..200 {
        revisions.commit(5_000).await.expect("nothing fails");
    }
    assert_holds(&*revisions.catalog, revisions.head, 5_000).await;
    for _ in 0..5 {
        revisions.reopen::<L>(path).await;
        revisions.commit(5_000).await.expect("nothing fails");
    }
    revisions.catalog.close().await.expect("it can be closed");
    let readers: Vec<Arc<dyn Catalog>> = vec![
        L::open_read_only(path).await.expect("it can be read"),
        L::open_read_only(path).await.expect("twice"),
    ];
    for reader in readers {
        assert_holds(&*reader, revisions.head, 5_000).await;
    }
    say(revisions.head.revision);
}

/// Lets this process open at most so many files more, and returns the limit there was.
fn limit_open_files(more: usize) -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    let open = fs::read_dir("/dev/fd").expect("open files can be listed").count() as u64;
    let limit = Rlimit { current: Some(open + 100), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
    // Numbers of files have gaps; what is opened here fills all but so many, and stays open.
    let mut filling: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    filling.truncate(filling.len() - more);
    filling.into_iter().for_each(std::mem::forget);
    before
}

fn remount(path: &Path, options: &str) {
    let folder = path.parent().expect("it is in a folder");
    // With the name of the file system no other options are taken over, such as a user whom its namespace does not know.
    let options = format!("remount,{options}");
    let mount = || Command::new("mount").args(["-o", &options, "tmpfs"]).arg(folder).status();
    // An engine whose threads close their files a moment after the catalog keeps the disk busy until then.
    let end = Instant::now() + ANSWER_MAX;
    while !mount().is_ok_and(|status| status.success()) {
        assert!(Instant::now() < end, "the disk can be mounted with {options}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that nothing was changed, and that the message says what to do.
fn assert_advises(error: &Error, advice: &str) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains(advice), "{error:?}");
}
