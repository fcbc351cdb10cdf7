//! What is found at a path: each case has its error, says what to do, and is left as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use copyseg_core::{
    Batch, Catalog, Error, ErrorKind, Head, Operation, Record, RecordKey, RecordKind, Revision,
};
use copyseg_sled::{SledCatalog, SledOptions};
use futures::TryStreamExt;
use rstest::rstest;
use tempfile::TempDir;

async fn open(path: &Path) -> Result<SledCatalog, Error> {
    SledCatalog::open(path, SledOptions::default()).await
}

async fn open_read_only(path: &Path) -> Result<SledCatalog, Error> {
    SledCatalog::open_read_only(path, SledOptions::default()).await
}

async fn commit(catalog: &SledCatalog, head: Head, operations: impl IntoIterator<Item = Operation>) -> Head {
    let next = Head { batch: head.batch + 1, revision: Revision(head.revision.0 + 1), ..head };
    catalog.commit(&head, &next, &operations.into_iter().collect()).await.unwrap();
    next
}

fn put(id: i64, byte: u8, length: usize) -> Operation {
    Operation::Put(RecordKey { kind: RecordKind::Job, id }, vec![byte; length].into())
}

/// A closed catalog of `count` jobs, one commit each.
async fn closed_catalog(count: u8) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let catalog = open(&path).await.unwrap();
    let mut head = catalog.acquire().await.unwrap();
    for id in 0..count {
        head = commit(&catalog, head, [put(id.into(), id, 3000)]).await;
    }
    catalog.close().await.unwrap();
    (folder, path)
}

async fn load(catalog: &SledCatalog) -> Result<(Head, Vec<Record>), Error> {
    let loaded = catalog.load().await?;
    Ok((loaded.head, loaded.pages.try_concat().await?))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every file of a folder, and its bytes.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = names(folder).into_iter().filter(|name| folder.join(name).is_file());
    files.map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

fn assert_error(result: Result<SledCatalog, Error>, kind: ErrorKind, advice: &str) {
    let error = result.expect_err("it cannot be opened");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(advice), "{error}");
}

#[rstest]
#[case::of_documents(&["letter.txt"], ErrorKind::InvalidArgument, "left as it is")]
#[case::of_sled_1(&["durability_cookie", "slabs"], ErrorKind::Unsupported, "newer")]
#[case::without_records(&["conf"], ErrorKind::Corrupt, "restore both")]
#[case::without_configuration(&["db"], ErrorKind::Corrupt, "restore both")]
#[case::without_a_sound_configuration(&["conf", "db"], ErrorKind::Corrupt, "`conf` is damaged")]
#[tokio::test]
async fn a_folder_of_something_else_is_refused_and_left_as_it_is(
    #[case] files: &[&str],
    #[case] kind: ErrorKind,
    #[case] advice: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::write(folder.path().join(file), "This is a letter, not a database.").unwrap();
    }
    assert_error(open(folder.path()).await, kind, advice);
    assert_error(open_read_only(folder.path()).await, kind, advice);
    assert_eq!(names(folder.path()), files);
}

#[tokio::test]
async fn an_empty_log_is_refused_since_a_catalog_never_has_one() {
    let (_folder, path) = closed_catalog(1).await;
    fs::write(path.join("db"), []).unwrap();
    let before = content(&path);
    assert_error(open(&path).await, ErrorKind::Corrupt, "to start anew");
    assert!(content(&path) == before);
}

#[rstest]
#[case::older("segment_size: 8388608\nuse_compression: false\nversion: 0.33\n", ErrorKind::Unsupported)]
#[case::newer("segment_size: 8388608\nuse_compression: false\nversion: 1.0\n", ErrorKind::Unsupported)]
#[case::other_segments(
    "segment_size: 524288\nuse_compression: false\nversion: 0.34\n",
    ErrorKind::InvalidArgument
)]
#[case::compressed(
    "segment_size: 8388608\nuse_compression: true\nversion: 0.34\n",
    ErrorKind::InvalidArgument
)]
#[tokio::test]
async fn a_folder_of_another_configuration_is_refused_and_left_as_it_is(
    #[case] configuration: &str,
    #[case] kind: ErrorKind,
) {
    let (_folder, path) = closed_catalog(1).await;
    let checksum = crc32fast::hash(configuration.as_bytes()).to_le_bytes();
    fs::write(path.join("conf"), [configuration.as_bytes(), &checksum].concat()).unwrap();
    let before = content(&path);
    assert_error(open(&path).await, kind, "wrote it");
    assert_error(open_read_only(&path).await, kind, "wrote it");
    assert!(content(&path) == before);
}

#[tokio::test]
async fn a_sled_folder_of_another_program_is_refused_and_keeps_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let database = sled::open(folder.path()).unwrap();
    database.insert("letter", "Dear").unwrap();
    database.flush().unwrap();
    assert_error(open(folder.path()).await, ErrorKind::InvalidArgument, "another program");
    drop(database);
    let before = content(folder.path());
    assert_error(open(folder.path()).await, ErrorKind::InvalidArgument, "another program");
    assert!(content(folder.path()) == before);
}

#[rstest]
#[case::a_file("file", "give another")]
#[case::below_a_file("file/catalog.sled", "give another")]
#[tokio::test]
async fn a_path_that_is_not_a_folder_is_an_invalid_argument(#[case] path: &str, #[case] advice: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    assert_error(open(&folder.path().join(path)).await, ErrorKind::InvalidArgument, advice);
    assert_error(open_read_only(&folder.path().join(path)).await, ErrorKind::InvalidArgument, advice);
    assert_eq!(names(folder.path()), ["file"]);
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"content");
}

#[rstest]
#[case::with_folders_above_it(false)]
#[case::in_an_empty_folder(true)]
#[tokio::test]
async fn a_missing_catalog_is_created_only_if_that_is_wanted(#[case] is_there: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/down");
    if is_there {
        fs::create_dir_all(&path).unwrap();
    }
    let options = SledOptions { create: false, ..Default::default() };
    assert_error(SledCatalog::open(&path, options).await, ErrorKind::NotFound, "check the path");
    assert_error(open_read_only(&path).await, ErrorKind::NotFound, "check the path");
    assert_eq!(path.exists(), is_there);

    let catalog = open(&path).await.unwrap();
    assert_eq!(catalog.head().await.unwrap(), Head::default());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in ["conf", "copyseg.head", "db", "db.holder"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    if !is_there {
        assert_eq!(mode(&path), 0o700);
    }
    catalog.close().await.unwrap();
    assert_eq!(names(&path), ["blobs", "conf", "copyseg.head", "db"]);
}

/// As a process leaves it that is killed before the catalog is whole.
#[rstest]
#[case::nothing(&[])]
#[case::an_empty_log(&["conf", "db"])]
#[case::a_log_without_a_head(&["conf", "db", "snap.0000000000000000"])]
#[tokio::test]
async fn what_a_killed_creation_left_is_thrown_away(#[case] files: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("blobs")).unwrap();
    for file in files.iter().chain(&["copyseg.new"]) {
        fs::write(folder.path().join(file), "half").unwrap();
    }
    assert_error(open_read_only(folder.path()).await, ErrorKind::NotFound, "check the path");
    let catalog = open(folder.path()).await.unwrap();
    assert_eq!(catalog.acquire().await.unwrap().epoch, 1);
    catalog.close().await.unwrap();
    assert_eq!(open(folder.path()).await.unwrap().head().await.unwrap().epoch, 1);
    assert!(!folder.path().join("copyseg.new").exists());
}

#[tokio::test]
async fn a_catalog_opened_to_be_read_shows_all_and_changes_nothing() {
    let (_folder, path) = closed_catalog(200).await;
    let before = content(&path);
    let first = open_read_only(&path).await.unwrap();
    let second = open_read_only(&path).await.unwrap();
    assert_eq!(load(&first).await.unwrap().1.len(), 200);
    let head = second.head().await.unwrap();
    let unsupported = Err(ErrorKind::Unsupported);
    assert_eq!(first.acquire().await.map_err(|error| error.kind()), unsupported);
    let nothing = Batch::from_iter([]);
    assert_eq!(
        first.commit(&head, &head, &nothing).await.map_err(|error| error.kind()),
        Err(ErrorKind::Unsupported)
    );
    assert_error(open(&path).await, ErrorKind::Held, "only reads");
    assert_eq!(load(&first).await.unwrap().1.len(), 200, "a refused call leaves the catalog as it was");
    first.close().await.unwrap();
    second.close().await.unwrap();
    assert!(content(&path) == before);
    assert_eq!(open(&path).await.unwrap().head().await.unwrap(), head);
}

#[tokio::test]
async fn a_record_beyond_64_kib_is_too_large_since_no_commit_would_sync_it() {
    let (_folder, path) = closed_catalog(1).await;
    let catalog = open(&path).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let error = catalog.commit(&head, &head, &Batch::from_iter([put(7, 7, 65_537)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("job:7"), "{error}");
    assert_eq!(load(&catalog).await.unwrap().1.len(), 1);
}

/// sled puts a large page into a file of its own, which no commit syncs.
#[tokio::test]
async fn the_largest_records_stay_in_the_log() {
    const BYTES: usize = 65_536;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let catalog = open(&path).await.unwrap();
    let mut head = catalog.acquire().await.unwrap();
    let assert_no_blobs = || assert_eq!(names(&path.join("blobs")), [""; 0]);
    // Scattered, ascending, then removed so that pages merge, then changed.
    for round in 0..8 {
        head = commit(&catalog, head, (0..60).map(|id| put(id * 37 % 400 + round, 1, BYTES))).await;
        assert_no_blobs();
    }
    for round in 0..4 {
        head = commit(&catalog, head, (0..60).map(|id| put(1000 + round * 60 + id, 2, BYTES))).await;
        assert_no_blobs();
    }
    let (_, records) = load(&catalog).await.unwrap();
    for keys in records.chunks(50).map(|records| records.iter().map(|record| record.key)) {
        let removed = keys.filter(|key| key.id % 5 < 3).map(Operation::Delete);
        head = commit(&catalog, head, removed).await;
        assert_no_blobs();
    }
    let (_, records) = load(&catalog).await.unwrap();
    for records in records.chunks(60) {
        head = commit(&catalog, head, records.iter().map(|record| put(record.key.id, 3, BYTES))).await;
        assert_no_blobs();
    }
    catalog.close().await.unwrap();
    assert_no_blobs();
    let (found, records) = load(&open(&path).await.unwrap()).await.unwrap();
    assert_eq!(found, head);
    assert!(records.iter().all(|record| *record.bytes == [3; BYTES]));
}

/// Without its thread for flushing, sled has to clean its log within commits.
#[tokio::test]
async fn a_log_of_changes_to_few_records_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.sled");
    let catalog = open(&path).await.unwrap();
    let mut head = catalog.acquire().await.unwrap();
    for round in 0..200 {
        head = commit(&catalog, head, (0..1000).map(|id| put(id, round, 1000))).await;
    }
    let bytes = fs::metadata(path.join("db")).unwrap().len();
    assert!(bytes < 100 << 20, "{bytes} bytes for one million, after 200 million were written");
}

/// sled alone would go back to the commit before the damage, and say nothing.
#[rstest]
#[case::to_nothing_of_the_head(8)]
#[case::within_the_first_commits(2000)]
#[case::within_the_last_commits(70_000)]
#[tokio::test]
async fn a_log_that_was_cut_is_corrupt(#[case] length: u64) {
    let (_folder, path) = closed_catalog(40).await;
    let log = fs::File::options().write(true).open(path.join("db")).unwrap();
    assert!(log.metadata().unwrap().len() > length);
    log.set_len(length).unwrap();
    assert_error(open_read_only(&path).await, ErrorKind::Corrupt, "damaged");
    assert_error(open(&path).await, ErrorKind::Corrupt, "damaged");
    assert_error(open(&path).await, ErrorKind::Corrupt, "damaged");
}

#[tokio::test]
async fn a_log_that_was_overwritten_anywhere_is_corrupt_or_whole() {
    let (folder, path) = closed_catalog(40).await;
    let mut corrupt = 0;
    for block in 0..100 {
        let copy = folder.path().join(format!("block-{block}"));
        fs::create_dir(&copy).unwrap();
        for (name, bytes) in content(&path) {
            fs::write(copy.join(name), bytes).unwrap();
        }
        let log = fs::File::options().write(true).open(copy.join("db")).unwrap();
        log.write_all_at(&[0xA5; 300], block * 4096 + 100).unwrap();
        let loaded = match open(&copy).await {
            Ok(catalog) => load(&catalog).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok((head, records)) => {
                assert_eq!(head.revision.0, 40, "block {block}");
                let found: Vec<_> =
                    records.into_iter().map(|record| (record.key.id, record.bytes.into())).collect();
                assert!(found == (0..40).map(|id| (id.into(), vec![id; 3000])).collect::<Vec<_>>());
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "block {block}: {error:?}");
                corrupt += 1;
            }
        }
    }
    assert!(corrupt * 4096 > 40 * 3000, "{corrupt} blocks, fewer than hold the records");
}

#[tokio::test]
async fn without_the_note_a_damaged_log_is_at_an_earlier_commit() {
    let (_folder, path) = closed_catalog(40).await;
    fs::File::options().write(true).open(path.join("db")).unwrap().set_len(70_000).unwrap();
    assert_error(open(&path).await, ErrorKind::Corrupt, "remove `copyseg.head`");
    fs::remove_file(path.join("copyseg.head")).unwrap();
    let (head, records) = load(&open(&path).await.unwrap()).await.unwrap();
    assert!((1..40).contains(&head.revision.0));
    assert_eq!(records.len() as u64, head.revision.0);
}

#[rstest]
#[case::removed(false)]
#[case::replaced(true)]
#[tokio::test]
async fn a_commit_into_a_log_that_is_no_longer_there_is_not_acknowledged(#[case] replaced: bool) {
    let (folder, path) = closed_catalog(10).await;
    let (log, away) = (path.join("db"), folder.path().join("away"));
    let catalog = open(&path).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    fs::rename(&log, &away).unwrap();
    if replaced {
        fs::copy(&away, &log).unwrap();
    }
    let next = Head { batch: 7, ..head };
    let nothing = Batch::from_iter([]);
    let error = catalog.commit(&head, &next, &nothing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.to_string().contains("replaced or removed"), "{error}");
    if replaced {
        // It is the same but for this commit, which it takes.
        catalog.commit(&head, &next, &nothing).await.unwrap();
    } else {
        assert!(catalog.head().await.is_err(), "a folder without its log is no catalog");
        fs::rename(&away, &log).unwrap();
        let settled = catalog.commit(&head, &next, &nothing).await.unwrap_err();
        assert_eq!(settled.kind(), ErrorKind::Fenced, "it was made: {settled:?}");
    }
    let (found, records) = load(&catalog).await.unwrap();
    assert_eq!((found, records.len()), (next, 10));
}
