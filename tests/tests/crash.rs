//! A restore that is killed again and again ends as if nothing had happened.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use copyseg_tests::{OUTCOME, Random, Stage};
use rustix::process::Signal;

const SEGMENTS: usize = 2_000;
const SEGMENT_BYTES: usize = 260_000;
const KILLS: u64 = 20;

/// How often a kill is tried that comes too late.
const TRIES: u32 = 20;

#[test]
fn a_restore_killed_at_20_points_of_its_progress_is_whole_in_the_end() {
    let mut random = Random::replayable();
    let stage = Stage::new(SEGMENTS, SEGMENT_BYTES, random.draw());
    assert!(stage.snapshot.segments.len() >= 2_000 && stage.snapshot.bytes >= 500_000_000);

    for kill in 0..KILLS - 1 {
        // One point in each stretch of the way, so that they are spread over all of it but the end, where a run would be
        // over before a busy machine gets to kill it.
        let stretch = SEGMENTS as u64 * 9 / 10 / (KILLS - 1);
        let point = kill * stretch + random.below(stretch);
        // And not always at the moment at which a folder appears.
        let later = Duration::from_micros(random.below(20_000));
        let tries = (0..TRIES).find(|_| is_killed_on_its_way(&stage, point as usize, later));
        assert!(tries.is_some(), "kill {kill} came after the end of its run {TRIES} times");
    }
    kill_at_the_manifest(&stage);
    let already = stage.job()["state"] == "completed";

    let restored = stage.restore().run().exits(0).json();
    assert_eq!(restored["already"], already);
    assert_eq!(restored["segments"], SEGMENTS);
    assert_eq!(restored["bytes"], stage.snapshot.bytes);
    stage.assert_completed();
}

#[test]
fn a_restore_killed_between_its_manifest_and_its_record_is_completed_by_the_next_run() {
    const ATTEMPTS: u32 = 100;
    let stage = Stage::small();
    for attempt in 1..=ATTEMPTS {
        kill_at_the_manifest(&stage);
        let job = stage.job();
        if job["state"] == "publishing" {
            eprintln!("hit in attempt {attempt}");
            let before = fs::read(stage.join("restored").join(OUTCOME)).unwrap();
            let restored = stage.restore().run().exits(0).json();
            assert_eq!(restored["job"], job["id"], "it is the same job");
            assert_eq!(fs::read(stage.join("restored").join(OUTCOME)).unwrap(), before, "it is written once");
            stage.assert_completed();
            return;
        }
        assert_eq!(job["state"], "completed");
        stage.clear();
    }
    panic!("none of {ATTEMPTS} kills hit between the manifest and the record");
}

#[test]
fn a_restore_killed_at_any_moment_of_its_start_goes_on_the_next_time() {
    let mut random = Random::replayable();
    let stage = Stage::small();
    for _ in 0..5 {
        for _ in 0..8 {
            let run = stage.restore().start_quietly();
            sleep(Duration::from_micros(random.below(150_000)));
            run.kill();
        }
        stage.restore().run().exits(0);
        stage.assert_completed();
        stage.clear();
    }
}

/// Kills a restore some time after so many segment folders are there; whether that was before its manifest. If the test was
/// held up until the run was over, nothing is left of it.
fn is_killed_on_its_way(stage: &Stage, segments: usize, later: Duration) -> bool {
    let run = stage.restore().start_quietly();
    stage.wait_for_segments(&run, segments);
    sleep(later);
    run.signal(Signal::STOP);
    let is_on_its_way = !stage.join("restored").join(OUTCOME).exists();
    if run.has_ended() {
        run.finish().exits(0);
    } else {
        assert!(run.kill(), "it stood still");
    }
    if !is_on_its_way {
        stage.clear();
    }
    is_on_its_way
}

/// Runs the restore and kills it as soon as its manifest is there: most often before its job is completed.
fn kill_at_the_manifest(stage: &Stage) {
    let manifest = stage.join("restored").join(OUTCOME);
    let run = stage.restore().start_quietly();
    while !manifest.exists() && !run.has_ended() {
        std::hint::spin_loop();
    }
    run.kill();
    assert!(manifest.exists(), "it was killed after the manifest");
}
