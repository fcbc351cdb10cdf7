//! The files of the catalogs on the local disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use copyseg_core::{Catalog, ManagerOptions, MetaManager, Result};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_sled::{SledCatalog, SledOptions};
use copyseg_torture::damage::{Finding, Written, spoils};
use copyseg_torture::{Round, Trial};
use futures::future::BoxFuture;
use tempfile::TempDir;

/// In the short form a round takes one byte in so many; so many rounds damage every byte.
const STRIDE: usize = 4001;

/// What lies behind the last byte that is not zero is damaged this far.
const BEYOND: usize = 512;

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a store as a process left them that closed it, and one that was killed.
struct Stored {
    written: Written,
    left: [(&'static str, Files); 2],
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_redb_file_shows_all_or_says_what_is_broken() {
    let stored = Stored::by(redb).await;
    let mut trial = Trial::new("a_damaged_redb_file_shows_all_or_says_what_is_broken", 1);
    while let Some(mut round) = trial.round() {
        stored.damage(&mut round, redb).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_sled_folder_shows_all_or_says_what_is_broken() {
    let stored = Stored::by(sled).await;
    let mut trial = Trial::new("a_damaged_sled_folder_shows_all_or_says_what_is_broken", 1);
    while let Some(mut round) = trial.round() {
        stored.damage(&mut round, sled).await;
    }
}

type Open = for<'a> fn(&'a Path, bool) -> BoxFuture<'a, Result<Arc<dyn Catalog>>>;

fn redb(folder: &Path, create: bool) -> BoxFuture<'_, Result<Arc<dyn Catalog>>> {
    Box::pin(async move {
        let options = RedbOptions { create, ..RedbOptions::default() };
        Ok(Arc::new(RedbCatalog::open(folder.join("catalog.redb"), options).await?) as Arc<dyn Catalog>)
    })
}

fn sled(folder: &Path, create: bool) -> BoxFuture<'_, Result<Arc<dyn Catalog>>> {
    Box::pin(async move {
        let options = SledOptions { create, ..SledOptions::default() };
        Ok(Arc::new(SledCatalog::open(folder, options).await?) as Arc<dyn Catalog>)
    })
}

impl Stored {
    async fn by(open: Open) -> Self {
        let folder = memory_folder();
        let manager = || async {
            MetaManager::open(open(folder.path(), true).await.unwrap(), ManagerOptions::default())
                .await
                .unwrap()
        };
        let first = manager().await;
        let written = Written::fill(&first).await.unwrap();
        let killed = read(folder.path());
        first.close().await.unwrap();
        // The tables that an engine writes when it opens a store are to be damaged too.
        manager().await.close().await.unwrap();
        Self { written, left: [("closed", read(folder.path())), ("killed", killed)] }
    }

    async fn damage(&self, round: &mut Round<'_>, open: Open) {
        let folder = memory_folder();
        for (how_left, files) in &self.left {
            for (name, bytes) in files {
                let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let length = bytes.len().min(used + BEYOND);
                // A small file is damaged whole.
                for (number, spoil) in spoils(length, round.seed(), STRIDE.min(length)).enumerate() {
                    let mut damaged = files.clone();
                    if !damaged.get_mut(name).is_some_and(|bytes| spoil.apply(bytes)) {
                        continue;
                    }
                    let copy = folder.path().join(format!("{how_left}-{name}-{number}"));
                    write(&copy, &damaged);
                    let found = self.written.find(&|| open(&copy, false)).await;
                    match found {
                        Ok(Finding::Whole) => round.count("whole", 1),
                        Ok(Finding::SetAside) => round.count("with a record set aside", 1),
                        Ok(Finding::Refused) => round.count("refused", 1),
                        Ok(Finding::RefusedLater) => round.count("refused when written to", 1),
                        Err(wrong) => panic!("{name} of a {how_left} store, {spoil}: {wrong}"),
                    }
                    fs::remove_dir_all(&copy).unwrap();
                }
            }
        }
    }
}

/// A folder that costs no disk, where there is one: nothing here depends on what a sync does.
fn memory_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn read(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

fn write(folder: &Path, files: &Files) {
    fs::create_dir(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}
