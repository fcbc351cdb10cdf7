//! A restore on three members, of which the leader, a minority and all are killed and come back.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use copyseg_test_etcd::Member;
use copyseg_tests::{Running, Stage};
use rustix::process::Signal;

use crate::cluster::Cluster;

/// How long members stay away.
const AWAY: Duration = Duration::from_secs(10);

/// How long the restore rests for each segment that it copies, so that it lasts however fast the machine is.
const REST: Duration = Duration::from_millis(200);

/// How long it may take to go on, on a machine that is busy compiling.
const RESUME_MAX: Duration = Duration::from_secs(300);

/// How often an operator looks.
const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn a_restore_loses_nothing_whichever_members_are_killed_and_goes_on_when_they_are_back() {
    let mut cluster = Cluster::of(3, Stage::new(800, 2_000, 3));
    let mut members = std::mem::take(&mut cluster.members);
    let restore =
        cluster.command("restore snapshot restored --segments-per-task 1 --objects-in-flight 1 -o json");
    let restore = restore.start_listening();
    let (is_over, copied) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        scope.spawn(|| slow_down(&restore, &cluster.stage, &is_over));
        let operator = scope.spawn(|| watch(&cluster, &copied, &is_over));
        // Also when a check fails, without which the threads would never end.
        let _guard = OnDrop(|| is_over.store(true, Ordering::SeqCst));
        let resumed = |after: u64| {
            let deadline = Instant::now() + RESUME_MAX;
            loop {
                let now = copied.load(Ordering::SeqCst);
                if now > after {
                    return;
                }
                let is_hopeless = restore.has_ended() || operator.is_finished() || Instant::now() > deadline;
                assert!(!is_hopeless, "the restore goes on after {now} segments: {}", restore.stderr());
                sleep(PAUSE);
            }
        };
        resumed(5);
        let first = leader(&members);
        for victims in [vec![first], vec![(first + 1) % 3], vec![0, 1, 2]] {
            victims.iter().for_each(|victim| members[*victim].kill());
            if victims.len() == 1 {
                // A majority is there, so that the restore goes on without the one that was killed.
                resumed(copied.load(Ordering::SeqCst) + 5);
            }
            sleep(AWAY);
            let before = copied.load(Ordering::SeqCst);
            victims.iter().for_each(|victim| members[*victim].restart());
            resumed(before + 5);
        }
        assert!(
            copied.load(Ordering::SeqCst) < 800,
            "the restore was under way until the last member was back"
        );
    });
    restore.finish().exits(0);
    cluster.assert_completed();
}

/// Which of the members leads the cluster.
fn leader(members: &[Member]) -> usize {
    loop {
        if let Some(index) = members.iter().position(Member::leads) {
            return index;
        }
        sleep(PAUSE);
    }
}

/// Has the restore stand still for a moment for each segment that it has copied, until it `is_over`: also for those that it
/// copied while nobody looked, so that it never copies them faster.
fn slow_down(restore: &Running, stage: &Stage, is_over: &AtomicBool) {
    let copied = || fs::read_dir(stage.join("restored")).map_or(0, Iterator::count) as u32;
    let mut rested_at = copied();
    while !is_over.load(Ordering::SeqCst) {
        let now = copied();
        if now > rested_at {
            restore.signal(Signal::STOP);
            sleep(REST * (now - rested_at));
            restore.signal(Signal::CONT);
            rested_at = now;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Notes how many segments the catalog calls copied, which never become fewer, until it `is_over`.
fn watch(cluster: &Cluster, copied: &AtomicU64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        sleep(PAUSE);
        let list = cluster.command("job list -o json").run();
        match list.code {
            0 => {}
            // The members are away, or the restore has not begun.
            3 | 5 => continue,
            code => panic!("exit code {code}: {list:?}"),
        }
        let Some(job) = list.json()["items"][0]["id"].as_str().map(str::to_owned) else { continue };
        let shown = cluster.command(&format!("job get {job} -o json")).run();
        if shown.code != 5 {
            let shown = shown.exits(0).json();
            let now = shown["progress"]["segments"]["completed"].as_u64().unwrap();
            let before = copied.swap(now, Ordering::SeqCst);
            assert!(now >= before, "{before} segments were copied, and now it is {now}: {shown}");
        }
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
