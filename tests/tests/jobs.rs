//! `copyseg job`, `gc` and `stats`: what an operator sees and steers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::process::Stdio;

use copyseg_tests::{Stage, Watch, on_a_terminal};
use rstest::rstest;
use rustix::process::Signal;
use serde_json::Value;

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// A catalog `all.redb` with the records of three complete restores.
fn three_jobs() -> Stage {
    let stage = Stage::small();
    for target in ["a", "b", "c"] {
        stage.command(&format!("restore snapshot {target} --catalog all.redb")).run().exits(0);
    }
    stage
}

#[test]
fn a_list_is_filtered_and_goes_on_where_it_was_cut() {
    let stage = three_jobs();
    let list = |options: &str| {
        let line = format!("job list --catalog all.redb --output json {options}");
        stage.command(&line).run().exits(0).json()
    };
    assert_eq!(items(&list("")).len(), 3);
    assert_eq!(items(&list("--state completed")).len(), 3);
    assert_eq!(items(&list("--state pending,failed --state cancelled")).len(), 0);
    assert_eq!(items(&list("--collection 0")).len(), 3);
    assert_eq!(items(&list("--collection 5")).len(), 0);

    let first = list("--limit 2");
    assert_eq!(items(&first).len(), 2);
    let next = first["next"].as_str().unwrap();
    assert_eq!(first["items"][1]["id"], next);
    let second = list(&format!("--limit 2 --after {next}"));
    assert_eq!(items(&second).len(), 1);
    assert_eq!(second["next"], Value::Null);

    for format in ["table", "jsonl"] {
        let line = format!("job list --catalog all.redb --limit 2 -o {format}");
        let cut = stage.command(&line).run().exits(0);
        assert!(cut.stderr.contains(&format!("there are more: add --after {next}")), "{format}: {cut:?}");
        assert!(!cut.stdout.contains("more"), "{format}: {cut:?}");
        let rest = stage.command(&line).args(["--after", next]).run().exits(0);
        assert_eq!(rest.stderr, "", "{format}");
    }
}

#[test]
fn ids_are_strings_and_times_are_rfc_3339() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let job = stage.job();
    assert!(job["id"].as_str().unwrap().parse::<i64>().is_ok());
    let created = job["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z') && created.contains('T'), "{created}");
    assert_eq!(job["progress"]["segments"]["completed"], 20);
    assert_eq!(job["damaged"], false);
    assert_eq!(job["waiting"], Value::Null);
}

#[test]
fn an_interrupted_job_says_why_it_waits_and_how_to_go_on() {
    let stage = Stage::large();
    stage.interrupted();
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let shown = stage.command(&format!("job get {id} --catalog restored")).run().exits(0).stdout;
    assert!(shown.contains("executing"), "{shown}");
    assert!(shown.contains("no process works on it; `copyseg restore file://"), "{shown}");
    let tasks = |options: &str| {
        let line = format!("job tasks {id} --catalog restored -o json {options}");
        items(&stage.command(&line).run().exits(0).json()).len()
    };
    assert_eq!(tasks(""), 40);
    let open = tasks("--state pending,in_progress");
    assert!(open > 0 && open + tasks("--state completed") == 40, "{open}");
}

#[rstest]
#[case("my catalog.redb")]
#[case("sled:it's & more")]
fn the_command_that_goes_on_does_from_any_folder(#[case] catalog: &str) {
    let stage = Stage::large();
    let run = stage.stopped(|| {
        let restore = stage.command("restore snapshot restored --catalog");
        restore.args([catalog]).start_quietly()
    });
    assert!(run.kill(), "it stood still");
    let list = stage.command("job list -o json --catalog").args([catalog]).run().exits(0).json();
    let waiting = items(&list)[0]["waiting"].as_str().unwrap();
    let command = waiting.split('`').nth(1).unwrap().replacen("copyseg", "\"$0\"", 1);
    let elsewhere = stage.command("").through("sh", &["-c", &format!("cd / && {command} -o json")]);
    let restored = elsewhere.env("COPYSEG_CATALOG", "memory:").run().exits(0).json();
    assert_eq!(restored["job"], items(&list)[0]["id"]);
    stage.assert_restored();
}

#[test]
fn waiting_ends_as_the_job_does() {
    let stage = Stage::large();
    stage.interrupted();
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let wait = |options: &str| stage.command(&format!("job wait {id} --catalog restored -o json {options}"));
    let late = wait("--timeout 50ms").run().exits(6);
    assert_eq!(late.error()["code"], "timed_out");

    let waiting = wait("").start_listening();
    stage.restore().run_beside_readers().exits(0);
    assert_eq!(waiting.finish().exits(0).json()["state"], "completed");
}

#[test]
fn a_wait_without_time_looks_once() {
    let stage = three_jobs();
    let waited = stage.command("job wait 1 --timeout 0s --catalog all.redb -o json").run().exits(0);
    assert_eq!(waited.json()["state"], "completed");
}

#[test]
fn a_cancelled_job_ends_its_wait_and_the_next_restore_starts_over() {
    let stage = Stage::large();
    stage.interrupted();
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let cancelled = stage.command(&format!("job cancel {id} --catalog restored --reason mistake -o json"));
    assert_eq!(cancelled.run().exits(0).json()["state"], "cancelled");
    assert_eq!(stage.job()["reason"], "mistake");
    let wait = stage.command(&format!("job wait {id} --catalog restored -o json")).run().exits(7);
    assert_eq!(wait.error()["code"], "job_cancelled");
    stage.command(&format!("job cancel {id} --catalog restored")).run().exits(0);

    let restored = stage.restore().run().exits(0).json();
    assert_ne!(restored["job"], id.as_str());
    stage.assert_restored();
}

#[test]
fn a_completed_job_cannot_be_cancelled_and_an_active_one_cannot_be_removed() {
    let stage = Stage::large();
    stage.interrupted();
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let refused = stage.command(&format!("job rm {id} --catalog restored -o json")).run().exits(4);
    assert_eq!(refused.error()["code"], "illegal_transition");
    assert_eq!(stage.job()["id"], id.as_str());

    stage.restore().run().exits(0);
    let refused = stage.command(&format!("job cancel {id} --catalog restored -o json")).run().exits(4);
    assert_eq!(refused.error()["code"], "illegal_transition");
    assert_eq!(refused.error()["message"], format!("cancel job {id}: it is completed already"));
    stage.command(&format!("job rm {id} --catalog restored")).run().exits(0);
    stage.command(&format!("job get {id} --catalog restored")).run().exits(3);
    stage.assert_restored();
}

#[test]
fn gc_removes_what_ended_long_ago_and_never_what_was_restored() {
    let stage = three_jobs();
    let gc = |options: &str| {
        let line = format!("gc --catalog all.redb -o json {options}");
        items(&stage.command(&line).run().exits(0).json()).len()
    };
    assert_eq!(gc(""), 0, "they ended just now");
    assert_eq!(gc("--retention 0s --dry-run"), 3);
    assert_eq!(gc("--retention 0s"), 3);
    assert_eq!(gc("--retention 0s"), 0);
    assert!(stage.join("a/_copyseg/outcome").exists());
    let again = stage.command("restore snapshot a --catalog all.redb -o json").run().exits(0).json();
    assert_eq!(again["already"], true);
}

#[test]
fn stats_count_by_state() {
    let stage = three_jobs();
    let stats = stage.command("stats --catalog all.redb -o json").run().exits(0).json();
    assert_eq!(stats["jobs"]["completed"], 3);
    assert_eq!(stats["jobs"]["failed"], 0);
    assert_eq!(stats["tasks"]["completed"]["tasks"], 6);
    assert_eq!(stats["tasks"]["completed"]["segments"], 60);
    assert_eq!(stats["tasks"]["completed"]["bytes"], 3 * stage.snapshot.bytes);
    assert_eq!(stats["set_aside"], 0);
}

#[test]
fn an_unknown_job_is_not_found_by_any_command() {
    let stage = three_jobs();
    for command in ["get", "tasks", "watch", "wait", "cancel", "rm"] {
        let line = format!("job {command} 7777 --catalog all.redb -o json");
        let error = stage.command(&line).run().exits(3).error();
        assert_eq!(error["code"], "not_found", "{command}");
        assert!(error["message"].as_str().unwrap().contains("7777"), "{command}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("job list"), "{command}: {error}");
        let text = stage.command(&format!("job {command} 7777 --catalog all.redb")).run().exits(3);
        assert_eq!(text.stdout, "", "{command}");
    }
}

/// A stage with a restore in `catalog` that was killed on its way, and the id of its job.
fn interrupted(catalog: &str) -> (Stage, String) {
    let stage = Stage::large();
    let restore = || stage.command("restore snapshot restored --catalog").args([catalog]).start_quietly();
    let run = stage.stopped(restore);
    assert!(run.kill(), "it stood still");
    let list = stage.command("job list -o json --catalog").args([catalog]).run().exits(0).json();
    let id = items(&list)[0]["id"].as_str().unwrap().to_owned();
    (stage, id)
}

#[rstest]
#[case("redb:watched.redb")]
#[case("sled:watched.sled")]
fn a_watch_of_a_job_shows_each_change_once_and_ends_as_the_job_does(#[case] catalog: &str) {
    let (stage, id) = interrupted(catalog);
    let mut watch =
        Watch::start(&stage, stage.command(&format!("job watch {id} -o json --catalog {catalog}")));
    let first = watch.until(|_| true);
    assert_eq!((&first["id"], &first["state"]), (&Value::from(id.as_str()), &Value::from("executing")));
    assert!(first["waiting"].as_str().unwrap().contains("no process works on it"), "{first}");
    stage.command("restore snapshot restored --catalog").args([catalog]).run_beside_readers().exits(0);
    let last = watch.until(|line| line["state"] == "completed");
    assert_eq!(last["progress"]["segments"]["completed"], 400);
    let lines = watch.lines();
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{lines:?}");
    watch.run.finish().exits(0);
}

#[rstest]
#[case("redb:watched.redb")]
#[case("sled:watched.sled")]
fn a_watch_of_every_job_begins_with_the_open_ones_and_goes_on_until_it_is_stopped(#[case] catalog: &str) {
    let (stage, id) = interrupted(catalog);
    let on = |line: &str| stage.command(line).args(["--catalog", catalog]);
    on("restore snapshot other").run().exits(0);
    let mut watch = Watch::start(&stage, on("job watch -o jsonl"));
    watch.until(|line| line["id"] == id.as_str() && line["state"] == "executing");
    on(&format!("job cancel {id} --reason mistake")).run_beside_readers().exits(0);
    watch.until(|line| line["state"] == "cancelled" && line["reason"] == "mistake");
    on(&format!("job rm {id}")).run_beside_readers().exits(0);
    watch.until(|line| line["removed"] == id.as_str());
    let again = on("restore snapshot restored -o json").run_beside_readers().exits(0).json();
    watch.until(|line| line["id"] == again["job"] && line["state"] == "completed");
    assert!(
        watch.lines().iter().all(|line| line["target"].as_str().is_none_or(|it| it.ends_with("/restored")))
    );

    watch.run.signal(Signal::INT);
    let error = watch.run.finish().exits(130).error();
    assert_eq!(error["code"], "stopped");
}

#[test]
fn a_watch_of_a_job_that_is_cancelled_ends_with_its_reason() {
    let (stage, id) = interrupted("watched.redb");
    let watched = stage.command(&format!("job watch {id} -o json --catalog watched.redb"));
    let mut watch = Watch::start(&stage, watched);
    watch.until(|_| true);
    let cancel = stage.command(&format!("job cancel {id} --reason mistake --catalog watched.redb"));
    cancel.run_beside_readers().exits(0);
    let ended = watch.run.finish().exits(7);
    assert_eq!(ended.error()["code"], "job_cancelled");
    assert!(ended.stderr.contains("mistake"), "{ended:?}");
}

#[test]
fn a_watch_beside_the_process_that_holds_a_local_catalog_names_it_and_sees_the_end() {
    let stage = Stage::large();
    // It stands still, so that it cannot let go of the catalog meanwhile.
    let run = stage.stopped_restore();
    let notes = stage.join("notes");
    let watch = stage.command("job watch 1 --catalog restored");
    let watch = watch.stdout(Stdio::piped()).stderr(File::create(&notes).unwrap()).start();
    watch.wait_for_note(&notes, &format!("process {}", run.id()));
    run.signal(Signal::CONT);
    run.finish().exits(0);
    let seen = watch.finish().exits(0).stdout;
    let lines: Vec<Vec<&str>> = seen.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["TIME", "JOB", "STATE", "COPIED", "SEGMENTS", "NOTE"]);
    assert_eq!(lines.last().unwrap()[1..5], ["1", "completed", "100%", "400"], "{seen}");
}

#[test]
fn a_watch_on_a_terminal_is_in_colour_and_a_line_is_one_however_long() {
    let (stage, id) = interrupted("watched.redb");
    let reason = "as long as it takes to explain why a restore of a snapshot is cancelled ".repeat(5);
    let cancel = stage.command(&format!("job cancel {id} --catalog watched.redb"));
    cancel.args(["--reason", &reason]).run().exits(0);
    let (code, shown) = on_a_terminal(stage.command(&format!("job watch {id} --catalog watched.redb")));
    assert!(code == 7 && shown.contains(&reason) && shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn a_watch_that_nobody_reads_any_more_ends_without_an_error() {
    let (stage, _) = interrupted("watched.redb");
    let (reader, writer) = std::io::pipe().unwrap();
    let watch = stage.command("job watch -o jsonl --catalog watched.redb");
    let watch = watch.stdout(writer).stderr(Stdio::piped()).start();
    // Nothing changes any more that it could find it out by writing.
    drop(reader);
    let run = watch.finish();
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}
