//! `cargo xtask tidy`: the rules of this repository that no other tool knows.

mod documents;
mod manifests;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::workspace::root;

/// Reports every violation at once.
pub(crate) fn run() -> Outcome {
    let files = files()?;
    let mut violations = Vec::new();
    for (path, text) in &files {
        let broken = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => sources::check(path, text),
            Some("md") => documents::check(path, text),
            _ => Vec::new(),
        };
        violations.extend(broken.into_iter().map(|violation| format!("{}: {violation}", path.display())));
    }
    violations.extend(manifests::check()?);
    if violations.is_empty() {
        eprintln!("{} files are tidy", files.len());
        return Ok(());
    }
    Err(format!("{} violations\n  {}", violations.len(), violations.join("\n  ")))
}

/// Every source file and document, by its path from the root.
fn files() -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.is_dir() && !is_generated(&path) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                files.push((path.strip_prefix(root()).unwrap_or(&path).to_path_buf(), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a folder holds what tools wrote.
fn is_generated(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name == "target" || name.starts_with('.')
}
