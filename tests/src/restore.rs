//! Restores of a generated snapshot in a scratch directory, and what must hold when they are complete.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::{Command, Generated, Running, Scratch, files_below, write_snapshot};

/// The file in a target that decides how its restore ended: the manifest, or the mark of an aborted restore.
pub const OUTCOME: &str = "_copyseg/outcome";

/// How many restores are started to catch one on its way.
const STARTS_MAX: u32 = 20;

/// A scratch directory with a generated `snapshot`, to be restored into `restored`.
#[derive(Debug)]
pub struct Stage {
    /// The directory.
    pub scratch: Scratch,
    /// What is in the snapshot.
    pub snapshot: Generated,
}

impl Stage {
    /// A snapshot of `segments` segments with `bytes` bytes each.
    pub fn new(segments: usize, bytes: usize, seed: u64) -> Self {
        let scratch = Scratch::new();
        let snapshot = write_snapshot(&scratch.join("snapshot"), segments, bytes, seed);
        Self { scratch, snapshot }
    }

    /// A snapshot that is restored in a moment.
    pub fn small() -> Self {
        Self::new(20, 2_000, 1)
    }

    /// A snapshot that takes long enough to be restored to be interrupted.
    pub fn large() -> Self {
        Self::new(400, 50_000, 2)
    }

    /// The path of `name` in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The command with these arguments, written as in a shell without quotes, in the directory.
    pub fn command(&self, line: &str) -> Command {
        Command::new(self.scratch.path(), line.split_whitespace())
    }

    /// The restore of the snapshot.
    pub fn restore(&self) -> Command {
        self.command("restore snapshot restored --output json")
    }

    /// A restore that stands still on its way: see [`stopped`](Self::stopped).
    ///
    /// # Panics
    /// If none is caught on its way.
    pub fn stopped_restore(&self) -> Running {
        self.stopped(|| self.restore().start_listening())
    }

    /// A run that `start` gives, with some segments in the target, but less than half of them. It stands still, so that it is
    /// on its way however long its test takes for the next step: send it SIGCONT, or kill it.
    ///
    /// A busy machine may hold the test up until the run has come further. Then it may end, all is [cleared](Self::clear), and
    /// there is another.
    ///
    /// # Panics
    /// If none is caught on its way, or one fails.
    pub fn stopped(&self, start: impl Fn() -> Running) -> Running {
        for _ in 0..STARTS_MAX {
            let run = start();
            self.wait_for_segments(&run, 10);
            run.signal(Signal::STOP);
            if !run.has_ended() && self.segment_folders() < self.snapshot.segments.len() / 2 {
                return run;
            }
            run.signal(Signal::CONT);
            run.finish().exits(0);
            self.clear();
        }
        panic!("each of {STARTS_MAX} restores was nearly over before it could be stopped");
    }

    /// Waits until so many segment folders are in the target, or the run has ended.
    pub fn wait_for_segments(&self, run: &Running, count: usize) {
        while self.segment_folders() < count && !run.has_ended() {
            sleep(Duration::from_micros(200));
        }
    }

    /// A restore that stands by, having found the leader, which must stand still.
    ///
    /// # Panics
    /// If it ends before, or names another leader.
    pub fn standby(&self, restore: Command, leader: &Running) -> Running {
        let notes = self.join("notes");
        let standby = restore.stderr(File::create(&notes).expect("a file can be created")).start();
        let note = standby.wait_for_note(&notes, "standing by");
        assert!(note.contains(&format!("process {}", leader.id())), "{note}");
        standby
    }

    /// Leaves behind what a restore does that is killed when it has copied some segments, but not all.
    ///
    /// # Panics
    /// If none is caught on its way.
    pub fn interrupted(&self) {
        assert!(self.stopped_restore().kill(), "it stood still");
    }

    /// The one job of the default catalog.
    ///
    /// # Panics
    /// If there is another number of jobs.
    pub fn job(&self) -> Value {
        let list = self.command("job list --catalog restored --output json").run().exits(0).json();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        list["items"][0].clone()
    }

    /// Removes everything but the snapshot.
    ///
    /// # Panics
    /// If it cannot be removed.
    pub fn clear(&self) {
        let entries = fs::read_dir(self.scratch.path()).expect("the directory can be read");
        for path in entries.map(|entry| entry.expect("the directory can be read").path()) {
            if path != self.join("snapshot") {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.expect("it can be removed");
            }
        }
    }

    /// Checks that the restore is complete and its catalog sound.
    ///
    /// # Panics
    /// If not.
    pub fn assert_completed(&self) {
        self.assert_restored();
        self.command("check --catalog restored").run().exits(0);
        assert_eq!(self.job()["state"], "completed");
    }

    /// Checks that every segment of the snapshot is in the target exactly once, byte by byte, in files of its own, and
    /// that nothing else is there.
    ///
    /// # Panics
    /// If not.
    pub fn assert_restored(&self) {
        let (source, target) = (self.join("snapshot"), self.join("restored"));
        let pairs = manifest(&target);
        let named: HashMap<i64, i64> = pairs.iter().copied().collect();
        let targets: HashSet<i64> = named.values().copied().collect();
        let segments = &self.snapshot.segments;
        assert_eq!(pairs.len(), segments.len(), "none is doubled in the manifest");
        assert_eq!(targets.len(), segments.len(), "each has a target of its own");
        assert!(
            segments.iter().all(|segment| named.contains_key(segment)),
            "none is missing in the manifest"
        );

        let mut expected: HashSet<_> =
            ["owner", "outcome"].map(|name| Path::new("_copyseg").join(name)).into();
        for (from, to) in &pairs {
            let folder = source.join(from.to_string());
            for file in files_below(&folder) {
                let copy = Path::new(&to.to_string()).join(&file);
                assert_copied(&folder.join(&file), &target.join(&copy));
                expected.insert(copy);
            }
        }
        let found: HashSet<_> = files_below(&target).into_iter().collect();
        let left: Vec<_> = found.symmetric_difference(&expected).collect();
        assert!(left.is_empty(), "left over or missing: {left:?}");
    }

    /// What tells each file in the target from any other that might take its place.
    ///
    /// # Panics
    /// If one cannot be looked at.
    pub fn identities(&self) -> Vec<(PathBuf, [i64; 3])> {
        let target = self.join("restored");
        let identity = |file: PathBuf| {
            let metadata = fs::metadata(target.join(&file)).expect("it was just found");
            let inode = i64::try_from(metadata.ino()).expect("inodes are small");
            (file, [inode, metadata.mtime_nsec(), metadata.ctime_nsec()])
        };
        files_below(&target).into_iter().map(identity).collect()
    }

    fn segment_folders(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.join("restored")) else { return 0 };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.parse::<i64>().is_ok()).count()
    }
}

/// The pairs of source and target segment that the manifest names.
fn manifest(target: &Path) -> Vec<(i64, i64)> {
    let content = fs::read(target.join(OUTCOME)).expect("there is a manifest");
    let manifest: Value = serde_json::from_slice(&content).expect("the manifest is JSON");
    let id = |value: &Value| value.as_str().and_then(|id| id.parse().ok()).expect("an id is a string");
    let segments = manifest["segments"].as_array().expect("the manifest lists segments");
    segments.iter().map(|segment| (id(&segment["source"]), id(&segment["target"]))).collect()
}

fn assert_copied(original: &Path, copy: &Path) {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(read(original) == read(copy), "{} differs from {}", copy.display(), original.display());
    let metadata = |path| fs::metadata(path).expect("it was just read");
    let (original, copied) = (metadata(original), metadata(copy));
    assert_ne!(
        (original.dev(), original.ino()),
        (copied.dev(), copied.ino()),
        "{} is a link",
        copy.display()
    );
    assert_eq!(copied.nlink(), 1, "{} is a link", copy.display());
}
