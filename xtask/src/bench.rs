//! `cargo xtask bench`: copyseg beside the design it replaces, as a table; `--growth` draws how cost grows.

use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use copyseg_test_etcd::Member;

use crate::Outcome;
use crate::cargo::{cargo, target_folder};
use crate::etcd::{provide_killable, provide_protoc};
use crate::workspace::root;

/// Where the table lies in the document: between these two lines.
const DOCUMENT: &str = "docs/performance.md";
const BEGIN: &str = "<!-- written by `cargo xtask bench --write` -->";
const END: &str = "<!-- end of what is written -->";

/// Rows that are measured on etcd.
const ON_ETCD: [&str; 3] = ["P13", "P16", "E1"];

struct Asked {
    /// What the benchmark is told.
    arguments: Vec<String>,
    needs_etcd: bool,
    writes: bool,
}

/// Builds the benchmark, starts a member of etcd if a row asks for one, and runs it.
pub(crate) fn run() -> Outcome {
    // The machine and the commit as they are now: what is built is what is measured.
    let (machine, start) = (machine(), Instant::now());
    let asked = asked(env::args().skip(2), &machine)?;
    provide_protoc()?;
    // All of it: the program that measures memory is started by the other one.
    cargo(&["build", "--release", "--package", "copyseg-bench"])?;
    let mut arguments = asked.arguments;
    let mut members = match asked.needs_etcd {
        true => Member::cluster(&provide_killable()?, 1, &[]),
        false => Vec::new(),
    };
    for member in &mut members {
        member.serves();
        arguments.extend(["--etcd".into(), member.endpoint.clone()]);
    }
    let scratch = root().join("target/bench");
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    arguments.extend(["--scratch".into(), scratch.display().to_string()]);

    let program = target_folder()?.join("release/copyseg-bench");
    eprintln!("$ {} {}", program.display(), arguments.join(" "));
    if !asked.writes {
        let status = Command::new(&program).args(&arguments).current_dir(root()).status();
        return ended(&program, status.map(|status| status.success()));
    }
    let output =
        Command::new(&program).args(&arguments).current_dir(root()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    ended(&program, Ok(output.status.success()))?;
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    write(&format!("{machine} It took {minutes:.0} minutes, with the build.\n\n{}", table.trim_end()))
}

fn asked(mut arguments: impl Iterator<Item = String>, machine: &str) -> Result<Asked, String> {
    let mut asked = Asked { arguments: Vec::new(), needs_etcd: true, writes: false };
    let mut draws = false;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--write" => asked.writes = true,
            "--growth" => {
                draws = true;
                let folder = "docs/performance".into();
                asked.arguments.extend([argument, folder, "--machine".into(), machine.to_owned()]);
            }
            "--only" => {
                let only =
                    arguments.next().ok_or("--only needs the names of rows or curves, such as P1,P6")?;
                asked.needs_etcd = only.split(',').any(|row| ON_ETCD.contains(&row));
                asked.arguments.extend([argument, only]);
            }
            "--turns" => {
                let turns = arguments.next().ok_or("--turns needs a number")?;
                asked.arguments.extend([argument, turns]);
            }
            _ => {
                let usage = "usage: cargo xtask bench [--only P1,P6] [--turns N] [--growth] [--write]";
                return Err(usage.into());
            }
        }
    }
    if asked.writes && (draws || asked.arguments.iter().any(|argument| argument == "--only")) {
        return Err(
            "--write puts the whole table in the place of the last one; --growth writes its curves by itself"
                .into(),
        );
    }
    asked.needs_etcd &= !draws;
    Ok(asked)
}

fn ended(program: &std::path::Path, succeeded: std::io::Result<bool>) -> Outcome {
    match succeeded {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{} failed", program.display())),
        Err(error) => Err(format!("{} did not start: {error}", program.display())),
    }
}

/// Puts the table, and where and when it was measured, in the place of the last one.
fn write(content: &str) -> Outcome {
    let path = root().join(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let text = replaced(&text, content)
        .ok_or_else(|| format!("{DOCUMENT}: there are no lines `{BEGIN}` and `{END}`"))?;
    fs::write(&path, text).map_err(|error| format!("{DOCUMENT}: {error}"))
}

fn replaced(text: &str, content: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{content}\n\n{END}{after}"))
}

/// The machine, the date and the commit.
fn machine() -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(root()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    format!(
        "Measured on {} at commit {}: {}, {} processors, {} of memory, Linux {}, {} ({}), {}.",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        said("git", &["describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]),
        value(&file("/proc/cpuinfo"), "model name"),
        std::thread::available_parallelism().map_or(0, usize::from),
        value(&file("/proc/meminfo"), "MemTotal"),
        file("/proc/sys/kernel/osrelease").trim(),
        said("findmnt", &["--noheadings", "--output", "FSTYPE", "--target", "."]),
        said("findmnt", &["--noheadings", "--output", "OPTIONS", "--target", "."]),
        said("rustc", &["--version"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_whole_or_not_at_all() {
        let refused =
            |arguments: &[&str]| asked(arguments.iter().map(|argument| (*argument).to_owned()), "").is_err();
        assert!(refused(&["--write", "--only", "P1"]) && refused(&["--growth", "--write"]));
        assert!(!refused(&["--write"]) && !refused(&["--growth", "--only", "read"]));
    }

    #[test]
    fn a_new_table_takes_the_place_of_the_old_one() {
        let once = replaced(&format!("a\n{BEGIN}\nold\n{END}\nb\n"), "new").unwrap_or_default();
        assert_eq!(once, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&once, "new"), Some(once.clone()));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
