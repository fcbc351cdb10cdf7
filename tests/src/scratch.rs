//! Scratch directories on the disk that the build uses, since a test of durability is worth little in memory.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory that is removed when the test ends.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A fresh directory below the build directory.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn new() -> Self {
        let parent = build_directory().join("tmp");
        std::fs::create_dir_all(&parent).expect("the build directory is writable");
        Self(TempDir::new_in(parent).expect("the build directory is writable"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of `name` in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The directory of the build that this test belongs to: its executable is `<build>/<profile>/deps/<name>`.
pub(crate) fn build_directory() -> PathBuf {
    profile_directory().parent().expect("a profile directory has a parent").to_owned()
}

pub(crate) fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its executable");
    test.ancestors().nth(2).expect("a test is at <build>/<profile>/deps/<name>").to_owned()
}
