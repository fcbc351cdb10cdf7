//! `copyseg check`: what it finds, and what becomes of records that cannot be read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use copyseg::{Batch, Head, Operation, RecordKey, RecordKind};
use copyseg_tests::Stage;
use serde_json::Value;

/// Changes records behind the manager's back, as a fault would.
async fn tamper(stage: &Stage, operations: Vec<Operation>, adjust: impl FnOnce(&mut Head)) {
    let url = format!("redb:{}", stage.join("restored.copyseg.redb").display());
    let catalog = copyseg::open_catalog(&url).await.unwrap();
    let head = catalog.acquire().await.unwrap();
    let mut next = Head { batch: head.batch ^ 1, ..head };
    adjust(&mut next);
    catalog.commit(&head, &next, &Batch::from_iter(operations)).await.unwrap();
    catalog.close().await.unwrap();
}

/// The id of the first task of the job in one of these states, and the key of its record.
fn task(stage: &Stage, states: &str) -> (String, RecordKey) {
    let job = stage.job()["id"].as_str().unwrap().to_owned();
    let line = format!("job tasks {job} --catalog restored -o json --state {states}");
    let tasks = stage.command(&line).run().exits(0).json();
    let id = tasks["items"][0]["id"].as_str().unwrap().to_owned();
    let key = RecordKey { kind: RecordKind::Task, id: id.parse().unwrap() };
    (id, key)
}

fn garbage(key: RecordKey) -> Vec<Operation> {
    vec![Operation::Put(key, (*b"\x00\x01not a record").into())]
}

fn problems(stage: &Stage, code: i32) -> Vec<(String, String)> {
    let found = stage.command("check --catalog restored -o json").run().exits(code).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    found["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (text(&it["problem"]), text(&it["record"])))
        .collect()
}

#[test]
fn a_sound_catalog_has_no_problems() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let check = stage.command("check --catalog restored").run().exits(0);
    assert!(check.stdout.contains("no problems"), "{check:?}");
    let check = stage.command("check --catalog restored -o json").run().exits(0).json();
    assert_eq!(check["storage_unverified"], Value::Null);
    assert!(check["records"].as_u64().unwrap() >= 4, "{check}");
}

#[test]
fn a_killed_restore_leaves_no_problems() {
    let stage = Stage::large();
    stage.interrupted();
    assert_eq!(problems(&stage, 0), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_listed_exported_and_dropped_and_never_passed_over() {
    let stage = Stage::large();
    stage.interrupted();
    let (id, key) = task(&stage, "pending,in_progress");
    let record = format!("task:{id}");
    tamper(&stage, garbage(key), |_| {}).await;

    // Nothing passes over it: neither the check, nor the job, nor the next restore.
    assert_eq!(problems(&stage, 8), [("set_aside".into(), record.clone())]);
    let check = stage.command("check --catalog restored -o json").run().exits(8);
    assert!(check.error()["hint"].as_str().unwrap().contains("--drop"), "{check:?}");
    let job = stage.job();
    assert_eq!(job["damaged"], true);
    let refused = stage.restore().env("COPYSEG_LOG", "off").run().exits(4);
    assert_eq!(refused.error()["code"], "set_aside");
    let logged = stage.command("restore snapshot restored").run().exits(4);
    assert!(logged.stderr.contains("WARN") && logged.stderr.contains(&record), "{logged:?}");
    let logged = stage.restore().run().exits(4);
    let lines: Vec<Value> = logged.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["log"].as_str().unwrap().contains(&record), "{logged:?}");
    assert_eq!(lines.last().unwrap()["error"]["code"], "set_aside");
    let list = stage.command("check --catalog restored --list").run().exits(0);
    assert!(list.stdout.contains(&record), "{list:?}");

    let export = || stage.command("check --catalog restored --export aside.jsonl");
    // No file may be longer than nothing, as on a full disk.
    export().after("trap '' XFSZ; ulimit -f 0").run().exits(1);
    assert!(!stage.join("aside.jsonl").exists(), "and the same command is run again");
    export().run().exits(0);
    let exported: Value = serde_json::from_slice(&fs::read(stage.join("aside.jsonl")).unwrap()).unwrap();
    assert_eq!(exported["key"], record);
    assert_eq!(exported["bytes"], "00016e6f742061207265636f7264");
    export().run().exits(4);
    let printed = stage.command("check --catalog restored --export -").run().exits(0);
    assert_eq!(serde_json::from_str::<Value>(&printed.stdout).unwrap(), exported);

    let drop = || stage.command("check --catalog restored -o json --drop").args([&record]);
    assert_eq!(drop().run().exits(0).json()["dropped"], record);
    assert_eq!(drop().run().exits(3).error()["code"], "not_found");
    assert_eq!(problems(&stage, 0), []);

    // The job lost segments with it, so it is given up; a new one restores everything.
    let job = job["id"].as_str().unwrap();
    stage.command(&format!("job cancel {job} --catalog restored")).run().exits(0);
    stage.restore().run().exits(0);
    stage.assert_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_record_cannot_be_read_is_said_to_be_set_aside_and_not_to_be_missing() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    tamper(&stage, garbage(RecordKey { kind: RecordKind::Job, id: id.parse().unwrap() }), |_| {}).await;
    for command in ["get", "tasks", "wait", "watch", "cancel", "rm"] {
        let line = format!("job {command} {id} --catalog restored -o json");
        let error = stage.command(&line).run().exits(4).error();
        assert_eq!(error["code"], "set_aside", "{command}: {error}");
        assert!(error["message"].as_str().unwrap().contains(&id), "{command}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("check --list"), "{command}: {error}");
    }
    for format in ["table", "json", "jsonl"] {
        let list = stage.command(&format!("job list --catalog restored -o {format}")).run().exits(0);
        assert!(list.stderr.contains("set aside, which are not listed: 1"), "{format}: {list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_cannot_be_read_is_dropped_and_no_id_is_given_out_twice() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let first = stage.job()["id"].as_str().unwrap().parse::<i64>().unwrap();
    tamper(&stage, garbage(RecordKey { kind: RecordKind::Store, id: 1 }), |_| {}).await;
    assert_eq!(problems(&stage, 8), [("set_aside".into(), "store:1".into())]);
    let dropped = stage.command("check --catalog restored -o json --drop store:1").run().exits(0).json();
    assert_eq!(dropped["dropped"], "store:1");
    assert_eq!(problems(&stage, 0), []);

    let next = stage.command("restore snapshot other --catalog restored -o json").run().exits(0).json();
    assert!(next["job"].as_str().unwrap().parse::<i64>().unwrap() > first, "{next}");
    assert_eq!(problems(&stage, 0), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_be_read_is_never_dropped() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let job = format!("job:{}", stage.job()["id"].as_str().unwrap());
    let refused = stage.command("check --catalog restored -o json --drop").args([&job]).run().exits(3);
    assert!(refused.error()["hint"].as_str().unwrap().contains("check --list"), "{refused:?}");
    stage.assert_completed();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_records_are_found() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let (_, key) = task(&stage, "completed");
    let job = stage.job()["id"].as_str().unwrap().to_owned();

    tamper(&stage, vec![Operation::Delete(key)], |_| {}).await;
    let found = problems(&stage, 8);
    assert!(found.contains(&("counts".into(), "head".into())), "{found:?}");
    let refused = stage.command("job list --catalog restored -o json").run().exits(1);
    assert_eq!(refused.error()["code"], "corrupt");

    tamper(&stage, vec![], |head| head.counts.0[RecordKind::Task as usize] -= 1).await;
    assert_eq!(problems(&stage, 8), [("segments".into(), format!("job:{job}"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_no_job_are_reported_and_no_problem() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let id = stage.job()["id"].as_str().unwrap().parse().unwrap();
    let delete = vec![Operation::Delete(RecordKey { kind: RecordKind::Job, id })];
    tamper(&stage, delete, |head| head.counts.0[RecordKind::Job as usize] -= 1).await;
    let check = stage.command("check --catalog restored -o json").run().exits(0).json();
    assert_eq!(check["orphans"], 2);
    let check = stage.command("check --catalog restored").run().exits(0);
    assert!(check.stdout.contains("2 tasks belong to no job"), "{check:?}");
}
