//! The power is cut at every sync of a workload, and at moments between: what was acknowledged is there, whole, and
//! nothing else but the commit that was under way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[cfg(target_os = "linux")]
#[path = "power_loss/file_system.rs"]
mod file_system;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Catalog, JobId, ManagerOptions, MetaManager, NewJob};
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
    // Filling a segment of the log takes too long for the short form.
    let is_long = trial.time_or(Duration::ZERO) > Duration::ZERO;
    while let Some(round) = trial.round() {
        let bulky = if is_long && round.seed() % 8 == 0 { BULKY_JOBS } else { 0 };
        run(false, cut_sled(round, true, bulky));
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
    run(false, cut_sled(trial.round().unwrap(), false, 0));
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
        if !next_cut(&mut cuts, &mut round, &mut random, 8) {
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
async fn cut_sled(mut round: Round<'_>, looks: bool, bulky: i64) {
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
    let full = fill(&witness, bulky).await;
    let one_in = if bulky > 0 { MANY } else { 8 };
    work(&witness, &mut random).await;
    round.count("commits", witness.commits() as u64);
    let mut cuts = disk.cuts_from(witness.first().max(full));
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
        if !next_cut(&mut cuts, &mut round, &mut random, one_in) {
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

/// As many as need a second segment of sled's log, of 8 MiB.
const BULKY_JOBS: i64 = 170;

/// Of so many steps, those to cut at are drawn.
const MANY: u32 = 800;

/// Adds large jobs, and answers how many steps the disk had done when the twentieth was acknowledged.
async fn fill(witness: &Witness, jobs: i64) -> usize {
    let manager = MetaManager::open(Arc::new(witness.clone()), ManagerOptions::default()).await.unwrap();
    let mut full = 0;
    for number in 0..jobs {
        let id = Some(JobId(1_000 + number));
        let job = NewJob { id, source: "bulky".repeat(10_000), ..NewJob::default() };
        manager.add_job(job, vec![]).await.unwrap();
        if number == 20 {
            full = witness.steps();
        }
    }
    full
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

/// Goes to the next sync (of many, to one in six), to one moment in so many between, or to the end.
fn next_cut(cuts: &mut Cuts, round: &mut Round<'_>, random: &mut Rng, one_in: u32) -> bool {
    while cuts.advance() {
        let is_at_a_sync = cuts.is_before_a_sync() && (one_in < MANY || random.u32(0..6) == 0);
        round.count("sync points", is_at_a_sync.into());
        if is_at_a_sync || cuts.is_at_the_end() || random.u32(0..one_in) == 0 {
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
