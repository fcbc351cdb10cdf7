//! Catalogs that cannot be used: held, missing, damaged, from the future, mistyped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use copyseg_tests::{Stage, files_below};
use rstest::rstest;
use rustix::process::Signal;

#[test]
fn a_catalog_that_a_running_restore_holds_names_the_process() {
    let stage = Stage::large();
    let run = stage.under_way();
    // It stands still, so that it cannot let go of the catalog meanwhile.
    run.signal(Signal::STOP);
    for line in ["job list", "job cancel 1", "stats", "check", "gc"] {
        let refused = stage.command(line).args(["--catalog", "restored", "-o", "json"]).run().exits(5);
        let error = refused.error();
        assert_eq!(error["code"], "held", "{line}");
        assert_eq!(error["retryable"], true, "{line}");
        let message = format!("{} {}", error["message"], error["causes"]);
        assert!(message.contains(&format!("process {}", run.id())), "{line}: {message}");
        assert!(message.contains("since 20"), "{line}: {message}");
    }
    let second = stage.restore().run().exits(5);
    assert_eq!(second.error()["code"], "held");

    run.signal(Signal::CONT);
    run.finish().exits(0);
    stage.assert_completed();
}

#[test]
fn a_catalog_that_is_not_there_is_not_created_by_an_operator() {
    let stage = Stage::small();
    for line in [
        "job list",
        "job get 1",
        "job cancel 1",
        "job rm 1",
        "job wait 1",
        "job watch",
        "stats",
        "gc",
        "check",
    ] {
        let refused = stage.command(line).args(["--catalog", "nowhere.redb", "-o", "json"]).run().exits(3);
        assert!(refused.error()["message"].as_str().unwrap().contains("nowhere.redb"), "{line}");
        assert!(!stage.join("nowhere.redb").exists(), "{line}");
    }
    stage.command("job list --catalog snapshot").run().exits(3);
}

#[rstest]
#[case::an_unknown_scheme("ftp://host/catalog", 1, "`ftp:`; this build opens `memory:` and `redb:`")]
#[cfg_attr(
    not(feature = "etcd-tests"),
    case::a_scheme_that_is_switched_off("etcd://host:2379/copyseg", 1, "without the feature `etcd`")
)]
#[case::a_file_as_host("redb://catalog.redb", 2, "`redb:catalog.redb`")]
#[case::memory("memory:", 2, "nothing to read")]
#[case::no_file("redb:", 2, "names no place")]
fn a_catalog_url_that_cannot_be_opened_says_what_can(
    #[case] url: &str,
    #[case] code: i32,
    #[case] hint: &str,
) {
    let stage = Stage::small();
    let refused = stage.command("job list -o json").args(["--catalog", url]).run().exits(code);
    assert!(refused.error()["message"].as_str().unwrap().contains(hint), "{refused:?}");
}

#[test]
fn a_command_without_a_catalog_says_how_to_name_one() {
    let stage = Stage::small();
    let refused = stage.command("job list").run().exits(2);
    assert!(refused.stderr.contains("--catalog URL or set COPYSEG_CATALOG"), "{refused:?}");
    stage.command("restore snapshot restored").run().exits(0);
    let named = stage.command("job list").env("COPYSEG_CATALOG", "restored.copyseg.redb").run().exits(0);
    assert!(named.stdout.contains("completed"), "{named:?}");
}

#[test]
fn a_truncated_catalog_is_refused_and_left_as_it_is() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let file = stage.join("restored.copyseg.redb");
    let content = fs::read(&file).unwrap();
    for length in [0, 9, 100, 4096, content.len() / 2] {
        fs::write(&file, &content[..length]).unwrap();
        assert_refused_untouched(&stage, &file, "corrupt", 1);
        stage.command("check --catalog restored").run().exits(8);
    }
    fs::write(&file, "not a catalog at all").unwrap();
    assert_refused_untouched(&stage, &file, "corrupt", 1);
}

#[test]
fn a_catalog_from_the_future_is_refused_and_left_as_it_is() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let file = stage.join("restored.copyseg.redb");
    let mut content = fs::read(&file).unwrap();
    // Where the header of a redb file names its format, once for each of its two commit slots.
    for at in [64, 192] {
        content[at] = 9;
    }
    fs::write(&file, content).unwrap();
    assert_refused_untouched(&stage, &file, "unsupported", 1);
}

/// Reading, writing and restoring are refused, and not a byte of the catalog or the target changes.
fn assert_refused_untouched(stage: &Stage, file: &Path, code: &str, exit: i32) {
    let (before, target) = (fs::read(file).unwrap(), files_below(&stage.join("restored")));
    for line in ["job list --catalog restored", "gc --catalog restored", "restore snapshot restored"] {
        let error = stage.command(line).args(["-o", "json"]).run().exits(exit).error();
        assert_eq!(error["code"], code, "{line}: {error}");
        assert!(error["message"].as_str().unwrap().contains("restored.copyseg.redb"), "{line}: {error}");
        assert!(fs::read(file).unwrap() == before, "{line} changed {} bytes", before.len());
    }
    assert_eq!(files_below(&stage.join("restored")), target);
}

#[test]
fn a_standby_takes_over_from_a_restore_that_was_killed() {
    let stage = Stage::large();
    let leader = stage.under_way();
    // It stands still, so that it cannot end by itself before the standby has found it.
    leader.signal(Signal::STOP);
    let notes = stage.join("notes");
    let standby = stage.command("restore snapshot restored --standby");
    let standby = standby.stderr(fs::File::create(&notes).unwrap()).start();
    while !fs::read_to_string(&notes).unwrap().contains("standing by") {
        sleep(Duration::from_millis(10));
    }
    let note = fs::read_to_string(&notes).unwrap();
    assert!(note.contains(&format!("process {}", leader.id())), "{note}");

    // Dropping it kills it.
    drop(leader);
    standby.finish().exits(0);

    stage.assert_completed();
}

#[test]
fn a_standby_stops_when_it_is_told_to() {
    let stage = Stage::large();
    let leader = stage.under_way();
    leader.signal(Signal::STOP);
    let notes = stage.join("notes");
    let standby = stage.command("restore snapshot restored --standby");
    let standby = standby.stderr(fs::File::create(&notes).unwrap()).start();
    while !fs::read_to_string(&notes).unwrap().contains("standing by") {
        sleep(Duration::from_millis(10));
    }
    standby.signal(Signal::TERM);
    standby.finish().exits(143);
    leader.signal(Signal::CONT);
    leader.finish().exits(0);
}
