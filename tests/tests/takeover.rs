//! Restores on etcd: a standby that takes over from a leader that died or stood still, and an operator beside a leader.
//! `cargo xtask etcd` runs them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "takeover/cluster.rs"]
mod cluster;
#[path = "takeover/members.rs"]
mod members;

use std::net::TcpListener;
use std::thread::sleep;
use std::time::Duration;

use copyseg_tests::{OPERATOR_COMMANDS, Stage, Watch};
use rstest::rstest;
use rustix::process::Signal;
use serde_json::Value;

use cluster::Cluster;

#[rstest]
#[case::on_one_member(1)]
#[case::on_three_members(3)]
fn a_standby_takes_over_from_a_leader_that_was_killed(#[case] members: usize) {
    let cluster = Cluster::of(members, Stage::large());
    let leader = cluster.leader();
    let standby = cluster.standby(&leader);
    let before = cluster.head();
    assert!(leader.kill(), "it was killed on its way");
    standby.finish().exits(0);
    assert_eq!(cluster.head().epoch, before.epoch + 1, "the store changed hands once");
    cluster.assert_completed();
}

#[rstest]
#[case::while_the_standby_works(1, false)]
#[case::when_the_standby_has_finished(1, true)]
#[case::while_the_standby_works_on_three_members(3, false)]
#[case::when_the_standby_has_finished_on_three_members(3, true)]
fn a_leader_that_stood_still_until_it_was_replaced_never_writes_again(
    #[case] members: usize,
    #[case] is_finished: bool,
) {
    let cluster = Cluster::of(members, Stage::large());
    let leader = cluster.leader();
    let before = cluster.head();
    let mut standby = Some(cluster.standby(&leader));
    while cluster.head().writer == before.writer {
        sleep(Duration::from_millis(10));
    }
    if is_finished {
        standby.take().unwrap().finish().exits(0);
    }
    let taken = cluster.head();
    let finished = is_finished.then(|| cluster.stage.identities());

    leader.signal(Signal::CONT);
    let fenced = leader.finish().exits(4);
    let error = fenced.error();
    assert_eq!(error["code"], "fenced", "{fenced:?}");
    assert!(error["hint"].as_str().unwrap().contains("another process owns the catalog"), "{error}");
    if is_finished {
        assert_eq!(cluster.head(), taken);
        assert_eq!(Some(cluster.stage.identities()), finished, "nothing was copied again or left");
    } else {
        standby.take().unwrap().finish().exits(0);
        assert_eq!((cluster.head().epoch, cluster.head().writer), (taken.epoch, taken.writer));
    }
    assert!(!cluster.stage.join("restored/_copyseg/staging").exists(), "nobody left anything unfinished");
    cluster.assert_completed();
}

#[test]
fn a_restore_after_a_crash_waits_for_the_dead_leader_and_says_so() {
    let cluster = Cluster::new(Stage::large());
    let leader = cluster.leader();
    let id = leader.id();
    assert!(leader.kill(), "it was killed on its way");
    let again = cluster.command("restore snapshot restored").run().exits(0);
    assert!(again.stderr.contains("waiting up to 28 s"), "{again:?}");
    assert!(again.stderr.contains(&format!("process {id} on ")), "{again:?}");
    cluster.assert_completed();
}

#[test]
fn a_restore_is_the_same_whichever_members_of_the_cluster_are_named() {
    let mut cluster = Cluster::of(3, Stage::large());
    cluster.name(0..2);
    assert!(cluster.leader().kill(), "it was killed on its way");
    cluster.name(1..3);
    cluster.command("restore snapshot restored --standby").run().exits(0);
    cluster.assert_completed();
    cluster.name(0..1);
    let again = cluster.command("restore snapshot restored").run().exits(0);
    assert!(again.stdout.contains("already restored"), "{again:?}");
}

#[test]
fn a_wait_ends_in_time_though_the_catalog_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("etcd://{}/x?timeout_ms=60000", silent.local_addr().unwrap());
    let wait = format!("job wait 1 --timeout 200ms -o json --catalog {url}");
    let error = Stage::small().command(&wait).run().exits(6).error();
    assert_eq!(error["code"], "timed_out");
    assert!(error["message"].as_str().unwrap().contains("the catalog does not answer"), "{error}");
}

#[test]
fn an_operator_sees_waits_and_cancels_beside_the_leader() {
    let cluster = Cluster::with_lease(Stage::large(), 120);
    let leader = cluster.leader();
    let job = cluster.job();
    let id = job["id"].as_str().unwrap();
    assert_eq!(job["state"], "executing");
    assert_eq!(job["waiting"], Value::Null, "a process works on it");
    let shown = cluster.command(&format!("job get {id} -o json")).run().exits(0).json();
    assert!(shown["progress"]["segments"]["completed"].as_u64().unwrap() < 400, "{shown}");
    cluster.command(&format!("job tasks {id}")).run().exits(0);
    let stats = cluster.command("stats -o json").run().exits(0).json();
    assert_eq!(stats["jobs"]["executing"], 1);
    let waiting = cluster.command(&format!("job wait {id} -o json")).start_listening();
    let late = cluster.command(&format!("job wait {id} --timeout 50ms -o json")).run().exits(6);
    assert_eq!(late.error()["code"], "timed_out");

    let keys = cluster.members[0].keys();
    let cancelling = cluster.command(&format!("job cancel {id} --reason mistake -o json"));
    let cancelling = cancelling.start_listening();
    // The leader goes on when the request is there, so that it cannot end before it is asked.
    while cluster.members[0].keys() == keys {
        assert!(!cancelling.has_ended(), "it waits for the leader");
        sleep(Duration::from_millis(10));
    }
    leader.signal(Signal::CONT);
    assert_eq!(cancelling.finish().exits(0).json()["state"], "cancelled");
    let ended = leader.finish().exits(7);
    assert_eq!(ended.error()["code"], "job_cancelled");
    assert!(ended.stderr.contains("mistake"), "{ended:?}");
    assert_eq!(waiting.finish().exits(7).error()["code"], "job_cancelled");
    assert_eq!(cluster.job()["reason"], "mistake");
}

#[test]
fn a_wait_ends_when_the_leader_has_completed_the_job() {
    let cluster = Cluster::new(Stage::large());
    let leader = cluster.leader();
    let id = cluster.job()["id"].as_str().unwrap().to_owned();
    let waiting = cluster.command(&format!("job wait {id} -o json")).start_listening();
    leader.signal(Signal::CONT);
    leader.finish().exits(0);
    assert_eq!(waiting.finish().exits(0).json()["state"], "completed");
    cluster.assert_completed();
}

#[test]
fn a_watch_beside_the_leader_sees_the_job_grow_and_ends_with_it() {
    let cluster = Cluster::new(Stage::large());
    let leader = cluster.leader();
    let id = cluster.job()["id"].as_str().unwrap().to_owned();
    let watched = cluster.command(&format!("job watch {id} -o json"));
    let mut watch = Watch::start(&cluster.stage, watched);
    let copied = |line: &Value| line["progress"]["segments"]["completed"].as_u64().unwrap();
    assert!(copied(&watch.until(|_| true)) < 400, "it is under way");
    leader.signal(Signal::CONT);
    leader.finish().exits(0);
    watch.until(|line| line["state"] == "completed");
    let lines = watch.lines();
    assert!(lines.windows(2).all(|pair| copied(&pair[0]) <= copied(&pair[1])), "{lines:?}");
    assert_eq!(copied(lines.last().unwrap()), 400);
    watch.run.finish().exits(0);
}

#[test]
fn a_watch_says_when_the_leader_has_died_and_goes_on_with_the_next() {
    let cluster = Cluster::new(Stage::large());
    let leader = cluster.leader();
    let mut watch = Watch::start(&cluster.stage, cluster.command("job watch -o jsonl"));
    watch.until(|line| line["waiting"].is_null());
    assert!(leader.kill(), "it was killed on its way");
    watch.until(|line| line["waiting"].as_str().is_some_and(|why| why.contains("no process works on it")));
    cluster.command("restore snapshot restored").run().exits(0);
    let last = watch.until(|line| line["state"] == "completed");
    assert_eq!(last["waiting"], Value::Null);
    watch.run.signal(Signal::TERM);
    watch.run.finish().exits(143);
}

#[test]
fn what_only_a_writer_can_do_is_refused_naming_the_leader() {
    let cluster = Cluster::with_lease(Stage::large(), 120);
    let leader = cluster.leader();
    let before = cluster.head();
    for line in ["gc", "check --drop job:1"] {
        let refused = cluster.command(line).args(["-o", "json"]).run().exits(5).error();
        assert_eq!(refused["code"], "held", "{line}");
        assert!(
            refused["message"].as_str().unwrap().contains(&format!("process {} on ", leader.id())),
            "{line}"
        );
    }
    leader.signal(Signal::CONT);
    leader.finish().exits(0);
    assert_eq!(cluster.head().writer, before.writer);
    cluster.assert_completed();
}

#[test]
fn a_job_is_cancelled_where_no_leader_lives() {
    let cluster = Cluster::new(Stage::large());
    assert!(cluster.leader().kill(), "it was killed on its way");
    let id = cluster.job()["id"].as_str().unwrap().to_owned();
    cluster.command(&format!("job cancel {id}")).run().exits(0);
    assert_eq!(cluster.job()["state"], "cancelled");
    let refused = cluster.command("job cancel 7777 -o json").run().exits(3);
    assert_eq!(refused.error()["code"], "not_found");
}

#[test]
fn a_store_that_is_not_there_is_not_created_by_an_operator() {
    let cluster = Cluster::new(Stage::small());
    for line in OPERATOR_COMMANDS {
        let refused = cluster.command(line).args(["-o", "json"]).run().exits(3).error();
        assert!(
            refused["message"].as_str().unwrap().contains("there is no store at etcd://"),
            "{line}: {refused}"
        );
    }
}

#[test]
fn backends_that_are_built_in_are_listed() {
    let stage = Stage::small();
    let listed = stage.command("backends -o json").run().exits(0).json();
    let schemes: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|it| it["scheme"].as_str().unwrap()).collect();
    assert_eq!(schemes, copyseg::schemes());
}
