//! A real file system whose power is cut: ext4 in a file, copied at the moment of each acknowledgement.
//!
//! The copy holds what the file system had sent to its disk, and nothing of what it still kept in memory. Mounting takes
//! root, so this runs where there is; the trials on recorded disks run everywhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use copyseg_core::{Catalog, JobId, ManagerOptions, MetaManager, NewJob, Result};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_sled::{SledCatalog, SledOptions};
use copyseg_torture::{Trial, Visible, run};
use tempfile::TempDir;

const IMAGE_BYTES: u64 = 64 << 20;

/// A mounted image. Dropped, it is unmounted.
struct Mounted(PathBuf);

impl Mounted {
    /// Writes nothing back on its own for as long as a trial lasts.
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        succeeds(Command::new("mount").args(["-o", "loop,commit=900"]).args([image, at]))
            .then(|| Self(at.into()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The threads of a catalog that was closed may have its files open for a moment.
        for _ in 0..200 {
            if succeeds(Command::new("umount").arg(&self.0)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        succeeds(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn succeeds(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

/// An empty ext4, if this machine lets us mount one.
fn file_system(folder: &TempDir) -> Option<(PathBuf, Mounted)> {
    let image = folder.path().join("disk");
    File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    if !succeeds(Command::new("mkfs.ext4").arg("-qF").arg(&image)) {
        return None;
    }
    let mounted = Mounted::mount(&image, &folder.path().join("mounted"))?;
    Some((image, mounted))
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Redb,
    Sled,
}

async fn open(kind: Kind, folder: &Path) -> Result<Arc<dyn Catalog>> {
    let path = folder.join("catalog");
    Ok(match kind {
        Kind::Redb => Arc::new(RedbCatalog::open(path, RedbOptions::default()).await?),
        Kind::Sled => Arc::new(SledCatalog::open(path, SledOptions::default()).await?),
    })
}

#[test]
fn redb_keeps_on_ext4_what_it_acknowledged_when_the_power_is_cut() {
    cut_again_and_again("redb_keeps_on_ext4_what_it_acknowledged_when_the_power_is_cut", Kind::Redb);
}

#[test]
fn sled_keeps_on_ext4_what_it_acknowledged_when_the_power_is_cut() {
    cut_again_and_again("sled_keeps_on_ext4_what_it_acknowledged_when_the_power_is_cut", Kind::Sled);
}

fn cut_again_and_again(name: &'static str, kind: Kind) {
    let mut trial = Trial::new(name, 1);
    while let Some(mut round) = trial.round() {
        let folder = tempfile::tempdir().unwrap();
        let Some((image, mounted)) = file_system(&folder) else {
            eprintln!("{name}: NOT RUN, mounting a file system takes root, a loop device and mkfs.ext4");
            round.count("rounds not run", 1);
            return;
        };
        round.count("power cuts", run(false, cut_after_each_commit(kind, &folder, &image, &mounted.0)));
    }
}

async fn cut_after_each_commit(kind: Kind, folder: &TempDir, image: &Path, mounted: &Path) -> u64 {
    const COMMITS: u64 = 10;
    let manager = open(kind, mounted).await.unwrap();
    let manager = MetaManager::open(manager, ManagerOptions::default()).await.unwrap();
    for number in 1..=COMMITS {
        let id = Some(JobId(number as i64));
        manager.add_job(NewJob { id, ..NewJob::default() }, vec![]).await.unwrap();
        let acknowledged = Visible::of(&manager.snapshot().unwrap());
        // A file of its own: one that is still mounted would be mounted again as it is in memory.
        let copy = folder.path().join(format!("copy-{number}"));
        fs::copy(image, &copy).unwrap();
        let after = Mounted::mount(&copy, &folder.path().join("after")).unwrap();
        let catalog = open(kind, &after.0).await.unwrap();
        assert_eq!(Visible::stored(&*catalog).await, acknowledged, "after commit {number}");
        catalog.close().await.unwrap();
        drop((catalog, after));
        fs::remove_file(copy).unwrap();
    }
    manager.close().await.unwrap();
    COMMITS
}
