//! The records that `copyseg-core` keeps as examples of every schema.

use std::fs;
use std::path::{Path, PathBuf};

use copyseg_core::{Record, RecordKey, RecordKind};

/// Every golden record under its key: jobs and tasks in every state, tasks in both schemas, the format and the counter.
///
/// # Panics
/// If they are not there.
pub fn records() -> Vec<Record> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../copyseg-core/tests/data");
    let mut paths: Vec<_> = files(&data).iter().flat_map(|schema| files(schema)).collect();
    paths.sort();
    paths.iter().map(|path| record(path)).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn record(path: &Path) -> Record {
    let (kind, id) = match path.file_stem().and_then(|name| name.to_str()).unwrap_or_default() {
        "store_format" => (RecordKind::Store, 0),
        "store_counter" => (RecordKind::Store, 1),
        "job_bare" => (RecordKind::Job, i64::MIN),
        "task_bare" => (RecordKind::Task, i64::MAX),
        name if name.starts_with("job_") => (RecordKind::Job, 501),
        _ => (RecordKind::Task, 901),
    };
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Record { key: RecordKey { kind, id }, bytes: bytes.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_golden_record_is_found_and_decodes() {
        let records = records();
        assert!(records.len() >= 21, "{}", records.len());
        for record in records {
            copyseg_core::decode_record(&record).unwrap_or_else(|error| panic!("{}: {error:?}", record.key));
        }
    }
}
