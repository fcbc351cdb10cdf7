//! SIGINT and SIGTERM stop a restore in order, and the same command goes on.

use std::time::{Duration, Instant};

use copyseg_tests::Stage;
use rstest::rstest;
use rustix::process::Signal;

/// How long a restore may take to stop on a machine that is busy with other things: it gives itself five seconds.
const STOP_MAX: Duration = Duration::from_secs(120);

/// How long it waits for its workers to give their tasks back: what they hold after that is left to the next run.
const GRACE: Duration = Duration::from_secs(2);

#[rstest]
#[case::from_the_keyboard(Signal::INT, 130, "SIGINT")]
#[case::from_a_service_manager(Signal::TERM, 143, "SIGTERM")]
fn a_restore_stopped_by_a_signal_says_how_to_go_on_and_does(
    #[case] signal: Signal,
    #[case] code: i32,
    #[case] name: &str,
) {
    let stage = Stage::large();
    let run = stage.stopped(|| stage.command("restore snapshot restored").start_listening());
    let sent = Instant::now();
    run.signal(signal);
    run.signal(Signal::CONT);
    let stopped = run.finish().exits(code);
    let took = sent.elapsed();
    assert!(took < STOP_MAX, "it was {took:?}");
    assert_eq!(stopped.stdout, "");
    assert!(stopped.stderr.contains(&format!("stopped by {name}")), "{stopped:?}");
    assert!(stopped.stderr.contains("run the same command again"), "{stopped:?}");

    let job = stage.job();
    assert_eq!(job["state"], "executing");
    if took < GRACE {
        assert_eq!(job["progress"]["tasks"]["in_progress"], 0, "it gave its tasks back");
    }
    let restored = stage.restore().run().exits(0).json();
    assert_eq!(restored["job"], job["id"]);
    stage.assert_completed();
}

#[test]
fn two_signals_at_the_same_time_are_one_request_to_stop() {
    let stage = Stage::large();
    // Both wait for it while it stands still.
    let run = stage.stopped_restore();
    run.signal(Signal::INT);
    run.signal(Signal::TERM);
    run.signal(Signal::CONT);
    let ended = run.finish();
    assert!(matches!(ended.code, 130 | 143), "{ended:?}");
    assert_eq!(ended.error()["code"], "stopped", "it stopped in order: {ended:?}");
    stage.restore().run().exits(0);
    stage.assert_completed();
}

#[test]
fn a_stopped_restore_is_an_error_object_in_json() {
    let stage = Stage::large();
    let run = stage.stopped_restore();
    run.signal(Signal::INT);
    run.signal(Signal::CONT);
    let error = run.finish().exits(130).error();
    assert_eq!(error["code"], "stopped");
    assert_eq!(error["exit_code"], 130);
}

#[cfg(target_os = "linux")]
#[test]
fn a_restore_that_hangs_in_a_system_call_can_be_stopped() {
    let stage = Stage::small();
    let records = stage.join("restored/_copyseg");
    std::fs::create_dir_all(&records).expect("a folder can be made");
    // Whoever opens it waits until somebody writes, like a file on a network disk that went away.
    let made = std::process::Command::new("mkfifo").arg(records.join("owner")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let run = stage.restore().start_listening();
    let taken_over = |status: String| {
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t").map(str::to_owned));
        caught.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).is_some_and(|mask| mask & 2 != 0)
    };
    while !std::fs::read_to_string(format!("/proc/{}/status", run.id())).is_ok_and(taken_over) {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.signal(Signal::INT);
    let sent = Instant::now();
    while !run.has_ended() {
        assert!(sent.elapsed() < STOP_MAX, "it was to stop within five seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(run.finish().exits(130).error()["code"], "stopped");
}
