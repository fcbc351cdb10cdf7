//! Running cargo, so that whoever reads the log can repeat each step by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Outcome;
use crate::workspace::{members, root};

/// Runs `cargo ARGS` at the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Outcome {
    cargo_with(args, &[])
}

/// Runs `cargo ARGS` with more environment variables.
pub(crate) fn cargo_with(args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let assignments: String = variables.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    let line = format!("{assignments}cargo {}", args.join(" "));
    eprintln!("$ {line}");
    let status = command(args).envs(variables.iter().copied()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("`{line}` did not start: {error}")),
    }
}

/// What `cargo ARGS` prints.
pub(crate) fn cargo_output(args: &[&str]) -> Result<String, String> {
    let output = command(args).stderr(Stdio::inherit()).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).map_err(|error| error.to_string())
        }
        Ok(output) => Err(format!("`cargo {}` ended with {}", args.join(" "), output.status)),
        Err(error) => Err(format!("`cargo {}` did not start: {error}", args.join(" "))),
    }
}

/// Builds the tests of these names, with what those on etcd take, and returns where each is: package, name, executable.
/// They are built together, because packages that are selected one by one would build their dependencies one by one.
pub(crate) fn build_tests(names: &[&str]) -> Result<Vec<(String, String, PathBuf)>, String> {
    const FEATURES: &str = "copyseg-etcd/etcd-tests,copyseg-tests/etcd-tests";
    let format = ["--no-run", "--message-format", "json-render-diagnostics"];
    let tests: Vec<&str> = names.iter().flat_map(|name| ["--test", name]).collect();
    let args = [&["test", "--workspace", "--features", FEATURES], &tests[..], &format].concat();
    eprintln!("$ cargo {}", args.join(" "));
    let output = cargo_output(&args)?;
    let members = members()?;
    let built = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let test = |message: Value| {
        let (name, executable) = (message["target"]["name"].as_str()?, message["executable"].as_str()?);
        let manifest = Path::new(message["manifest_path"].as_str()?);
        let package = &members.iter().find(|member| member.manifest == manifest)?.name;
        names.contains(&name).then(|| (package.clone(), name.to_owned(), PathBuf::from(executable)))
    };
    Ok(built.filter_map(test).collect())
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf, String> {
    let text = cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    metadata["target_directory"].as_str().map(PathBuf::from).ok_or("cargo names no target folder".into())
}

/// Whether the subcommand `cargo NAME` is installed, and its version line.
pub(crate) fn cargo_version_of(name: &str) -> Option<String> {
    let output = command(&[name, "--version"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}
