//! The cases, in the order of the list in [`local_suite!`](crate::local_suite).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use copyseg_core::{
    Batch, Catalog, ErrorKind, Head, ManagerOptions, MetaManager, Operation, RecordKey, RecordKind, Result,
    Revision,
};
use futures::TryStreamExt;
use futures::future::join_all;

use super::LocalCatalog;
use super::child::Role;
use super::place::{Place, allow};

/// The owner of a catalog to which it commits one revision after the other: three tasks each, one of which the next
/// revision removes.
pub(super) struct Revisions {
    pub(super) catalog: Arc<dyn Catalog>,
    /// The last one that was acknowledged.
    pub(super) head: Head,
}

impl Revisions {
    pub(super) async fn open<L: LocalCatalog>(path: &Path) -> Self {
        let catalog = L::open(path).await.expect("the catalog can be opened");
        let head = catalog.acquire().await.expect("the catalog can be acquired");
        Self { catalog, head }
    }

    /// Closes the catalog and opens it again.
    pub(super) async fn reopen<L: LocalCatalog>(&mut self, path: &Path) {
        self.catalog.close().await.expect("the catalog can be closed");
        let again = Self::open::<L>(path).await;
        assert_eq!(again.head.revision, self.head.revision);
        *self = again;
    }

    /// Commits the next revision, with records of so many bytes.
    pub(super) async fn commit(&mut self, bytes: usize) -> Result<()> {
        let revision = self.head.revision.0 + 1;
        let next = Head { batch: revision, revision: Revision(revision), ..self.head };
        let key = |id: u64| RecordKey { kind: RecordKind::Task, id: id as i64 };
        let put = |id| Operation::Put(key(id), record(revision, bytes).into());
        let puts = (3 * revision..3 * revision + 3).map(put);
        let batch = puts.chain([Operation::Delete(key(3 * revision - 3))]).collect();
        self.catalog.commit(&self.head, &next, &batch).await?;
        self.head = next;
        Ok(())
    }

    /// Finds out whether a commit of unknown outcome was made. Nothing of it can come later in this process.
    pub(super) async fn settle(&mut self) {
        let head = self.catalog.head().await.expect("the catalog can be read");
        let ahead = head.revision.0 - self.head.revision.0;
        assert!(ahead <= 1, "{head:?} after {:?}", self.head);
        self.head = head;
    }
}

fn record(revision: u64, bytes: usize) -> Vec<u8> {
    revision.to_be_bytes().into_iter().cycle().take(bytes).collect()
}

/// Asserts that the catalog holds exactly what [`Revisions`] had committed at this head.
pub(super) async fn assert_holds(catalog: &dyn Catalog, head: Head, bytes: usize) {
    let loaded = catalog.load().await.expect("the catalog can be loaded");
    let revision = loaded.head.revision.0;
    assert_eq!(revision, head.revision.0);
    let pages: Vec<_> = loaded.pages.try_collect().await.expect("the catalog can be loaded");
    let found: Vec<_> = pages.into_iter().flatten().map(|it| (it.key.id as u64, it.bytes)).collect();
    let kept = |id: &u64| !id.is_multiple_of(3) || id / 3 == revision;
    let expected = (3..3 * revision + 3).filter(kept).map(|id| (id, record(id / 3, bytes).into()));
    assert!(found == expected.collect::<Vec<_>>(), "the records of revision {revision}");
}

pub async fn what_was_acknowledged_before_a_kill_is_there_after_it<L: LocalCatalog>(place: &Place) {
    let mut least = 0;
    for round in 1..=6 {
        let mut child = place.start(Role::Commits);
        let mut lines = child.said();
        let acknowledged = lines.nth(17 * round).expect("the child commits");
        child.kill();
        let acknowledged = lines.last().unwrap_or(acknowledged).parse::<u64>().expect("it says a revision");
        assert!(acknowledged > least);

        let catalog = L::open(&place.path).await.expect("nobody holds it any more");
        let head = catalog.head().await.expect("it can be read");
        let revision = head.revision.0;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&revision),
            "{revision}, not {acknowledged} or one more"
        );
        assert_eq!(head.epoch, round as u64);
        assert_holds(&*catalog, head, 8).await;
        catalog.close().await.expect("it can be closed");
        least = revision;
    }
}

pub async fn a_catalog_held_by_another_process_names_it_until_it_is_killed<L: LocalCatalog>(place: &Place) {
    let path = &place.path;
    let note = L::holder_file(path);
    let mut child = place.start(Role::Holds);
    child.said().next().expect("the child opens it");
    let refused = async || {
        let error = L::open(path).await.expect_err("it is held");
        assert_eq!(error.kind(), ErrorKind::Held);
        assert!(error.to_string().contains("or stop it"), "{error}");
        error.to_string()
    };

    let message = refused().await;
    let readable = fs::read_to_string(&note).expect("there is a note");
    let field = |name: &str| {
        let (_, value) = readable.split_once(&format!("\"{name}\":\"")).expect("the note has this field");
        value.split('"').next().unwrap_or_default().to_owned()
    };
    assert!(readable.contains(&format!("\"pid\":{},", child.id())), "{readable}");
    assert!(field("command").ends_with("child"), "{readable}");
    assert!(field("since").starts_with("20") && field("since").ends_with('Z'), "{readable}");
    for name in ["since", "host", "command"] {
        assert!(message.contains(&field(name)), "{message} lacks the {name} of {readable}");
    }
    assert!(message.contains(&format!("process {} ", child.id())), "{message}");
    let reader = L::open_read_only(path).await.expect_err("it is held");
    assert_eq!((reader.kind(), reader.to_string()), (ErrorKind::Held, message));

    fs::write(&note, "not a note").expect("the note can be written");
    assert!(refused().await.contains("another process"));
    fs::remove_file(&note).expect("the note can be removed");
    assert!(refused().await.contains("another process"));
    fs::write(&note, &readable).expect("the note can be written");

    child.kill();
    let catalog = L::open(path).await.expect("nobody holds it any more");
    assert!(
        refused().await.contains(&format!("process {} ", std::process::id())),
        "the stale note is replaced"
    );
    catalog.close().await.expect("it can be closed");
    assert!(!note.exists());
}

pub async fn of_many_that_create_a_catalog_at_once_one_holds_it<L: LocalCatalog>(place: &Place) {
    let results = join_all((0..8).map(|_| L::open(&place.path))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::Held, "{error:?}");
        assert!(error.to_string().contains("wait until that ends, or stop it"), "{error}");
    }
}

const UNAVAILABLE: &str = "Unavailable ";

pub async fn an_unreadable_folder_is_unavailable<L: LocalCatalog>(place: &Place) {
    assert_allowed::<L>(place, 0o000, 0o600, [UNAVAILABLE, UNAVAILABLE]).await;
}

pub async fn an_unreadable_catalog_is_unavailable<L: LocalCatalog>(place: &Place) {
    assert_allowed::<L>(place, 0o755, 0o000, [UNAVAILABLE, UNAVAILABLE]).await;
}

pub async fn a_catalog_only_to_be_read_is_read_and_not_written<L: LocalCatalog>(place: &Place) {
    assert_allowed::<L>(place, 0o755, 0o444, [UNAVAILABLE, "read epoch 1"]).await;
}

pub async fn a_catalog_in_a_folder_only_to_be_read_is_read_and_not_written<L: LocalCatalog>(place: &Place) {
    assert_allowed::<L>(place, 0o555, 0o444, [UNAVAILABLE, "read epoch 1"]).await;
}

/// Asserts what another user gets from opening a catalog, to write and to read, whose folder and files have these modes.
async fn assert_allowed<L: LocalCatalog>(place: &Place, folder: u32, files: u32, results: [&str; 2]) {
    let catalog = Revisions::open::<L>(&place.path).await.catalog;
    catalog.close().await.expect("it can be closed");
    let (folder_of, files_of) = match place.path.is_dir() {
        true => (place.path.as_path(), files_below(&place.path)),
        false => (place.below(), vec![place.path.clone()]),
    };
    files_of.iter().for_each(|file| allow(file, files));
    allow(folder_of, folder);
    assert_tries(place, results);
    allow(folder_of, 0o755);
    files_of.iter().for_each(|file| allow(file, 0o600));
    let catalog = L::open(&place.path).await.expect("its owner may use it again");
    assert_eq!(catalog.head().await.expect("it can be read").epoch, 1);
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    entries.map(|entry| entry.expect("the folder can be read").path()).filter(|path| path.is_file()).collect()
}

fn assert_tries(place: &Place, results: [&str; 2]) {
    let lines = place.start_unprivileged(Role::Tries).succeeds();
    assert_eq!(lines.len(), results.len(), "{lines:?}");
    for (line, result) in lines.iter().zip(results) {
        assert!(line.starts_with(result), "{line}, not {result}");
    }
}

pub async fn without_permission_to_create_a_catalog_it_is_unavailable_and_nothing_is_left<L: LocalCatalog>(
    place: &Place,
) {
    allow(place.below(), 0o555);
    assert_tries(place, [UNAVAILABLE, "NotFound "]);
    assert_eq!(fs::read_dir(place.below()).expect("the folder can be read").count(), 0);
    allow(place.below(), 0o755);
    Revisions::open::<L>(&place.path).await;
}

pub async fn a_full_disk_takes_no_part_of_a_commit_and_writing_goes_on_once_there_is_space<
    L: LocalCatalog,
>(
    place: &Place,
) {
    let Some(child) = place.start_on_small_disk(Role::FillsDisk, "30m") else { return };
    let said = child.succeeds();
    let revisions = said.last().and_then(|said| said.parse::<u64>().ok());
    assert!(revisions.is_some_and(|revisions| revisions > 25), "{said:?}: some fitted at first");
}

pub async fn a_full_disk_leaves_no_half_made_catalog<L: LocalCatalog>(place: &Place) {
    let Some(child) = place.start_on_small_disk(Role::CreatesOnFullDisk, "4k") else { return };
    assert_eq!(child.succeeds(), ["made"]);
}

pub async fn a_read_only_file_system_is_read_and_not_written<L: LocalCatalog>(place: &Place) {
    let Some(child) = place.start_on_small_disk(Role::TriesReadOnlyDisk, "30m") else { return };
    assert_eq!(child.succeeds(), ["went on"]);
}

pub async fn a_file_system_that_becomes_read_only_keeps_nobody_waiting_and_loses_nothing<L: LocalCatalog>(
    place: &Place,
) {
    if !cfg!(target_os = "linux") {
        return eprintln!("not tried: system calls can be made to fail on Linux alone");
    }
    let said = place.start(Role::LosesWritableDisk).succeeds();
    let [acknowledged] = said.as_slice() else { panic!("{said:?}") };
    let catalog = L::open(&place.path).await.expect("it can be opened where it can be written");
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.expect("nothing is lost");
    let next = manager.allocate_ids(1).await.expect("it can be written again").start;
    assert!(next >= acknowledged.parse().expect("it is an id"), "{next} was given out before {acknowledged}");
    manager.close().await.expect("it can be closed");
}

pub async fn without_open_files_nothing_is_lost_and_all_goes_on_once_there_are_some<L: LocalCatalog>(
    place: &Place,
) {
    assert_eq!(place.start(Role::LacksFiles).succeeds().len(), 1);
}

pub async fn a_few_open_files_are_enough<L: LocalCatalog>(place: &Place) {
    assert_eq!(place.start(Role::HasFewFiles).succeeds(), ["205"]);
}

pub async fn a_catalog_that_was_removed_takes_no_commit_until_it_is_put_back<L: LocalCatalog>(place: &Place) {
    let mut revisions = Revisions::open::<L>(&place.path).await;
    revisions.commit(8).await.expect("nothing fails");
    let away = place.folder().join("away");
    fs::rename(&place.path, &away).expect("it can be taken away");
    let error = revisions.commit(8).await.expect_err("nobody would find it");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.to_string().contains("replaced or removed"), "{error}");
    let catalog = &revisions.catalog;
    let kind = |error: copyseg_core::Error| {
        assert!(error.to_string().contains("put it back"), "{error}");
        error.kind()
    };
    for _ in 0..2 {
        let unavailable = Some(ErrorKind::Unavailable);
        let nothing = Batch::from_iter([]);
        let head = &revisions.head;
        assert_eq!(catalog.commit(head, head, &nothing).await.err().map(kind), unavailable);
        assert_eq!(catalog.head().await.err().map(kind), unavailable);
        assert_eq!(catalog.load().await.err().map(kind), unavailable);
        assert_eq!(catalog.acquire().await.err().map(kind), unavailable);
    }
    assert!(!place.path.exists(), "no new catalog in place of the lost one");
    fs::rename(&away, &place.path).expect("it can be put back");
    let settled = revisions.commit(8).await.expect_err("it was made");
    assert_eq!(settled.kind(), ErrorKind::Fenced, "{settled:?}");
    revisions.settle().await;
    assert_eq!(revisions.head.revision.0, 2);
    revisions.commit(8).await.expect("it is there again");
    assert_holds(&*revisions.catalog, revisions.head, 8).await;
}

pub async fn a_catalog_that_was_replaced_takes_no_commit<L: LocalCatalog>(place: &Place) {
    let other = place.folder().join("other");
    let mut theirs = Revisions::open::<L>(&other).await;
    theirs.commit(8).await.expect("nothing fails");
    theirs.catalog.close().await.expect("it can be closed");
    let mut ours = Revisions::open::<L>(&place.path).await;
    ours.commit(8).await.expect("nothing fails");
    fs::rename(&place.path, place.folder().join("away")).expect("it can be taken away");
    fs::rename(&other, &place.path).expect("another can be put there");
    let error = ours.commit(8).await.expect_err("nobody would find it");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.to_string().contains("replaced or removed"), "{error}");
    let settled = ours.commit(8).await.expect_err("it is another one");
    assert_eq!(settled.kind(), ErrorKind::Fenced, "{settled:?}");
    ours.catalog.close().await.expect("it can be closed");
    let theirs = L::open(&place.path).await.expect("nobody holds it");
    assert_holds(&*theirs, theirs.head().await.expect("it can be read"), 8).await;
}
