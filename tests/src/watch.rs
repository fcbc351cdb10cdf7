//! A watch under way, whose lines are looked at as they come.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::{Command, Running, Stage};

/// A run of `copyseg job watch`, which writes JSON.
#[derive(Debug)]
pub struct Watch {
    /// The process.
    pub run: Running,
    output: PathBuf,
}

impl Watch {
    /// Starts it, the only one on this stage.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(stage: &Stage, command: Command) -> Self {
        let output = stage.join("watched.jsonl");
        let stdout = File::create(&output).expect("a file can be created");
        Self { run: command.stdout(stdout).stderr(Stdio::piped()).start(), output }
    }

    /// What it has written so far, line by line.
    ///
    /// # Panics
    /// If a line is not JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.output).expect("the file can be read");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Waits until a line is such.
    ///
    /// # Panics
    /// If it ends before.
    pub fn until(&mut self, is_such: impl Fn(&Value) -> bool) -> Value {
        loop {
            let has_ended = self.run.has_ended();
            if let Some(line) = self.lines().into_iter().find(&is_such) {
                return line;
            }
            assert!(!has_ended, "it has ended after {:?}", self.lines());
            sleep(Duration::from_millis(10));
        }
    }
}
