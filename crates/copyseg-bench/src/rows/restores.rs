//! P14, P15: whole restores between local directories, beside a bare loop that does the same to every file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use copyseg_core::{Catalog, ManagerOptions, MetaManager};
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_restore::{CancellationToken, Outcome, RestoreOptions, RestoreProgress, RestoreRequest, restore};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;

use super::Context;
use crate::Result;
use crate::measure::{Samples, Unit, alternate_times, turns};
use crate::prepared::{Counted, repeat};
use crate::table::Row;
use crate::workload::Random;

/// How many files are copied at once, by copyseg as by the loops that it is held against.
const IN_FLIGHT: usize = 16;

/// A snapshot to restore.
struct Snapshot {
    segments: usize,
    bytes: usize,
}

pub(super) fn large(context: &Context) -> Result<Vec<Row>> {
    let snapshot = Snapshot { segments: 2_000, bytes: 2_000_000 };
    let stage = Stage::new(context, &snapshot)?;
    let mut seen = Turns::default();
    // Whoever is first to fill the page cache of a virtual machine waits for its host to supply the memory.
    stage.bare()?;
    let [copyseg, bare] =
        alternate_times(turns(), false, [&mut || stage.turn(context, &mut seen), &mut || stage.bare()])?;
    // Apart, because they leave the disk more to do, from which whoever comes next suffers.
    let [again, objects, copy] = alternate_times(
        turns().min(3),
        false,
        [
            &mut || Ok(stage.restore(context, IN_FLIGHT)?.0),
            &mut || stage.objects(context, IN_FLIGHT),
            &mut || stage.cp(),
        ],
    )?;
    let ratio = copyseg.over(&bare);
    let by = |workload: &str, copyseg: &Samples, limit: &Samples, what: &str| Row {
        id: "P14",
        workload: workload.into(),
        copyseg: copyseg.show(Unit::Nanos),
        limit: format!("{} ({what})", limit.show(Unit::Nanos)),
        ratios: copyseg.over(limit).show(Unit::Ratio),
        ..Row::default()
    };
    let to_loop = by("restore 2,000 segments, 4 GB, local disk", &copyseg, &bare, "bare loop");
    Ok(vec![
        Row { target: "≤ 1.15 × the loop".into(), met: Some(ratio.median() <= 1.15), ..to_loop },
        seen.metadata("P14"),
        by(
            "the same by a loop over `object_store`, and `sync -f`, which verifies nothing",
            &again,
            &objects,
            "16 files at once",
        ),
        by("the same by `cp -r`, and `sync -f`, which verifies nothing", &again, &copy, "one file at once"),
        file_by_file(context)?,
    ])
}

/// One file at a time, so that the time for a file is that of its own way and not of its neighbours'.
fn file_by_file(context: &Context) -> Result<Row> {
    let snapshot = Snapshot { segments: 200, bytes: 2_000_000 };
    let stage = Stage::new(context, &snapshot)?;
    let [copyseg, bare, objects] = alternate_times(
        turns().min(3),
        false,
        [&mut || Ok(stage.restore(context, 1)?.0), &mut || stage.bare_with(1), &mut || {
            stage.objects(context, 1)
        }],
    )?;
    let per_file = |it: &Samples| it.map(|nanos| nanos / snapshot.segments as f64).show(Unit::Nanos);
    Ok(Row {
        id: "P14",
        workload: "file by file: 2 MB, one at a time, of 200, 3 turns at most".into(),
        copyseg: per_file(&copyseg),
        limit: format!("{} (bare loop); {} (`object_store`)", per_file(&bare), per_file(&objects)),
        ratios: format!(
            "{}; {}",
            copyseg.over(&bare).show(Unit::Ratio),
            copyseg.over(&objects).show(Unit::Ratio)
        ),
        ..Row::default()
    })
}

pub(super) fn small(context: &Context) -> Result<Vec<Row>> {
    let snapshot = Snapshot { segments: 100_000, bytes: 1_024 };
    let stage = Stage::new(context, &snapshot)?;
    // One turn takes a minute, and all of the table no more than twenty.
    let (mut seen, times) = (Turns::default(), 1);
    let [copyseg, bare] =
        alternate_times(times, false, [&mut || stage.turn(context, &mut seen), &mut || stage.bare()])?;
    let (ratio, tasks) = (copyseg.over(&bare), stage.tasks());
    let restored = Row {
        id: "P15",
        workload: format!(
            "restore 100,000 segments of 1 KiB, {times} turns; {} commits for {tasks} tasks",
            seen.commits_max
        ),
        copyseg: copyseg.show(Unit::Nanos),
        limit: format!("{} (bare loop)", bare.show(Unit::Nanos)),
        ratios: ratio.show(Unit::Ratio),
        target: "≤ 1.3 × the loop, commits ≤ tasks / 8".into(),
        met: Some(ratio.median() <= 1.3 && 8 * seen.commits_max <= tasks as u64),
        ..Row::default()
    };
    Ok(vec![restored, seen.metadata("P15")])
}

/// What is known of copyseg's turns besides how long they took.
#[derive(Default)]
struct Turns {
    /// The percentage of each turn that its commits take when they are made once more, alone.
    alone: Samples,
    /// The percentage of each turn in which a commit was under way.
    under_way: Samples,
    /// The most commits of a turn.
    commits_max: u64,
}

impl Turns {
    /// How much of the time the metadata took. Most of the time in which a commit is under way it waits for a disk that
    /// is busy with the copies.
    fn metadata(&self, id: &'static str) -> Row {
        Row {
            id,
            workload: "the share of its commits, made once more alone; the share in which one was under way"
                .into(),
            copyseg: format!(
                "{}; {}",
                self.alone.show(Unit::Percent),
                Unit::Percent.show(self.under_way.median())
            ),
            target: "< 3 %".into(),
            met: Some(self.alone.median() < 3.0),
            ..Row::default()
        }
    }
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

    /// How many tasks copyseg makes of it.
    fn tasks(&self) -> usize {
        self.segments.div_ceil(RestoreOptions::SEGMENTS_PER_TASK)
    }

    /// A turn of copyseg, and its commits once more, which are not part of its time.
    fn turn(&self, context: &Context, turns: &mut Turns) -> Result<f64> {
        let (nanos, catalog) = self.restore(context, IN_FLIGHT)?;
        let commits = catalog.counts();
        turns.under_way.0.push(100.0 * commits.nanos as f64 / nanos);
        turns.commits_max = turns.commits_max.max(commits.commits);
        self.clear()?;
        let path = self.path("catalog.redb");
        let alone = context.runtime.block_on(async {
            let empty = RedbCatalog::open(&path, RedbOptions::default()).await?;
            let start = Instant::now();
            let head = empty.acquire().await?;
            repeat(&empty, head, &catalog.take()).await?;
            let alone = start.elapsed();
            empty.close().await?;
            Result::Ok(alone)
        })?;
        turns.alone.0.push(100.0 * alone.as_nanos() as f64 / nanos);
        Ok(nanos)
    }

    /// How many nanoseconds copyseg takes from opening its catalog to closing it, and what it committed.
    fn restore(&self, context: &Context, in_flight: usize) -> Result<(f64, Arc<Counted>)> {
        self.clear()?;
        let (source, target) = (self.path("snapshot"), self.path("restored"));
        let mut request = RestoreRequest::new(&source.to_string_lossy(), &target.to_string_lossy())?;
        request.options.objects_in_flight = in_flight;
        let path = self.path("catalog.redb");
        let start = Instant::now();
        let (outcome, catalog) = context.runtime.block_on(async {
            let catalog = RedbCatalog::open(&path, RedbOptions::default()).await?;
            let catalog = Arc::new(Counted::keeping(Arc::new(catalog)));
            let counted = Arc::clone(&catalog) as Arc<dyn Catalog>;
            let manager = MetaManager::open(counted, ManagerOptions::default()).await?;
            let progress = tokio::sync::watch::Sender::new(RestoreProgress::default());
            let url = format!("redb:{}", path.display());
            let outcome = restore(&manager, &url, &request, &progress, &CancellationToken::new()).await?;
            manager.close().await?;
            Result::Ok((outcome, catalog))
        })?;
        let nanos = start.elapsed().as_nanos() as f64;
        match outcome {
            Outcome::Completed { segments, .. } if segments == self.segments as u64 => Ok((nanos, catalog)),
            other => Err(format!("the restore ended as {other:?}").into()),
        }
    }

    /// The same reads, writes, checksums and syncs, as many at once, by threads that do nothing else.
    fn bare(&self) -> Result<f64> {
        self.bare_with(IN_FLIGHT)
    }

    fn bare_with(&self, in_flight: usize) -> Result<f64> {
        self.clear()?;
        let next = AtomicUsize::new(1);
        let start = Instant::now();
        let (source, target) = (self.path("snapshot"), self.path("restored"));
        fs::create_dir_all(target.join("staging"))?;
        thread::scope(|scope| {
            let copy = || -> Result<()> {
                let mut buffer = vec![0; 256 << 10];
                loop {
                    let segment = next.fetch_add(1, Ordering::Relaxed);
                    if segment > self.segments {
                        return Ok(());
                    }
                    copy_segment(&source, &target, segment, &mut buffer)?;
                }
            };
            let threads: Vec<_> = (0..in_flight).map(|_| scope.spawn(copy)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a copy panicked")?)
        })?;
        File::open(&target)?.sync_all()?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    /// Each file read whole and put as another, by `object_store` alone, and one sync of it all.
    fn objects(&self, context: &Context, in_flight: usize) -> Result<f64> {
        self.clear()?;
        let start = Instant::now();
        fs::create_dir_all(self.path("restored"))?;
        let source = &LocalFileSystem::new_with_prefix(self.path("snapshot"))?;
        let target = &LocalFileSystem::new_with_prefix(self.path("restored"))?;
        context.runtime.block_on(
            stream::iter(1..=self.segments)
                .map(|segment| async move {
                    let path = ObjectPath::from(format!("{segment}/vectors.npy"));
                    let bytes = source.get(&path).await?.bytes().await?;
                    target.put(&path, bytes.into()).await.map(drop)
                })
                .buffer_unordered(in_flight)
                .try_collect::<()>(),
        )?;
        self.sync()?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    fn cp(&self) -> Result<f64> {
        self.clear()?;
        let start = Instant::now();
        let copied =
            Command::new("cp").arg("-r").args([self.path("snapshot"), self.path("restored")]).status()?;
        if !copied.success() {
            return Err("cp failed".into());
        }
        self.sync()?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    fn sync(&self) -> Result<()> {
        match Command::new("sync").arg("-f").arg(self.path("restored")).status()?.success() {
            true => Ok(()),
            false => Err("sync failed".into()),
        }
    }
}

/// Copies the one file of a segment through a staging file, syncs it and its folder, and reads it back. The folder of all
/// segments is synced as often as by copyseg, once for each task.
fn copy_segment(source: &Path, target: &Path, segment: usize, buffer: &mut [u8]) -> Result<()> {
    let folder = target.join(segment.to_string());
    let staged = target.join("staging").join(segment.to_string());
    let mut from = File::open(source.join(segment.to_string()).join("vectors.npy"))?;
    let mut to = File::create(&staged)?;
    let written = read_all(&mut from, buffer, |chunk| to.write_all(chunk))?;
    to.sync_all()?;
    drop(to);
    fs::create_dir_all(&folder)?;
    let path = folder.join("vectors.npy");
    fs::rename(&staged, &path)?;
    if read_all(&mut File::open(&path)?, buffer, |_| Ok(()))? != written {
        return Err("a copy differs".into());
    }
    File::open(&folder)?.sync_all()?;
    if segment.is_multiple_of(RestoreOptions::SEGMENTS_PER_TASK) {
        File::open(target)?.sync_all()?;
    }
    Ok(())
}

/// The checksum of what `chunk` was given.
fn read_all(
    file: &mut File,
    buffer: &mut [u8],
    mut chunk: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<u32> {
    let mut sum = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(sum),
            read => {
                sum = crc32c::crc32c_append(sum, &buffer[..read]);
                chunk(&buffer[..read])?;
            }
        }
    }
}
