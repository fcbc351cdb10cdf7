//! Rules for source files.

use std::path::Path;

/// A longer file has more than one subject.
const LINES_MAX: usize = 500;

/// Words of the backends, which the conformance suite must not know.
const BACKENDS: [&str; 3] = ["redb", "sled", "etcd"];

/// What is wrong with this file.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if !text.starts_with("//!") {
        violations.push("does not start with a `//!` line that says what it is for".into());
    }
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        violations.push("a module lives in `name.rs` beside its folder, not in `mod.rs`".into());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        violations.push(format!("has {lines} lines, more than {LINES_MAX}: split it by subject"));
    }
    let is_suite = path.starts_with("crates/copyseg-conformance/src");
    for (index, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let mut report = |what: String| violations.push(format!("line {}: {what}", index + 1));
        if lower.contains(concat!("``", "`ignore")) {
            report("an example that is not compiled".into());
        }
        if line.starts_with("#![warn(") || line.starts_with("#![deny(") {
            report("a lint for one crate: the manifest of the workspace sets them for all".into());
        }
        for word in words(&lower) {
            if [concat!("to", "do"), concat!("fix", "me")].contains(&word) {
                report(format!("`{word}`: do it, or file an issue"));
            }
            if is_suite && BACKENDS.contains(&word) {
                report(format!("`{word}`: the suite knows no backend"));
            }
        }
    }
    violations
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(path: &str, text: &str) -> usize {
        check(Path::new(path), text).len()
    }

    #[test]
    fn a_tidy_file_passes() {
        assert_eq!(violations("crates/copyseg-core/src/a.rs", "//! What it is for.\n\nfn redb() {}\n"), 0);
    }

    #[test]
    fn each_rule_is_broken_by_what_it_forbids() {
        assert_eq!(violations("a.rs", "fn f() {}\n"), 1);
        assert_eq!(violations("a/mod.rs", "//! A.\n"), 1);
        assert_eq!(violations("a.rs", &"//! A.\n".repeat(LINES_MAX)), 0);
        assert_eq!(violations("a.rs", &"//! A.\n".repeat(LINES_MAX + 1)), 1);
        assert_eq!(violations("a.rs", concat!("//! A.\n//! ``", "`ignore\n")), 1);
        assert_eq!(violations("a.rs", concat!("//! A.\n// TO", "DO: later\n")), 1);
        assert_eq!(violations("a.rs", "//! A.\n#![warn(missing_docs)]\n"), 1);
        assert_eq!(violations("crates/copyseg-conformance/src/a.rs", "//! As on redb.\n"), 1);
    }
}
