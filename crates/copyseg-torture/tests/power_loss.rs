//! The power is cut at every sync of a workload, and at moments between: what was acknowledged is there, whole, and
//! nothing else but the commit that was under way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[cfg(target_os = "linux")]
#[path = "power_loss/file_system.rs"]
mod file_system;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use copyseg_core::{Catalog, ManagerOptions, MetaManager};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_sled::{SledCatalog, SledOptions};
use copyseg_torture::history::{Client, Recorder};
use copyseg_torture::power_loss::{Cuts, Disk, Remains, Witness};
use copyseg_torture::{Round, Trial, run};
use fastrand::Rng;
use tempfile::TempDir;

const CLIENTS: u64 = 4;
const STEPS: u32 = 30;

#[test]
fn a_power_cut_leaves_redb_at_an_acknowledged_commit_or_the_one_under_way() {
    let mut trial = Trial::new("a_power_cut_leaves_redb_at_an_acknowledged_commit_or_the_one_under_way", 3);
    while let Some(round) = trial.round() {
        run(false, cut_redb(round, Disk::default()));
    }
    assert!(trial.counted("sync points") > 0);
}

#[test]
fn a_power_cut_leaves_sled_at_an_acknowledged_commit_or_the_one_under_way() {
    let mut trial = Trial::new("a_power_cut_leaves_sled_at_an_acknowledged_commit_or_the_one_under_way", 2);
    while let Some(round) = trial.round() {
        run(false, cut_sled(round, true));
    }
    assert!(trial.counted("sync points") > 0);
}

/// The trials themselves, tried.
#[test]
#[should_panic(expected = "was acknowledged")]
fn a_redb_whose_disk_ignores_syncs_is_caught() {
    let mut trial = Trial::new("a_redb_whose_disk_ignores_syncs_is_caught", 1);
    run(false, cut_redb(trial.round().unwrap(), Disk::that_ignores_syncs()));
}

#[test]
#[should_panic(expected = "was acknowledged")]
fn a_sled_whose_disk_ignores_syncs_is_caught() {
    let mut trial = Trial::new("a_sled_whose_disk_ignores_syncs_is_caught", 1);
    run(false, cut_sled(trial.round().unwrap(), false));
}

async fn cut_redb(mut round: Round<'_>, disk: Disk) {
    let mut random = Rng::with_seed(round.seed());
    let witness = Witness::new(Arc::new(open_redb(disk.clone()).await), disk.clone());
    work(&witness, &mut random).await;
    round.count("commits", witness.commits() as u64);
    let mut cuts = disk.cuts_from(witness.first());
    loop {
        for remains in Remains::ALL {
            let catalog = open_redb(Disk::of(cuts.disk(remains, &mut random))).await;
            witness.check(cuts.at(), &catalog).await;
            goes_on(catalog, &mut random).await;
            round.count("cuts", 1);
        }
        if !next_cut(&mut cuts, &mut round, &mut random) {
            break;
        }
    }
}

async fn open_redb(disk: Disk) -> RedbCatalog {
    let options = RedbOptions { cache_size_bytes: 0, ..Default::default() };
    RedbCatalog::with_backend(move || Ok(disk.clone()), options).await.unwrap()
}

/// What sled writes goes to the system, so what is on its disk is looked at whenever it is about to be synced. A sync comes
/// after the write, or the commit would not be among what was synced; and before the acknowledgement, or it would not have
/// been synced at all.
async fn cut_sled(mut round: Round<'_>, looks: bool) {
    let mut random = Rng::with_seed(round.seed());
    let (folder, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let path = folder.path().join("catalog.sled");
    let (log, synced) = (path.join("db"), disk.clone());
    let catalog = SledCatalog::with_sync(&path, SledOptions::default(), move |file| {
        if looks {
            synced.sync_of(&fs::read(&log)?);
        }
        file.sync_data()
    });
    let catalog = catalog.await.unwrap();
    // What copyseg syncs when it creates or opens a folder.
    disk.sync_of(&fs::read(path.join("db")).unwrap());
    let others = files_beside_the_log(&path);
    let witness = Witness::new(Arc::new(catalog), disk.clone());
    work(&witness, &mut random).await;
    round.count("commits", witness.commits() as u64);
    let mut cuts = disk.cuts_from(witness.first());
    loop {
        for remains in Remains::ALL {
            let folder = others(&cuts.disk(remains, &mut random));
            // It is written after a sync and not synced itself, so it may have got further than anything else.
            let note = witness.acknowledged_at(cuts.at()).to_bytes();
            fs::write(folder.path().join("copyseg.head"), note).unwrap();
            let catalog = SledCatalog::open(folder.path(), SledOptions::default()).await.unwrap();
            witness.check(cuts.at(), &catalog).await;
            goes_on(catalog, &mut random).await;
            round.count("cuts", 1);
        }
        if !next_cut(&mut cuts, &mut round, &mut random) {
            break;
        }
    }
}

/// Makes folders with the other files of a catalog as they are now, and a log of one's own.
fn files_beside_the_log(path: &Path) -> impl Fn(&[u8]) -> TempDir {
    let files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file() && entry.file_name() != "db")
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    move |log| {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("blobs")).unwrap();
        for (name, content) in &files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        fs::write(folder.path().join("db"), log).unwrap();
        folder
    }
}

/// Callers who change, add and remove, several at once, so that batches hold one transaction or many.
async fn work(witness: &Witness, random: &mut Rng) {
    let manager = MetaManager::open(Arc::new(witness.clone()), ManagerOptions::default()).await.unwrap();
    let recorder = Recorder::default();
    let life = recorder.open();
    let clients = (0..CLIENTS).map(|_| {
        let (recorder, manager) = (recorder.clone(), manager.clone());
        tokio::spawn(Client { recorder, manager, life, random: random.fork() }.run(STEPS))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    manager.close().await.unwrap();
}

/// Goes to the next sync, to one moment in eight between, or to the end.
fn next_cut(cuts: &mut Cuts, round: &mut Round<'_>, random: &mut Rng) -> bool {
    while cuts.advance() {
        let is_at_a_sync = cuts.is_before_a_sync();
        round.count("sync points", is_at_a_sync.into());
        if is_at_a_sync || cuts.is_at_the_end() || random.u32(0..8) == 0 {
            return true;
        }
    }
    false
}

/// Now and then, whether the store takes more work.
async fn goes_on(catalog: impl Catalog + 'static, random: &mut Rng) {
    if random.u32(0..8) == 0 {
        let manager = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
        manager.allocate_ids(1).await.unwrap();
        manager.close().await.unwrap();
    } else {
        catalog.close().await.unwrap();
    }
}
