//! What reaches stdout, stderr and a terminal.

use copyseg_tests::{Command, Stage, on_a_terminal, on_terminal};
use rstest::rstest;

const ESCAPE: char = '\u{1b}';

#[test]
fn every_command_prints_json_that_can_be_read() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    for line in [
        "job list".into(),
        format!("job get {id}"),
        format!("job tasks {id}"),
        format!("job wait {id}"),
        format!("job watch {id}"),
        "gc --dry-run".into(),
        "stats".into(),
        "check".into(),
        "check --list".into(),
        "restore snapshot restored".into(),
        format!("job rm {id}"),
    ] {
        let run = stage.command(&line).args(["--catalog", "restored", "-o", "json"]).run().exits(0);
        assert!(run.json().is_object(), "{line}: {run:?}");
        assert_eq!(run.stderr, "", "{line}");
    }
}

#[test]
fn jsonl_is_one_object_a_line() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let run = stage.command(&format!("job tasks {id} --catalog restored --output jsonl")).run().exits(0);
    assert_eq!(run.stdout.lines().count(), 2);
    for line in run.stdout.lines() {
        let task: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(task["job"], id.as_str());
    }
}

#[rstest]
#[case("frobnicate")]
#[case("job get 5x")]
#[case("job get 99999999999999999999")]
#[case("job list --state done")]
#[case("job list --limit 0")]
#[case("gc --retention soon")]
#[case("check --drop shop:1")]
#[case("check --list --drop job:1")]
#[case("restore")]
#[case("restore a b --verify luck")]
#[case("restore a b --objects-in-flight 0")]
#[case("restore a b --attempts -1")]
#[case("restore a b --deadline -2h")]
fn wrong_arguments_are_a_usage_error_in_every_format(#[case] line: &str) {
    let stage = Stage::small();
    let text = stage.command(line).run().exits(2);
    assert!(text.stderr.starts_with("error: "), "{text:?}");
    assert_eq!(text.stdout, "");
    let error = stage.command(line).args(["-o", "json"]).run().exits(2).error();
    assert_eq!(error["code"], "usage");
    assert_eq!(error["exit_code"], 2);
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let stage = Stage::small();
    let help = stage.command("--help").run().exits(0).stdout;
    for expected in ["copyseg restore examples/digits restored", "COPYSEG_CATALOG", "NO_COLOR", "  130  "] {
        assert!(help.contains(expected), "{expected} is missing in: {help}");
    }
    stage.command("--version").run().exits(0);
    stage.command("job --help").run().exits(0);
    stage.command("").run().exits(2);
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_an_error() {
    let stage = Stage::small();
    for line in ["--help", "job --help", "--version", "backends"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = stage.command(line).stdout(full).stderr(std::process::Stdio::piped()).start().finish();
        assert!(run.exits(1).stderr.contains("could not be written"), "{line}");
    }
}

#[test]
fn a_terminal_gets_colour_unless_no_color_is_set() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let list = || stage.command("job list --catalog restored");
    let (code, shown) = on_a_terminal(list());
    assert!(code == 0 && shown.contains("completed") && shown.contains(ESCAPE), "{shown:?}");
    let (code, shown) = on_a_terminal(list().env("NO_COLOR", "1"));
    assert!(code == 0 && shown.contains("completed") && !shown.contains(ESCAPE), "{shown:?}");
    assert!(!list().run().stdout.contains(ESCAPE), "and a pipe never does");

    let wrong = || stage.command("job get 7777 --catalog restored");
    let (code, shown) = on_a_terminal(wrong());
    assert!(code == 3 && shown.contains(ESCAPE), "{shown:?}");
    let (code, shown) = on_a_terminal(wrong().env("NO_COLOR", "1"));
    assert!(code == 3 && shown.contains("error: ") && !shown.contains(ESCAPE), "{shown:?}");
}

#[test]
fn a_terminal_that_can_do_little_gets_plain_lines() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let list = || stage.command("job list --catalog restored");
    let (code, shown) = on_terminal(list(), "dumb", 80);
    assert!(code == 0 && shown.contains("completed") && !shown.contains(ESCAPE), "{shown:?}");
    let (code, shown) = on_terminal(list(), "vt100", 0);
    assert!(code == 0 && shown.contains("completed"), "a width that is not known limits none: {shown:?}");
    assert_eq!(shown.lines().count(), 2, "{shown:?}");
}

#[test]
fn a_terminal_shows_how_far_a_restore_is() {
    let stage = Stage::large();
    let (code, shown) = on_a_terminal(stage.command("restore snapshot restored"));
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("/400 segments") && shown.contains("ETA") && shown.contains("/s"), "{shown:?}");
    assert!(shown.contains("restored 400 segments"), "{shown:?}");
}

#[test]
fn what_others_wrote_cannot_steer_the_terminal() {
    const REASON: &str = "\u{1b}]0;title\u{7}\u{9b}2J\r\nno \u{202e}error";
    const SHOWN: &str = r"\u{1b}]0;title\u{7}\u{9b}2J\r\nno \u{202e}error";
    let stage = Stage::large();
    stage.interrupted();
    let id = stage.job()["id"].as_str().unwrap().to_owned();
    let on = |line: String| stage.command(&format!("{line} --catalog restored"));
    on(format!("job cancel {id}")).args(["--reason", REASON]).run().exits(0);
    for (line, code) in [("get", 0), ("tasks", 0), ("wait", 7), ("watch", 7)] {
        let (ended, shown) = on_a_terminal(on(format!("job {line} {id}")).env("NO_COLOR", "1"));
        assert_eq!(ended, code, "{line}");
        let steering = |character: char| character.is_control() && !"\r\n".contains(character);
        assert!(!shown.contains(steering) && !shown.contains('\u{202e}'), "{line}: {shown:?}");
        // A column that is too narrow breaks it.
        assert!(
            shown.replace(char::is_whitespace, "").contains(&SHOWN.replace(' ', "")),
            "{line}: {shown:?}"
        );
    }
    let json = on(format!("job get {id} -o json")).run().exits(0);
    assert!(!json.stdout.contains(['\u{9b}', '\u{202e}']), "{json:?}");
    assert_eq!(json.json()["reason"], REASON);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let list: Command = stage.command("job list --catalog restored");
    let run = list.stdout(writer).stderr(std::process::Stdio::piped()).start().finish();
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}
