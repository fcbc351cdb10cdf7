//! `copyseg job`, `gc` and `stats`: what an operator sees and steers.

use copyseg_tests::Stage;
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

#[test]
fn waiting_ends_as_the_job_does() {
    let stage = Stage::large();
    stage.interrupted();
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let wait = |options: &str| stage.command(&format!("job wait {id} --catalog restored -o json {options}"));
    let late = wait("--timeout 50ms").run().exits(6);
    assert_eq!(late.error()["code"], "timed_out");

    let waiting = wait("").start_listening();
    stage.restore().run().exits(0);
    assert_eq!(waiting.finish().exits(0).json()["state"], "completed");
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
    for command in ["get", "tasks", "wait", "cancel", "rm"] {
        let line = format!("job {command} 7777 --catalog all.redb -o json");
        let error = stage.command(&line).run().exits(3).error();
        assert_eq!(error["code"], "not_found", "{command}");
        assert!(error["message"].as_str().unwrap().contains("7777"), "{command}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("job list"), "{command}: {error}");
    }
}
