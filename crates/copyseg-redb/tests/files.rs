//! What is found at a path: each case has its error, says what to do, and is left as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use copyseg_core::{Batch, Catalog, Error, ErrorKind, Head, Operation, RecordKey, RecordKind, Revision};
use copyseg_redb::{RedbCatalog, RedbOptions};
use futures::TryStreamExt;
use rstest::rstest;
use tempfile::TempDir;

async fn open(path: &Path) -> Result<RedbCatalog, Error> {
    RedbCatalog::open(path, RedbOptions::default()).await
}

async fn open_read_only(path: &Path) -> Result<RedbCatalog, Error> {
    RedbCatalog::open_read_only(path, RedbOptions::default()).await
}

/// Writes `count` jobs in one commit, and returns the head.
async fn fill(catalog: &RedbCatalog, count: i64) -> Head {
    let head = catalog.acquire().await.unwrap();
    let put = |id| Operation::Put(RecordKey { kind: RecordKind::Job, id }, vec![id as u8; 300].into());
    let next = Head { revision: Revision(head.revision.0 + 1), ..head };
    catalog.commit(&head, &next, &Batch::from_iter((0..count).map(put))).await.unwrap();
    next
}

/// A closed catalog of `count` jobs.
async fn closed_catalog(count: i64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let catalog = open(&path).await.unwrap();
    fill(&catalog, count).await;
    catalog.close().await.unwrap();
    (folder, path)
}

async fn count(catalog: &RedbCatalog) -> Result<usize, Error> {
    let pages: Vec<_> = catalog.load().await?.pages.try_collect().await?;
    Ok(pages.iter().map(Vec::len).sum())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn assert_error(result: Result<RedbCatalog, Error>, kind: ErrorKind, advice: &str) {
    let error = result.expect_err("it cannot be opened");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(advice), "{error}");
}

#[rstest]
#[case::a_text(b"This is a letter, not a database. It is longer than the name of a format.".to_vec())]
#[case::a_byte(b"r".to_vec())]
#[case::zeros(vec![0; 100_000])]
#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_left_as_it_is(#[case] content: Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    fs::write(&path, &content).unwrap();
    assert_error(open(&path).await, ErrorKind::Corrupt, "not a redb file");
    assert_error(open_read_only(&path).await, ErrorKind::Corrupt, "not a redb file");
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(names(folder.path()), ["letter"]);
}

#[tokio::test]
async fn an_empty_file_is_refused_since_a_catalog_never_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    fs::write(&path, []).unwrap();
    assert_error(open(&path).await, ErrorKind::Corrupt, "remove it to start anew");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[rstest]
#[case::newer(4, "newer")]
#[case::older(2, "upgrade it")]
#[tokio::test]
async fn a_file_of_another_format_is_refused_and_left_as_it_is(#[case] version: u8, #[case] advice: &str) {
    let (_folder, path) = closed_catalog(10).await;
    let mut content = fs::read(&path).unwrap();
    assert_eq!((content[64], content[192]), (3, 3), "where redb keeps the version of its format");
    (content[64], content[192]) = (version, version);
    fs::write(&path, &content).unwrap();
    assert_error(open(&path).await, ErrorKind::Unsupported, advice);
    assert_error(open_read_only(&path).await, ErrorKind::Unsupported, advice);
    assert!(fs::read(&path).unwrap() == content);
}

#[tokio::test]
async fn a_redb_file_of_another_program_is_refused_and_keeps_its_content() {
    const LETTERS: redb::TableDefinition<'_, i64, &str> = redb::TableDefinition::new("letters");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(LETTERS).unwrap().insert(1, "Dear").unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_error(open(&path).await, ErrorKind::Corrupt, "give another path");
    let database = redb::Database::open(&path).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let letter = transaction.open_table(LETTERS).unwrap().get_owned(1).unwrap().unwrap();
    assert_eq!(letter.value(), "Dear");
}

#[rstest]
#[case::a_folder("", "give another")]
#[case::a_device("/dev/null", "not a regular file; give another")]
#[case::a_link_to_itself("loop", "give another")]
#[case::below_a_file("file/catalog.redb", "give another")]
#[case::the_root("/", "give another")]
#[tokio::test]
async fn a_path_that_is_not_a_file_is_an_invalid_argument(#[case] path: &str, #[case] advice: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    assert_error(open(&folder.path().join(path)).await, ErrorKind::InvalidArgument, advice);
    assert_error(open_read_only(&folder.path().join(path)).await, ErrorKind::InvalidArgument, advice);
    assert_eq!(names(folder.path()), ["file", "loop"]);
}

#[tokio::test]
async fn a_missing_file_is_created_only_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/down/catalog.redb");
    let options = RedbOptions { create: false, ..Default::default() };
    assert_error(RedbCatalog::open(&path, options).await, ErrorKind::NotFound, "check the path");
    assert_error(open_read_only(&path).await, ErrorKind::NotFound, "check the path");
    assert!(names(folder.path()).is_empty());

    let catalog = open(&path).await.unwrap();
    assert_eq!(catalog.head().await.unwrap(), Head::default());
    let expected = ["catalog.redb", "catalog.redb.head", "catalog.redb.holder"];
    assert_eq!(names(path.parent().unwrap()), expected);
    for name in expected {
        let mode = fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    catalog.close().await.unwrap();
    assert_eq!(names(path.parent().unwrap()), ["catalog.redb", "catalog.redb.head"]);
}

#[tokio::test]
async fn a_catalog_opened_to_be_read_shows_all_and_changes_nothing() {
    let (folder, path) = closed_catalog(3000).await;
    let content = fs::read(&path).unwrap();
    let first = open_read_only(&path).await.unwrap();
    let second = open_read_only(&path).await.unwrap();
    assert_eq!(count(&first).await.unwrap(), 3000);
    let head = second.head().await.unwrap();
    let unsupported = Err(ErrorKind::Unsupported);
    assert_eq!(first.acquire().await.map_err(|error| error.kind()), unsupported);
    let nothing = Batch::from_iter([]);
    assert_eq!(
        first.commit(&head, &head, &nothing).await.map_err(|error| error.kind()),
        Err(ErrorKind::Unsupported)
    );
    assert_eq!(first.check_integrity().await.map_err(|error| error.kind()), Err(ErrorKind::Unsupported));
    assert_error(open(&path).await, ErrorKind::Held, "only reads");
    assert_eq!(count(&first).await.unwrap(), 3000, "a refused call leaves the catalog as it was");
    first.close().await.unwrap();
    second.close().await.unwrap();
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(names(folder.path()), ["catalog.redb", "catalog.redb.head"]);
    assert_eq!(open(&path).await.unwrap().head().await.unwrap(), head);
}

#[tokio::test]
async fn a_file_whose_writer_was_killed_is_repaired_to_be_read() {
    let (folder, path) = closed_catalog(10).await;
    let writer = open(&path).await.unwrap();
    let head = fill(&writer, 20).await;
    let killed = folder.path().join("killed.redb");
    fs::copy(&path, &killed).unwrap();
    fs::copy(path.with_file_name("catalog.redb.holder"), folder.path().join("killed.redb.holder")).unwrap();
    let reader = open_read_only(&killed).await.unwrap();
    assert_eq!(reader.head().await.unwrap(), head);
    assert_eq!(count(&reader).await.unwrap(), 20);
    assert!(!folder.path().join("killed.redb.holder").exists(), "the note of the killed writer");
}

#[rstest]
#[case::to_its_name(9)]
#[case::within_the_header(100)]
#[case::to_the_header(320)]
#[case::to_a_page(4096)]
#[case::to_some_pages(40_960)]
#[tokio::test]
async fn a_file_that_was_cut_is_corrupt(#[case] length: u64) {
    let (_folder, path) = closed_catalog(3000).await;
    fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
    assert_error(open(&path).await, ErrorKind::Corrupt, "keep the file");
    assert_error(open_read_only(&path).await, ErrorKind::Corrupt, "keep the file");
}

/// redb alone would take the damage for a torn write, go back to the commit before it, and say nothing.
#[tokio::test]
async fn a_file_that_went_back_behind_an_acknowledged_commit_is_corrupt() {
    let (_folder, path) = closed_catalog(10).await;
    let writer = open(&path).await.unwrap();
    let before = fs::read(&path).unwrap();
    fill(&writer, 20).await;
    writer.close().await.unwrap();
    fs::write(&path, &before).unwrap();
    assert_error(open(&path).await, ErrorKind::Corrupt, "remove `catalog.redb.head`");
    assert_error(open_read_only(&path).await, ErrorKind::Corrupt, "acknowledged");
    fs::remove_file(path.with_file_name("catalog.redb.head")).unwrap();
    assert_eq!(count(&open(&path).await.unwrap()).await.unwrap(), 10, "the operator has decided");
}

/// What a catalog in use is opened again for must not let it write over what tells that commits were lost.
#[tokio::test]
async fn a_file_that_is_older_when_it_is_opened_again_is_corrupt_and_stays_so() {
    let (_folder, path) = closed_catalog(10).await;
    let older = path.with_file_name("older");
    fs::copy(&path, &older).unwrap();
    let catalog = open(&path).await.unwrap();
    fill(&catalog, 20).await;
    fs::rename(&older, &path).unwrap();
    catalog.acquire().await.expect_err("the file is another one");
    for error in [catalog.acquire().await.unwrap_err(), catalog.head().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(error.to_string().contains("remove `catalog.redb.head`"), "{error}");
    }
}

#[tokio::test]
async fn the_note_of_an_earlier_catalog_does_not_hinder_a_new_one_in_its_place() {
    let (_folder, path) = closed_catalog(10).await;
    fs::remove_file(&path).unwrap();
    let catalog = open(&path).await.unwrap();
    assert_eq!(catalog.head().await.unwrap(), Head::default());
    catalog.close().await.unwrap();
    open(&path).await.unwrap();
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_found_by_the_check() {
    let (_folder, path) = closed_catalog(1000).await;
    let sound = open(&path).await.unwrap();
    assert!(sound.check_integrity().await.unwrap());
    sound.close().await.unwrap();
    let content = fs::read(&path).unwrap();
    let damaged = |page: usize| {
        let mut content = content.clone();
        content[page * 4096..][..4096].fill(0xA5);
        content
    };
    let pages = content.len() / 4096;
    let mut found = 0;
    for page in 1..pages {
        fs::write(&path, damaged(page)).unwrap();
        let catalog = match open(&path).await {
            Ok(catalog) => catalog,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "page {page}: {error:?}");
                found += 1;
                continue;
            }
        };
        match catalog.check_integrity().await {
            Ok(is_sound) => {
                found += usize::from(!is_sound);
                assert_eq!(
                    count(&catalog).await.unwrap(),
                    1000,
                    "page {page} held nothing, or could be repaired"
                );
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "page {page}: {error:?}");
                found += 1;
            }
        }
        catalog.close().await.unwrap();
    }
    assert!(
        found * 4096 > 1000 * 300,
        "{found} of {pages} pages were found damaged, fewer than hold the records"
    );
}
