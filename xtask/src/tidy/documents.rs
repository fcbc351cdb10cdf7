//! Rules for documents.

use std::path::Path;

use crate::workspace::root;

/// Links to files that are not there.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let folder = root().join(path);
    let folder = folder.parent().unwrap_or(root());
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("links to `{target}`, which is not there"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_missing_file_is_found() {
        let text =
            "[here](Cargo.toml) [part](Cargo.toml#x) [self](#y) [web](https://example.com) [gone](gone.md)";
        assert_eq!(check(Path::new("README.md"), text), ["links to `gone.md`, which is not there"]);
    }
}
