//! A restore that is killed again and again ends as if nothing had happened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use copyseg_tests::{Command, Random, Scratch, files_below, write_snapshot};
use serde_json::Value;

const SEGMENTS: usize = 2_000;
const SEGMENT_BYTES: usize = 260_000;
const KILLS: u64 = 20;

/// The manifest, which makes the restored segments visible.
const OUTCOME: &str = "_copyseg/outcome";

fn restore(scratch: &Scratch) -> Command {
    Command::new(scratch.path(), ["restore", "snapshot", "restored"]).args(["--output", "json"])
}

#[test]
fn a_restore_killed_at_20_points_of_its_progress_is_whole_in_the_end() {
    let mut random = Random::replayable();
    let scratch = Scratch::new();
    let (source, target) = (scratch.join("snapshot"), scratch.join("restored"));
    let generated = write_snapshot(&source, SEGMENTS, SEGMENT_BYTES, random.draw());
    assert!(generated.segments.len() >= 2_000 && generated.bytes >= 500_000_000, "{generated:?}");

    for kill in 0..KILLS - 1 {
        // One point in each stretch of the way, so that they are spread over all of it.
        let stretch = generated.segments.len() as u64 / (KILLS - 1);
        let point = kill * stretch + random.below(stretch);
        let mut run = restore(&scratch).start_quietly();
        while segment_folders(&target).len() < point as usize && !run.has_ended() {
            sleep(Duration::from_micros(200));
        }
        // And not always at the moment at which a folder appears.
        sleep(Duration::from_micros(random.below(20_000)));
        assert!(run.kill(), "kill {kill} came before the end of its run");
        assert!(!target.join(OUTCOME).exists(), "kill {kill} came before the manifest");
    }
    kill_at_the_manifest(&scratch, &target);
    let already = job(&scratch)["state"] == "completed";

    let restored = restore(&scratch).run().exits(0).json();
    assert_eq!(restored["already"], already);
    assert_eq!(restored["segments"], generated.segments.len());
    assert_eq!(restored["bytes"], generated.bytes);
    assert_restored(&source, &target, &generated.segments);
    assert_catalog_is_sound(&scratch);
}

#[test]
fn a_restore_killed_between_its_manifest_and_its_record_is_completed_by_the_next_run() {
    const ATTEMPTS: u32 = 100;
    let mut random = Random::replayable();
    let scratch = Scratch::new();
    let (source, target) = (scratch.join("snapshot"), scratch.join("restored"));
    let generated = write_snapshot(&source, 20, 2_000, random.draw());

    for attempt in 1..=ATTEMPTS {
        kill_at_the_manifest(&scratch, &target);
        let job = job(&scratch);
        if job["state"] == "publishing" {
            eprintln!("hit in attempt {attempt}");
            let before = fs::read(target.join(OUTCOME)).unwrap();
            let restored = restore(&scratch).run().exits(0).json();
            assert_eq!(restored["job"], job["id"], "it is the same job");
            assert_eq!(fs::read(target.join(OUTCOME)).unwrap(), before, "the manifest is written once");
            assert_restored(&source, &target, &generated.segments);
            assert_catalog_is_sound(&scratch);
            return;
        }
        assert_eq!(job["state"], "completed");
        fs::remove_dir_all(&target).unwrap();
        fs::remove_file(scratch.join("restored.copyseg.redb")).unwrap();
    }
    panic!("none of {ATTEMPTS} kills hit between the manifest and the record");
}

#[test]
fn a_restore_killed_at_any_moment_of_its_start_goes_on_the_next_time() {
    let mut random = Random::replayable();
    let scratch = Scratch::new();
    let (source, target) = (scratch.join("snapshot"), scratch.join("restored"));
    let generated = write_snapshot(&source, 20, 2_000, random.draw());

    for _ in 0..5 {
        for _ in 0..8 {
            let run = restore(&scratch).start_quietly();
            sleep(Duration::from_micros(random.below(150_000)));
            run.kill();
        }
        restore(&scratch).run().exits(0);
        assert_restored(&source, &target, &generated.segments);
        assert_catalog_is_sound(&scratch);
        fs::remove_dir_all(&target).unwrap();
        fs::remove_file(scratch.join("restored.copyseg.redb")).unwrap();
    }
}

/// Runs the restore and kills it as soon as its manifest is there: most often before its job is completed.
fn kill_at_the_manifest(scratch: &Scratch, target: &Path) {
    let mut run = restore(scratch).start_quietly();
    while !target.join(OUTCOME).exists() && !run.has_ended() {
        std::hint::spin_loop();
    }
    run.kill();
    assert!(target.join(OUTCOME).exists(), "it was killed after the manifest");
}

/// The one job of the catalog.
fn job(scratch: &Scratch) -> Value {
    let list =
        Command::new(scratch.path(), ["job", "list", "--catalog", "restored", "-o", "json"]).run().exits(0);
    let list = list.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    list["items"][0].clone()
}

fn assert_catalog_is_sound(scratch: &Scratch) {
    Command::new(scratch.path(), ["check", "--catalog", "restored"]).run().exits(0);
    assert_eq!(job(scratch)["state"], "completed");
}

/// Every segment of the source is in the target exactly once, byte by byte, in files of its own, and nothing else is
/// there.
fn assert_restored(source: &Path, target: &Path, segments: &[i64]) {
    let manifest: Value = serde_json::from_slice(&fs::read(target.join(OUTCOME)).unwrap()).unwrap();
    let pairs: Vec<(i64, i64)> = manifest["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| (id(&segment["source"]), id(&segment["target"])))
        .collect();
    let named: HashMap<i64, i64> = pairs.iter().copied().collect();
    let targets: HashSet<i64> = named.values().copied().collect();
    assert_eq!(pairs.len(), segments.len(), "none is doubled in the manifest");
    assert_eq!(targets.len(), segments.len(), "each has a target of its own");
    assert!(segments.iter().all(|segment| named.contains_key(segment)), "none is missing in the manifest");

    let mut expected: HashSet<PathBuf> =
        ["owner", "outcome"].map(|name| Path::new("_copyseg").join(name)).into();
    for (from, to) in &pairs {
        let folder = source.join(from.to_string());
        for file in files_below(&folder) {
            let copy = Path::new(&to.to_string()).join(&file);
            let (original, copied) = (folder.join(&file), target.join(&copy));
            assert!(
                fs::read(&original).unwrap() == fs::read(&copied).unwrap(),
                "{} differs",
                copied.display()
            );
            let (original, copied) = (fs::metadata(original).unwrap(), fs::metadata(copied).unwrap());
            assert_ne!(
                (original.dev(), original.ino()),
                (copied.dev(), copied.ino()),
                "it is a copy, not a link"
            );
            assert_eq!(copied.nlink(), 1);
            expected.insert(copy);
        }
    }
    let found: HashSet<PathBuf> = files_below(target).into_iter().collect();
    let left: Vec<_> = found.symmetric_difference(&expected).collect();
    assert!(left.is_empty(), "left over or missing: {left:?}");
}

fn id(value: &Value) -> i64 {
    value.as_str().unwrap().parse().unwrap()
}

/// The names of the segment folders in a target; none if it is not there yet.
fn segment_folders(target: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(target) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.parse::<i64>().is_ok()).collect()
}
