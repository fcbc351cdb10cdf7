//! Catalogs that cannot be used: held, missing, damaged, from the future, mistyped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use copyseg_tests::{Command, OPERATOR_COMMANDS, Running, Stage, files_below};
use rstest::rstest;
use rustix::process::Signal;

#[test]
fn a_catalog_that_a_running_restore_holds_names_the_process() {
    let stage = Stage::large();
    // It stands still, so that it cannot let go of the catalog meanwhile.
    let run = stage.stopped_restore();
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
    for line in OPERATOR_COMMANDS {
        let refused = stage.command(line).args(["--catalog", "nowhere.redb", "-o", "json"]).run().exits(3);
        assert!(refused.error()["message"].as_str().unwrap().contains("nowhere.redb"), "{line}");
        assert!(!stage.join("nowhere.redb").exists(), "{line}");
    }
    stage.command("job list --catalog snapshot").run().exits(3);
}

#[rstest]
#[case::an_unknown_scheme("ftp://host/catalog", 2, "`ftp:`; this build opens `memory:` and `redb:`")]
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
fn a_restore_into_a_catalog_that_is_no_url_is_refused_as_wrong_and_not_as_missing() {
    let stage = Stage::small();
    let refused = stage.restore().args(["--catalog", "t6"]).run().exits(2).error();
    assert!(refused["message"].as_str().unwrap().contains("`t6` is no catalog"), "{refused}");
    assert!(!refused["hint"].as_str().unwrap().contains("job list"), "{refused}");
}

#[test]
fn a_catalog_is_found_by_every_name_of_its_target() {
    let stage = Stage::small();
    fs::create_dir(stage.join("restored")).unwrap();
    std::os::unix::fs::symlink("restored", stage.join("link")).unwrap();
    stage.command("restore snapshot link").run().exits(0);
    assert!(stage.join("restored.copyseg.redb").exists());
    for target in ["link", "restored", "./restored/", "restored/../link"] {
        let list = stage.command("job list --catalog").args([target]).run().exits(0);
        assert!(list.stdout.contains("completed"), "{target}: {list:?}");
    }
    let inside = Command::new(&stage.join("restored"), ["job", "list", "--catalog", "."]).run().exits(0);
    assert!(inside.stdout.contains("completed"), "{inside:?}");
}

#[test]
fn a_catalog_whose_path_is_a_link_to_itself_is_refused_as_wrong() {
    let stage = Stage::small();
    std::os::unix::fs::symlink("loop.redb", stage.join("loop.redb")).unwrap();
    stage.command("job list --catalog loop.redb").run().exits(2);
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
        let check = stage.command("check --catalog restored -o json").run().exits(8);
        assert_eq!(check.stderr.lines().count(), 1, "{check:?}");
        let hint = check.error()["hint"].as_str().unwrap().to_owned();
        assert!(hint.contains("can be moved away") && !hint.contains("--drop"), "{hint}");
    }
    fs::write(&file, "not a catalog at all").unwrap();
    assert_refused_untouched(&stage, &file, "corrupt", 1);
}

#[test]
fn damage_that_only_the_check_of_the_storage_finds_is_told_once() {
    let stage = Stage::small();
    stage.restore().run().exits(0);
    let file = stage.join("restored.copyseg.redb");
    let content = fs::read(&file).unwrap();
    // Where nothing reads a byte again, and only the sums of the pages tell.
    for at in (4096..content.len()).step_by(256).filter(|at| content[*at] != 0) {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        let check = stage.command("check --catalog restored -o json").run();
        if check.stdout.contains("cannot check the catalog") {
            let check = check.exits(8);
            assert_eq!(check.stderr.lines().count(), 1, "{check:?}");
            return;
        }
    }
    panic!("no byte was damaged that the check of the storage alone finds");
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

/// A restore that stands still, so that it cannot end by itself, and one that stands by, having found it.
fn leader_and_standby(stage: &Stage) -> (Running, Running) {
    let leader = stage.stopped_restore();
    let standby = stage.standby(stage.command("restore snapshot restored --standby"), &leader);
    (leader, standby)
}

#[test]
fn a_standby_takes_over_from_a_restore_that_was_killed() {
    let stage = Stage::large();
    let (leader, standby) = leader_and_standby(&stage);
    assert!(leader.kill(), "it was killed on its way");
    standby.finish().exits(0);
    stage.assert_completed();
}

#[test]
fn a_standby_stops_when_it_is_told_to() {
    let stage = Stage::large();
    let (leader, standby) = leader_and_standby(&stage);
    standby.signal(Signal::TERM);
    standby.finish().exits(143);
    leader.signal(Signal::CONT);
    leader.finish().exits(0);
}

/// A stage whose catalog is taken away from a restore.
struct TakenAway {
    stage: Stage,
    notes: PathBuf,
    catalog: PathBuf,
    away: PathBuf,
    line: String,
}

impl TakenAway {
    /// With the restore, which is under way.
    fn new(scheme: &str) -> (Self, Running) {
        let stage = Stage::large();
        let [notes, catalog, away] = ["notes", "catalog", "away"].map(|name| stage.join(name));
        let line = format!("restore snapshot restored --segments-per-task 2 --catalog {scheme}:catalog");
        let restore = || {
            let command =
                stage.command(&line).env("COPYSEG_LOG", "warn,copyseg_core=debug,copyseg_local=debug");
            command.stdout(Stdio::null()).stderr(File::create(&notes).unwrap())
        };
        let run = stage.stopped(|| restore().start());
        fs::rename(&catalog, &away).unwrap();
        run.signal(Signal::CONT);
        (Self { stage, notes, catalog, away, line }, run)
    }

    fn assert_goes_on(&self) {
        self.stage.command(&self.line).run().exits(0);
        self.stage.assert_restored();
        let url = self.line.rsplit(' ').next().unwrap();
        self.stage.command("check --catalog").args([url]).run().exits(0);
    }
}

#[rstest]
#[case("redb")]
#[case("sled")]
fn a_catalog_removed_during_a_restore_is_asked_for_until_it_is_put_back(#[case] scheme: &str) {
    let (taken, run) = TakenAway::new(scheme);
    run.wait_for_note(&taken.notes, "replaced or removed while it was open");
    assert!(!taken.catalog.exists(), "no new one in its place");
    fs::rename(&taken.away, &taken.catalog).unwrap();
    run.finish().exits(0);
    taken.assert_goes_on();
}

#[rstest]
#[case("redb")]
#[case("sled")]
fn a_catalog_that_stays_away_is_told_when_what_it_says_changes_and_not_at_each_attempt(#[case] scheme: &str) {
    let (taken, run) = TakenAway::new(scheme);
    let notes = run.wait_for_note(&taken.notes, "attempt=4");
    let warned = |of: &str| notes.lines().filter(|line| line.contains(" WARN ") && line.contains(of)).count();
    // That it was removed, and then that it is not there.
    assert!((1..=2).contains(&warned("outcome of a commit")), "{notes}");
    assert_eq!(warned("cached pages"), 0, "{notes}");
    fs::rename(&taken.away, &taken.catalog).unwrap();
    run.finish().exits(0);
}

/// The answer to a change that may have reached the catalog before it was taken away.
const OUTCOME_UNKNOWN: i32 = 5;

/// The note of the last commit lies beside a redb file, which is found to be older by it, and in a sled folder.
#[rstest]
#[case("redb", 1, "was replaced by an older copy")]
#[case("sled", 4, "another writer")]
fn a_catalog_replaced_during_a_restore_ends_it_and_loses_nothing(
    #[case] scheme: &str,
    #[case] code: i32,
    #[case] reason: &str,
) {
    let other = Stage::small();
    other.command(&format!("restore snapshot restored --catalog {scheme}:other")).run().exits(0);
    let (taken, run) = TakenAway::new(scheme);
    fs::rename(other.join("other"), &taken.catalog).unwrap();
    let ended = run.finish().code;
    let notes = fs::read_to_string(&taken.notes).unwrap();
    assert!([code, OUTCOME_UNKNOWN].contains(&ended), "{ended}: {notes}");
    assert!(notes.contains(reason), "{notes}");

    fs::rename(&taken.catalog, taken.stage.join("other")).unwrap();
    let list = format!("job list -o json --catalog {scheme}:other");
    let list = taken.stage.command(&list).run().exits(0).json();
    assert_eq!(
        list["items"].as_array().map(Vec::len),
        Some(1),
        "nothing was written to the other one: {list}"
    );
    fs::rename(&taken.away, &taken.catalog).unwrap();
    taken.assert_goes_on();
}

#[rstest]
#[case("redb", 8)]
#[case("redb", 16)]
#[case("redb", 24)]
#[case("sled", 8)]
#[case("sled", 16)]
#[case("sled", 24)]
fn too_few_open_files_end_a_restore_with_advice_and_it_goes_on_with_more(
    #[case] scheme: &str,
    #[case] limit: u32,
) {
    let stage = Stage::small();
    let line = format!("restore snapshot restored --catalog {scheme}:catalog -o json");
    let error = stage.command(&line).after(&format!("ulimit -n {limit}")).run();
    if error.code != 0 {
        let error = error.exits(5).error();
        assert_eq!(error["code"], "unavailable");
        assert!(error["message"].as_str().unwrap().contains("ulimit -n"), "{error}");
    }
    stage.command(&line).after("ulimit -n 64").run().exits(0);
    stage.assert_restored();
}

/// A disk of its own, for which a user without rights is root in a world of its own.
#[rstest]
#[case("redb", "3m")]
#[case("sled", "40m")]
fn a_catalog_on_a_full_disk_loses_nothing_and_the_restore_goes_on_once_there_is_space(
    #[case] scheme: &str,
    #[case] size: &str,
) {
    let stage = Stage::large();
    let disk = stage.join("disk");
    fs::create_dir(&disk).unwrap();
    // The exit code if the machine held the shell up until the restore was over.
    const OVER: i32 = 93;
    let mount = format!("mount -t tmpfs -o size={size} tmpfs disk");
    let unshared = |command: Command| command.through("unshare", &["--mount", "--map-root-user"]);
    if !unshared(stage.command("--version").after(&mount)).run().stderr.is_empty() {
        return eprintln!("not tried: this user may not mount a disk, not even by `unshare`");
    }
    let catalog = format!("--catalog {scheme}:disk/catalog");
    let restore = format!("$0 restore snapshot restored --segments-per-task 2 {catalog}");
    // The disk is there for this shell alone, so all of it happens in one.
    let script = format!(
        "{mount} || exit 90
         {restore} 2>notes & restore=$!
         while [ $(ls restored 2>/dev/null | wc -l) -lt 10 ]; do sleep 0.02; done
         kill -STOP $restore
         test ! -e restored/_copyseg/outcome || exit {OVER}
         cat /dev/zero >disk/fill 2>/dev/null
         kill -CONT $restore
         while kill -0 $restore 2>/dev/null && ! grep -q 'no space is left' notes; do sleep 0.02; done
         $0 job list {catalog} >list 2>&1; echo $? >>list
         rm disk/fill; wait $restore; ended=$?
         {restore} || exit 91
         $0 check {catalog} || exit 92
         exit $ended"
    );
    let run = loop {
        let run = unshared(stage.command("").through("sh", &["-c", &script])).run();
        if run.code != OVER {
            break run;
        }
        stage.clear();
        fs::create_dir(&disk).unwrap();
    };
    let [notes, list] =
        ["notes", "list"].map(|name| fs::read_to_string(stage.join(name)).unwrap_or_default());
    assert_eq!(run.code, 0, "it waits for space: {run:?}\n{notes}");
    assert!(!notes.contains("could not close"), "a failure that was told is told once: {notes}");
    assert!(notes.contains("no space is left on the disk; free some"), "{notes}");
    // Which process, a note says that may have found no room either.
    let is_held = ["is held by process", "another process holds it"].iter().any(|says| list.contains(says));
    assert!(list.contains("executing") || is_held, "{list}");
    assert!(run.stdout.contains("no problems"), "{run:?}");
    stage.assert_restored();
}
