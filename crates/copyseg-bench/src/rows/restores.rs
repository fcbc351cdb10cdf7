//! P14, P15: whole restores between local directories, beside a bare loop that does the same to every file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use copyseg_core::{Catalog, ManagerOptions, MemoryCatalog, MetaManager};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_restore::{CancellationToken, Outcome, RestoreOptions, RestoreProgress, RestoreRequest, restore};

use super::Context;
use crate::Result;
use crate::measure::{Samples, Unit, alternate_times};
use crate::prepared::{Commits, Counted};
use crate::table::Row;
use crate::workload::Random;

/// A snapshot to restore.
struct Snapshot {
    segments: usize,
    bytes: usize,
    repeats: usize,
}

pub(super) fn large(context: &Context) -> Result<Vec<Row>> {
    let snapshot = Snapshot { segments: 2_000, bytes: 2_000_000, repeats: 5 };
    let stage = Stage::new(context, &snapshot)?;
    let (mut shares, mut in_memory) = (Samples::default(), Samples::default());
    let [copyseg, bare, copy] = alternate_times(
        snapshot.repeats,
        false,
        [
            &mut || {
                let (nanos, _, commits) = stage.restore(context, true)?;
                shares.0.push(100.0 * commits.nanos as f64 / nanos);
                // The same with its records in memory: what is left of the difference is what keeping them costs.
                in_memory.0.push(stage.restore(context, false)?.0);
                Ok(nanos)
            },
            &mut || stage.bare(),
            &mut || stage.cp(),
        ],
    )?;
    let ratio = copyseg.over(&bare);
    let kept =
        Samples(copyseg.0.iter().zip(&in_memory.0).map(|(kept, not)| 100.0 * (kept - not) / kept).collect());
    Ok(vec![
        Row {
            id: "P14",
            workload: "restore 2,000 segments, 4 GB, local disk".into(),
            copyseg: copyseg.show(Unit::Nanos),
            limit: format!("{} (bare loop)", bare.show(Unit::Nanos)),
            ratios: ratio.show(Unit::Ratio),
            target: "≤ 1.15 × the loop".into(),
            met: Some(ratio.median() <= 1.15),
            ..Row::default()
        },
        Row {
            id: "P14",
            workload: "the time that keeping its records adds; the time in which a commit was under way"
                .into(),
            copyseg: format!("{}; {}", kept.show(Unit::Percent), shares.show(Unit::Percent)),
            target: "< 3 %".into(),
            met: Some(kept.median() < 3.0),
            ..Row::default()
        },
        Row {
            id: "P14",
            workload: "the same by `cp -r` and `sync -f`, which verifies nothing".into(),
            copyseg: copyseg.show(Unit::Nanos),
            limit: copy.show(Unit::Nanos),
            ratios: copyseg.over(&copy).show(Unit::Ratio),
            ..Row::default()
        },
    ])
}

pub(super) fn small(context: &Context) -> Result<Vec<Row>> {
    let repeated = Snapshot { segments: 10_000, bytes: 1_024, repeats: 5 };
    let whole = Snapshot { segments: 100_000, bytes: 1_024, repeats: 1 };
    let mut rows = Vec::new();
    for snapshot in [repeated, whole] {
        let stage = Stage::new(context, &snapshot)?;
        let mut counts = (0, 0);
        let [copyseg, bare] = alternate_times(
            snapshot.repeats,
            false,
            [
                &mut || {
                    let (nanos, tasks, commits) = stage.restore(context, true)?;
                    counts = (commits.commits, tasks);
                    Ok(nanos)
                },
                &mut || stage.bare(),
            ],
        )?;
        let (ratio, (commits, tasks)) = (copyseg.over(&bare), counts);
        rows.push(Row {
            id: "P15",
            workload: format!(
                "restore {} segments of 1 KiB, {} times; {commits} commits for {tasks} tasks",
                snapshot.segments, snapshot.repeats
            ),
            copyseg: copyseg.show(Unit::Nanos),
            limit: format!("{} (bare loop)", bare.show(Unit::Nanos)),
            ratios: ratio.show(Unit::Ratio),
            target: "≤ 1.3 × the loop, commits ≤ tasks / 8".into(),
            met: Some(ratio.median() <= 1.3 && 8 * commits <= tasks as u64),
            ..Row::default()
        });
    }
    Ok(rows)
}

/// A snapshot on the disk that is measured, and room to restore it.
struct Stage {
    folder: tempfile::TempDir,
    segments: usize,
}

impl Stage {
    fn new(context: &Context, snapshot: &Snapshot) -> Result<Self> {
        let folder = tempfile::tempdir_in(&context.scratch)?;
        let mut random = Random(snapshot.segments as u64);
        let content: Vec<u8> =
            (0..snapshot.bytes / 8 + 1).flat_map(|_| random.draw().to_le_bytes()).collect();
        for segment in 1..=snapshot.segments {
            let path = folder.path().join("snapshot").join(segment.to_string());
            fs::create_dir_all(&path)?;
            let mut file = File::create(path.join("vectors.npy"))?;
            file.write_all(&segment.to_le_bytes())?;
            file.write_all(&content[..snapshot.bytes - 8])?;
        }
        Command::new("sync").status()?;
        Ok(Self { folder, segments: snapshot.segments })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Removes what a turn left, outside of its time.
    fn clear(&self) -> Result<()> {
        let _ = fs::remove_dir_all(self.path("restored"));
        let _ = fs::remove_file(self.path("catalog.redb"));
        Command::new("sync").status()?;
        Ok(())
    }

    /// How long copyseg takes from opening its catalog to closing it; its tasks, and what it committed.
    fn restore(&self, context: &Context, durable: bool) -> Result<(f64, usize, Commits)> {
        self.clear()?;
        let (source, target) = (self.path("snapshot"), self.path("restored"));
        let request = RestoreRequest::new(&source.to_string_lossy(), &target.to_string_lossy())?;
        let catalog_path = self.path("catalog.redb");
        let start = Instant::now();
        let (outcome, commits) = context.runtime.block_on(async {
            let catalog: Arc<dyn Catalog> = match durable {
                true => Arc::new(RedbCatalog::open(&catalog_path, RedbOptions::default()).await?),
                false => Arc::new(MemoryCatalog::new()),
            };
            let catalog = Arc::new(Counted::new(catalog));
            let counted = Arc::clone(&catalog) as Arc<dyn Catalog>;
            let manager = MetaManager::open(counted, ManagerOptions::default()).await?;
            let progress = tokio::sync::watch::Sender::new(RestoreProgress::default());
            let url = format!("redb:{}", catalog_path.display());
            let outcome = restore(&manager, &url, &request, &progress, &CancellationToken::new()).await?;
            manager.close().await?;
            Result::Ok((outcome, catalog.counts()))
        })?;
        let nanos = start.elapsed().as_nanos() as f64;
        match outcome {
            Outcome::Completed { segments, .. } if segments == self.segments as u64 => {
                let tasks = self.segments.div_ceil(RestoreOptions::SEGMENTS_PER_TASK);
                Ok((nanos, tasks, commits))
            }
            other => Err(format!("the restore ended as {other:?}").into()),
        }
    }

    /// The same reads, writes, checksums and syncs, as many at once, by threads that do nothing else.
    fn bare(&self) -> Result<f64> {
        self.clear()?;
        let next = AtomicUsize::new(1);
        let start = Instant::now();
        let (source, target) = (self.path("snapshot"), self.path("restored"));
        fs::create_dir_all(target.join("staging"))?;
        thread::scope(|scope| {
            let copy = || -> Result<()> {
                loop {
                    let segment = next.fetch_add(1, Ordering::Relaxed);
                    if segment > self.segments {
                        return Ok(());
                    }
                    copy_segment(&source, &target, segment)?;
                }
            };
            let threads: Vec<_> =
                (0..RestoreOptions::default().objects_in_flight).map(|_| scope.spawn(copy)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a copy panicked")?)
        })?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    fn cp(&self) -> Result<f64> {
        self.clear()?;
        let start = Instant::now();
        let copied =
            Command::new("cp").arg("-r").args([self.path("snapshot"), self.path("restored")]).status()?;
        let synced = Command::new("sync").arg("-f").arg(self.path("restored")).status()?;
        match copied.success() && synced.success() {
            true => Ok(start.elapsed().as_nanos() as f64),
            false => Err("cp or sync failed".into()),
        }
    }
}

/// Copies the one file of a segment through a staging file, syncs it and the folders, and reads it back.
fn copy_segment(source: &Path, target: &Path, segment: usize) -> Result<()> {
    let folder = target.join(segment.to_string());
    let staged = target.join("staging").join(segment.to_string());
    let mut from = File::open(source.join(segment.to_string()).join("vectors.npy"))?;
    let mut to = File::create(&staged)?;
    let written = read_all(&mut from, |chunk| to.write_all(chunk))?;
    to.sync_all()?;
    drop(to);
    fs::create_dir_all(&folder)?;
    let path = folder.join("vectors.npy");
    fs::rename(&staged, &path)?;
    if read_all(&mut File::open(&path)?, |_| Ok(()))? != written {
        return Err("a copy differs".into());
    }
    File::open(&folder)?.sync_all()?;
    File::open(target)?.sync_all()?;
    Ok(())
}

/// The checksum of what `chunk` was given.
fn read_all(file: &mut File, mut chunk: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<u32> {
    let (mut buffer, mut sum) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum),
            read => {
                sum = crc32c::crc32c_append(sum, &buffer[..read]);
                chunk(&buffer[..read])?;
            }
        }
    }
}
