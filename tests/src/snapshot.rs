//! Snapshots made for a test: segments of distinct content, the same for the same seed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Random;

/// What was generated.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The ids of the segments, in order.
    pub segments: Vec<i64>,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Writes a snapshot of `segments` segments with `bytes` bytes each into `directory`, in three files of
/// random content per segment; one of them lies in a folder, and one in a hundred is empty.
///
/// # Panics
/// If a file cannot be written.
pub fn write_snapshot(directory: &Path, segments: usize, bytes: usize, seed: u64) -> Generated {
    let mut random = Random::seeded(seed);
    // Ids as large as those of Milvus, which no floating-point number holds.
    let first = 459_117_024_851_200_000_i64;
    let ids: Vec<_> = (0..segments).map(|index| first + 16 * index as i64).collect();
    let mut written = 0;
    for (index, id) in ids.iter().enumerate() {
        let folder = directory.join(id.to_string());
        fs::create_dir_all(folder.join("stats")).expect("the snapshot can be written");
        let small = random.below(64) as usize;
        let empty = if index % 100 == 0 { 0 } else { 8 };
        for (name, size) in
            [("vectors.npy", bytes.saturating_sub(small)), ("ids.npy", small), ("stats/rows", empty)]
        {
            let content: Vec<u8> =
                (0..size.div_ceil(8)).flat_map(|_| random.draw().to_le_bytes()).take(size).collect();
            written += content.len() as u64;
            fs::write(folder.join(name), content).expect("the snapshot can be written");
        }
    }
    Generated { segments: ids, bytes: written }
}

/// Every file below `directory`, by its path relative to it, in order; none if the directory is missing.
///
/// # Panics
/// If a directory cannot be read.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, below: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(below).expect("the directory can be read") {
            let entry = entry.expect("the directory can be read");
            match entry.file_type().expect("the entry has a type").is_dir() {
                true => walk(root, &entry.path(), files),
                false => files.push(entry.path().strip_prefix(root).expect("it lies below").to_owned()),
            }
        }
    }
    let mut files = Vec::new();
    if directory.exists() {
        walk(directory, directory, &mut files);
    }
    files.sort();
    files
}
