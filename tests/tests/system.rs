//! What the system withholds from a restore: room on the disk, the right to write, open files. The error says what, nothing
//! is lost, and the same command goes on when it is given.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;

use copyseg_tests::{Stage, copyseg, files_below};
use rstest::rstest;
use serde_json::Value;

/// Runs the lines in a shell in the scratch directory, in which `restore` stands for the command with its first
/// arguments; gives its exit code and the error object at the end of what it wrote.
fn shell(stage: &Stage, wrapper: &[&str], lines: &str) -> (i32, Value) {
    let restore = format!("restore() {{ {} restore -o json snapshot \"$@\"; }}", copyseg().display());
    let script = format!("{restore}\n{lines}");
    let wrapped = [wrapper, &["sh", "-c", &script]].concat();
    let mut shell = process::Command::new(wrapped[0]);
    let output = shell.args(&wrapped[1..]).current_dir(stage.scratch.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let last = stderr.lines().last().unwrap_or_default();
    let error = serde_json::from_str::<Value>(last).map(|error| error["error"].clone());
    let code = output.status.code().unwrap_or_else(|| panic!("{:?}: {stderr}", output.status));
    (code, error.unwrap_or(Value::String(stderr)))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn assert_needs_help(ended: &(i32, Value), advice: &str) {
    let (code, error) = ended;
    assert_eq!((*code, &error["code"]), (5, &Value::from("unavailable")), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(advice), "{message}");
}

/// A mount namespace in which a file system can be mounted, where the system allows one.
const NAMESPACE: [&str; 2] = ["unshare", "-rm"];

fn can_mount(stage: &Stage) -> bool {
    fs::create_dir_all(stage.join("disk")).unwrap();
    let mut mount = process::Command::new(NAMESPACE[0]);
    mount.args([NAMESPACE[1], "mount", "-t", "tmpfs", "tmpfs", "disk"]).current_dir(stage.scratch.path());
    mount.output().is_ok_and(|output| output.status.success())
}

#[rstest]
#[case::with_the_catalog_elsewhere("--catalog catalog.redb")]
#[case::with_the_catalog_beside_the_target("")]
fn a_disk_that_runs_full_or_turns_read_only_ends_the_run_and_the_next_one_goes_on(#[case] catalog: &str) {
    let stage = Stage::large();
    if !can_mount(&stage) {
        eprintln!("no file system can be mounted here: a limit on the size of files has to do");
        return runs_into_the_limit_on_files(&stage);
    }
    let (code, error) = shell(
        &stage,
        &NAMESPACE,
        &format!(
            "mount -t tmpfs -o size=6m tmpfs disk || exit 90
             restore disk/restored {catalog} 2> full; echo $? >> full
             test -z \"$(find disk -path '*staging/*')\" || exit 91
             mount -o remount,size=80m tmpfs disk && mount -o remount,ro tmpfs disk || exit 90
             restore disk/restored {catalog} 2> read-only; echo $? >> read-only
             mount -o remount,rw tmpfs disk || exit 90
             restore disk/restored {catalog} || exit $?
             cp -r disk/restored restored"
        ),
    );
    assert_eq!(code, 0, "{error}");
    let ended = |name: &str| -> (i32, Value) {
        let text = fs::read_to_string(stage.join(name)).unwrap();
        let lines: Vec<_> = text.lines().rev().take(2).collect();
        let error: Value = serde_json::from_str(lines[1]).unwrap_or_else(|error| panic!("{error}: {text}"));
        (lines[0].parse().unwrap(), error["error"].clone())
    };
    // The catalog may be the first to find no room, and says so in its own words.
    let full = ended("full");
    assert_eq!((full.0, &full.1["code"]), (5, &Value::from("unavailable")), "{full:?}");
    assert!(full.1.to_string().contains("os error 28"), "{full:?}");
    let read_only = ended("read-only");
    assert_eq!((read_only.0, &read_only.1["code"]), (5, &Value::from("unavailable")), "{read_only:?}");
    assert!(read_only.1.to_string().contains("os error 30"), "{read_only:?}");
    stage.assert_restored();
}

#[test]
fn a_limit_on_the_size_of_files_ends_the_run_and_the_next_one_goes_on() {
    runs_into_the_limit_on_files(&Stage::large());
}

/// The size is counted in blocks of 512 bytes: more than the catalog takes, less than the last segment.
fn runs_into_the_limit_on_files(stage: &Stage) {
    let last = stage.join("snapshot").join(stage.snapshot.segments[399].to_string()).join("vectors.npy");
    let content = vec![7; 8 << 20];
    fs::write(&last, &content).unwrap();
    let ended = shell(stage, &[], "trap '' XFSZ; ulimit -f 8192; restore restored");
    assert_needs_help(&ended, "lift the limit on file sizes");
    assert!(!stage.join("restored/_copyseg/staging").exists());
    let _ = stage.restore().run().exits(0);
    stage.assert_completed();
}

#[rstest]
#[case::usual(1024, 16)]
#[case::usual_and_many_objects(1024, 500)]
#[case::low(64, 500)]
#[case::lower(24, 500)]
#[case::lowest(12, 500)]
fn a_limit_on_open_files_ends_the_run_at_worst_and_the_next_one_goes_on(
    #[case] files: u32,
    #[case] objects: u32,
) {
    let stage = Stage::large();
    let limited = format!("ulimit -n {files}; restore restored --objects-in-flight {objects}");
    let ended = shell(&stage, &[], &limited);
    match ended.0 {
        0 => assert!(files >= 64, "a process needs more: {ended:?}"),
        _ => assert_needs_help(&ended, "raise the limit"),
    }
    assert!(files < 1024 || ended.0 == 0, "a usual limit is enough: {ended:?}");
    assert!(!stage.join("restored/_copyseg/staging").exists());
    stage.restore().run().exits(0);
    stage.assert_completed();
}

#[cfg(target_os = "linux")]
#[rstest]
fn a_limit_on_threads_ends_the_run_in_order_and_the_next_one_goes_on(
    #[values(1, 2, 3, 4, 5, 6, 7, 8)] threads: u32,
) {
    let stage = Stage::small();
    // Root is bound by no such limit, and nothing else runs as this user.
    let id = (64_900 + threads).to_string();
    let user: &[&str] =
        if is_root() { &["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"] } else { &[] };
    fs::set_permissions(stage.scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let limited = ["timeout", "--signal=KILL", "60", "prlimit", &format!("--nproc={threads}")];
    let wrapper = [user, &limited].concat();
    let run = stage.restore().through(wrapper[0], &wrapper[1..]).run();
    if run.code != 0 {
        let error = run.exits(5).error();
        assert_eq!(error["code"], "unavailable", "{error}");
        assert!(error.to_string().contains("thread"), "{error}");
    }
    let everybody: &[&str] = if user.is_empty() { &["env"] } else { user };
    stage.restore().through(everybody[0], &everybody[1..]).run().exits(0);
    stage.assert_completed();
}

#[test]
fn a_target_that_may_not_be_written_ends_the_run_and_the_next_one_goes_on() {
    let stage = Stage::large();
    stage.interrupted();
    let allow = |mode| fs::set_permissions(stage.join("restored"), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    let copied = files_below(&stage.join("restored"));
    // Without its capabilities root is bound by permissions as everybody else is.
    let unprivileged: &[&str] =
        if is_root() { &["setpriv", "--inh-caps=-all", "--bounding-set=-all"] } else { &[] };
    let ended = shell(&stage, unprivileged, "restore restored");
    allow(0o755);
    assert_needs_help(&ended, "allow it to this user");
    let is_segment = |file: &&std::path::PathBuf| !file.starts_with(Path::new("_copyseg"));
    assert!(copied.iter().filter(is_segment).all(|file| stage.join("restored").join(file).exists()));
    stage.restore().run().exits(0);
    stage.assert_completed();
}
