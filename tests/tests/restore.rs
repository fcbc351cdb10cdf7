//! `copyseg restore`: what running it again means, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use copyseg_tests::{OUTCOME, Stage, files_below};
use rstest::rstest;
use rustix::process::Signal;

#[test]
fn a_restore_says_what_it_did() {
    let stage = Stage::small();
    let run = stage.command("restore snapshot restored").run().exits(0);
    assert!(run.stdout.starts_with("restored 20 segments"), "{run:?}");
    assert_eq!(run.stdout.lines().count(), 1);
    assert_eq!(run.stderr, "", "where there is no terminal there is no bar");
    stage.assert_completed();
}

#[rstest]
#[case::the_same("snapshot", "restored")]
#[case::other_spelling("./snapshot/", "./x/../restored/")]
fn a_completed_restore_says_so_and_changes_nothing(#[case] source: &str, #[case] target: &str) {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let again = stage.command(&format!("restore {source} {target}")).run().exits(0);
    assert!(again.stdout.starts_with("already restored: 20 segments"), "{again:?}");
    stage.assert_completed();
}

#[test]
fn the_same_restore_by_urls_says_that_it_is_complete() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let [source, target] =
        ["snapshot", "restored"].map(|name| format!("file://{}", stage.join(name).display()));
    let again = stage.command(&format!("restore {source} {target} -o json")).run().exits(0).json();
    assert_eq!(again["already"], true);
}

#[rstest]
#[case::by_path("--catalog restored.copyseg.redb")]
#[case::by_target("--catalog restored")]
#[case::by_url("--catalog redb:restored.copyseg.redb")]
#[case::by_another_url("--catalog redb:./x/../restored.copyseg.redb")]
fn the_same_catalog_named_otherwise_is_the_same(#[case] option: &str) {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let again = stage.restore().args(option.split(' ')).run().exits(0).json();
    assert_eq!(again["already"], true);
}

#[test]
fn a_restore_whose_record_was_collected_still_says_that_it_is_complete() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let removed = stage.command("gc --catalog restored --retention 0s -o json").run().exits(0).json();
    assert_eq!(removed["items"].as_array().unwrap().len(), 1);
    let again = stage.restore().run().exits(0).json();
    assert_eq!(again["already"], true);
    stage.assert_restored();
}

#[test]
fn a_killed_restore_goes_on_with_its_plan() {
    let stage = Stage::large();
    stage.interrupted();
    let before = stage.job();
    let refused = stage.restore().args(["--segments-per-task", "3"]).run().exits(2);
    assert!(refused.error()["message"].as_str().unwrap().contains("segments_per_task is 10"), "{refused:?}");
    let restored = stage.restore().args(["--objects-in-flight", "2"]).run().exits(0).json();
    assert_eq!(restored["job"], before["id"]);
    assert_eq!(restored["already"], false);
    stage.assert_completed();
}

#[test]
fn a_source_file_that_changed_fails_the_restore_by_name_and_a_new_one_starts_over() {
    let stage = Stage::large();
    stage.interrupted();
    let changed = stage.join("snapshot").join(stage.snapshot.segments[399].to_string()).join("vectors.npy");
    fs::write(&changed, "other").unwrap();

    let failed = stage.restore().run().exits(7);
    let error = failed.error();
    assert_eq!(error["code"], "job_failed");
    assert!(error["message"].as_str().unwrap().contains("vectors.npy"), "{error}");
    assert_eq!(stage.job()["state"], "failed");
    let outcome = fs::read_to_string(stage.join("restored").join(OUTCOME)).unwrap();
    assert!(outcome.contains("aborted") && !outcome.contains("segments"), "{outcome}");

    let restored = stage.restore().run().exits(0).json();
    assert_eq!(restored["already"], false);
    stage.assert_restored();
}

#[test]
fn two_restores_into_one_target_from_two_catalogs_end_with_one_of_them() {
    let stage = Stage::large();
    let first = stage.restore().start_listening();
    let second = stage.restore().args(["--catalog", "other.redb"]).start_listening();
    let (first, second) = (first.finish(), second.finish());
    let (winner, loser) = if first.code == 0 { (first, second) } else { (second, first) };
    winner.exits(0);
    let loser = loser.exits(4);
    assert!(loser.error()["message"].as_str().unwrap().contains("belongs to job"), "{loser:?}");
    stage.assert_restored();
}

#[test]
fn a_target_of_another_restore_is_refused_naming_it_until_it_is_taken_over() {
    let stage = Stage::large();
    stage.interrupted();
    let other = || stage.restore().args(["--catalog", "other.redb"]);
    let refused = other().run().exits(4);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(stage.job()["id"].as_str().unwrap()), "{message}");
    assert!(message.contains("restored.copyseg.redb"), "{message}");
    assert!(message.contains("`restore --take-over` takes this one over"), "{message}");
    assert!(!stage.join("other.redb").exists(), "no empty catalog is left behind");

    let taken = other().args(["--take-over"]).run().exits(0).json();
    assert_eq!(taken["already"], false);
    stage.assert_restored();
    stage.restore().run().exits(4);
    stage.assert_restored();
}

#[rstest]
#[case::without_taking_over(&[])]
#[case::taking_over(&["--take-over"])]
fn a_completed_target_of_another_restore_is_refused_without_advice_to_take_it_over(#[case] options: &[&str]) {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let refused = stage.restore().args(["--catalog", "other.redb"]).args(options).run().exits(4);
    let error = refused.error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("is never replaced: choose another target"), "{message}");
    assert!(!refused.stderr.contains("take-over"), "{refused:?}");
    assert!(!stage.join("other.redb").exists(), "no empty catalog is left behind");
    stage.assert_completed();
}

#[rstest]
#[case::by_path("snapshot/catalog.redb")]
#[case::by_url("redb:snapshot/new/catalog.redb")]
#[case::among_a_segment("snapshot/459117024851200000/catalog.redb")]
#[case::through_a_link("link/catalog.redb")]
fn a_catalog_in_the_snapshot_is_refused_before_it_is_created(#[case] catalog: &str) {
    let stage = Stage::small();
    std::os::unix::fs::symlink(stage.join("snapshot"), stage.join("link")).unwrap();
    let before = files_below(stage.scratch.path());
    let refused = stage.restore().args(["--catalog", catalog]).run().exits(2);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    let snapshot = stage.join("snapshot").canonicalize().unwrap();
    assert!(message.contains("catalog.redb would lie in the snapshot"), "{message}");
    assert!(message.contains(&format!("snapshot file://{} and", snapshot.display())), "{message}");
    assert_eq!(files_below(stage.scratch.path()), before, "nothing was written");
}

#[rstest]
#[case::among_the_records("restored/_copyseg/catalog.redb")]
#[case::beside_the_segments("redb:restored/catalog.redb")]
#[case::the_target_itself("redb:restored")]
fn a_catalog_in_the_target_is_refused_before_it_is_created(#[case] catalog: &str) {
    let stage = Stage::small();
    let before = files_below(stage.scratch.path());
    let refused = stage.restore().args(["--catalog", catalog]).run().exits(2);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("would lie in the target"), "{message}");
    assert_eq!(files_below(stage.scratch.path()), before, "nothing was written");
    stage.restore().run().exits(0);
}

#[rstest]
#[case::unfinished(false)]
#[case::completed(true)]
fn a_catalog_beyond_repair_is_moved_away_and_the_same_restore_run_again(#[case] complete: bool) {
    let stage = Stage::large();
    match complete {
        true => _ = stage.restore().run().exits(0),
        false => stage.interrupted(),
    }
    let catalog = stage.join("restored.copyseg.redb");
    fs::write(&catalog, "damaged".repeat(1000)).unwrap();
    let error = stage.restore().run().exits(1).error();
    assert_eq!(error["code"], "corrupt");
    assert!(error["hint"].as_str().unwrap().contains("can be moved away"), "{error}");

    fs::rename(&catalog, stage.join("damaged.redb")).unwrap();
    assert_eq!(stage.restore().run().exits(0).json()["already"], complete);
    stage.assert_restored();
}

#[test]
fn a_deadline_that_passed_fails_the_restore() {
    let stage = Stage::large();
    let failed = stage.restore().args(["--deadline", "1ms"]).run().exits(7);
    assert!(failed.error()["message"].as_str().unwrap().contains("deadline"), "{failed:?}");
    assert_eq!(stage.job()["state"], "failed");
}

#[test]
fn a_catalog_that_is_removed_ends_the_restore_at_its_deadline_and_the_next_one_starts_over() {
    let stage = Stage::large();
    let run = stage.stopped(|| stage.restore().args(["--deadline", "15s"]).start_listening());
    fs::remove_file(stage.join("restored.copyseg.redb")).unwrap();
    run.signal(Signal::CONT);
    let error = run.finish().exits(5).error();
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("the deadline of the restore, "), "{message}");
    assert!(message.contains("restored.copyseg.redb does not answer"), "{message}");
    assert!(!stage.join("restored/_copyseg/staging").exists());
    assert_eq!(stage.restore().run().exits(0).json()["already"], false);
    stage.assert_completed();
}

#[test]
fn a_restore_whose_target_was_removed_under_it_says_what_to_remove_before_the_next_one() {
    let stage = Stage::large();
    let run = stage.stopped_restore();
    fs::remove_dir_all(stage.join("restored")).unwrap();
    run.signal(Signal::CONT);
    let error = run.finish().exits(7).error();
    assert!(error["hint"].as_str().unwrap().starts_with("remove what is left in the target"), "{error}");
    let _ = fs::remove_dir_all(stage.join("restored"));
    stage.restore().run().exits(0);
    stage.assert_restored();
}

#[test]
fn a_segment_folder_that_became_a_link_gets_no_copy_until_it_is_removed() {
    let stage = Stage::large();
    stage.interrupted();
    let elsewhere = stage.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut linked = Vec::new();
    for segment in 0..5_000 {
        let folder = stage.join("restored").join(segment.to_string());
        if !folder.exists() {
            std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
            linked.push(folder);
        }
    }
    let error = stage.restore().run().exits(5).error();
    assert!(error["message"].as_str().unwrap().contains("is a symbolic link"), "{error}");
    assert!(files_below(&elsewhere).is_empty(), "nothing was written outside the target");
    for folder in linked {
        fs::remove_file(folder).unwrap();
    }
    assert_eq!(stage.restore().run().exits(0).json()["already"], false);
    stage.assert_completed();
}

#[test]
fn an_owner_record_that_is_removed_is_written_again_by_the_next_run() {
    let stage = Stage::large();
    stage.interrupted();
    let job = stage.job();
    fs::remove_file(stage.join("restored/_copyseg/owner")).unwrap();
    let other = stage.restore().args(["--catalog", "other.redb"]).run().exits(2).error();
    assert!(other["message"].as_str().unwrap().contains("belongs to no restore"), "{other}");
    assert_eq!(stage.restore().run().exits(0).json()["job"], job["id"]);
    stage.assert_completed();
}

#[test]
fn a_restore_whose_target_is_taken_over_under_its_hands_ends_as_failed_and_leaves_nothing() {
    let stage = Stage::large();
    let first = stage.stopped_restore();
    let taking = stage.restore().args(["--catalog", "other.redb", "--take-over"]);
    taking.run().exits(0);
    let before = stage.identities();
    first.signal(Signal::CONT);
    let error = first.finish().exits(7).error();
    assert_eq!(error["code"], "job_failed");
    assert!(error["message"].as_str().unwrap().contains("other.redb"), "{error}");
    assert_eq!(stage.identities(), before, "nothing was copied again or left");
    assert!(!stage.join("restored/_copyseg/staging").exists());
    stage.assert_restored();
}

#[test]
fn every_way_to_verify_restores() {
    for verify in ["content", "size"] {
        let stage = Stage::small();
        stage.restore().args(["--verify", verify]).run().exits(0);
        assert_eq!(stage.job()["options"]["verify"], verify);
        stage.assert_completed();
    }
}

#[test]
fn missing_folders_above_the_target_are_created() {
    let stage = Stage::small();
    stage.command("restore snapshot a/b/restored").run().exits(0);
    stage.command("job list --catalog a/b/restored").run().exits(0);
}

#[rstest]
#[case::a_word("segments", "segments")]
#[case::a_leading_zero("007", "007")]
#[case::a_suffix("x#1", "x#1")]
fn a_snapshot_entry_that_is_no_segment_is_refused_by_name(#[case] folder: &str, #[case] named: &str) {
    let stage = Stage::small();
    fs::create_dir(stage.join("snapshot").join(folder)).unwrap();
    fs::write(stage.join("snapshot").join(folder).join("file"), "content").unwrap();
    let refused = stage.restore().run().exits(2);
    assert!(refused.error()["message"].as_str().unwrap().contains(named), "{refused:?}");
    assert!(files_below(&stage.join("restored")).is_empty(), "nothing was written");
}

#[test]
fn an_empty_segment_folder_is_refused_by_name() {
    let stage = Stage::small();
    fs::create_dir(stage.join("snapshot/77")).unwrap();
    let refused = stage.restore().run().exits(2);
    assert!(refused.error()["message"].as_str().unwrap().contains("77"), "{refused:?}");
}

#[rstest]
#[case::missing("nowhere", "restored", 2, "nowhere")]
#[case::a_file("snapshot/file", "restored", 2, "file")]
#[case::inside("snapshot", "snapshot/restored", 2, "inside")]
#[case::unknown_scheme("ftp://host/a", "restored", 2, "ftp")]
#[case::no_backend("s3://bucket/a", "restored", 1, "s3")]
#[case::empty("", "restored", 2, "empty")]
fn a_place_that_cannot_be_restored_from_or_to_is_refused(
    #[case] source: &str,
    #[case] target: &str,
    #[case] code: i32,
    #[case] named: &str,
) {
    let stage = Stage::small();
    let before = files_below(stage.scratch.path());
    let command = stage.command("restore -o json").args([source, target]);
    let refused = command.run().exits(code);
    assert!(refused.error()["message"].as_str().unwrap().contains(named), "{refused:?}");
    assert_eq!(files_below(stage.scratch.path()), before, "nothing was written");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let stage = Stage::small();
    let locked = stage.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Permissions do not bind root, but nobody creates files in /proc.
    let is_root = fs::write(locked.join("probe"), "").is_ok();
    let (target, code) = if is_root { ("/proc/restored", 3) } else { ("locked/restored", 5) };
    let refused = stage.command("restore -o json snapshot").args([target]).run().exits(code);
    assert!(refused.error()["message"].as_str().unwrap().contains(target), "{refused:?}");
}
