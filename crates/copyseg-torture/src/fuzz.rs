//! What is done with arbitrary bytes, by cargo-fuzz (`fuzz/`) and by a trial that needs no nightly toolchain.
//!
//! A body panics when a promise is broken, and returns whatever else the bytes mean.
#![allow(clippy::unwrap_used, reason = "a body fails by panicking")]

use std::fs;
use std::sync::OnceLock;

use copyseg_core::{DecodedRecord, ErrorKind, Head, Record, RecordKey, RecordKind, decode_record};
use copyseg_restore::{Location, Manifest};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::model;
use crate::storage::Backend;

/// A body by its name, which is also that of its target and of its corpus.
pub type Body = (&'static str, fn(&[u8]));

/// Every body.
pub const BODIES: [Body; 4] =
    [("decode", decode), ("urls", urls), ("manifest", manifest), ("sequences", sequences)];

/// A stored record: one byte of kind, eight of id, and its bytes, as they are and with the checksum that makes what is
/// in them reach the decoder; and all of it as a head.
pub fn decode(data: &[u8]) {
    if let Ok(head) = Head::from_bytes(data) {
        assert_eq!(head.to_bytes(), data);
    }
    let Some(([kind, id @ ..], bytes)) = data.split_first_chunk::<9>() else { return };
    let Some(kind) = RecordKind::from_number(kind % 3) else { return };
    let key = RecordKey { kind, id: i64::from_le_bytes(*id) };
    decode_one(key, bytes.to_vec());
    decode_one(key, sealed(key, bytes));
}

fn decode_one(key: RecordKey, bytes: Vec<u8>) {
    match decode_record(&Record { key, bytes: bytes.into() }) {
        Ok(DecodedRecord::Job(job)) => assert_eq!((RecordKind::Job, job.id.0), (key.kind, key.id)),
        Ok(DecodedRecord::Task(task)) => {
            assert_eq!((RecordKind::Task, task.id.0), (key.kind, key.id));
            assert_eq!(task.segments.iter().count(), task.segments.len());
            let bytes = task.segments.iter().fold(0, |sum: u64, pair| sum.saturating_add(pair.bytes));
            assert_eq!(task.segments.bytes(), bytes);
        }
        Ok(_) => assert_eq!(key.kind, RecordKind::Store),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{error:?}");
            assert!(error.to_string().contains(&format!("{} {}", key.kind.as_str(), key.id)), "{error}");
        }
    }
}

/// The bytes with the checksum that a record under this key has.
fn sealed(key: RecordKey, body: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[key.kind as u8]);
    hasher.update(&key.id.to_be_bytes());
    hasher.update(body);
    [body, &hasher.finalize().to_le_bytes()].concat()
}

/// A catalog URL, and the location of a snapshot: refused with advice, or the same place under its canonical name. URLs
/// of etcd are among them with the feature `etcd-tests`; nobody is connected to.
pub fn urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // What the corpus has for a password.
    let has_password = text.starts_with("etcd://") && text.contains(":hunter2@");
    match copyseg::canonical_url(text) {
        Ok(_) if has_password => panic!("{text:?} has a password in it"),
        Ok(url) => assert_eq!(copyseg::canonical_url(&url).unwrap(), url, "{text:?}"),
        Err(error) => {
            assert_refusal(&error);
            assert!(!has_password || !error.chain().contains("hunter2"), "{error:?}");
        }
    }
    match Location::parse(text) {
        // It may have a name that the file system cannot look for, behind one that is not there.
        Ok(location) => match Location::parse(location.as_str()) {
            Ok(again) => assert_eq!(again.as_str(), location.as_str()),
            Err(error) => assert!(error.to_string().contains("cannot resolve the path"), "{error:?}"),
        },
        Err(error) => assert_refusal(&error),
    }
}

fn assert_refusal(error: &copyseg_core::Error) {
    use ErrorKind::{InvalidArgument, Unavailable, Unsupported};
    assert!(matches!(error.kind(), InvalidArgument | Unsupported | Unavailable), "{error:?}");
    assert!(!error.to_string().is_empty());
}

/// What stands where a manifest belongs: a manifest, no manifest, or an error that names the file.
pub fn manifest(data: &[u8]) {
    static TARGET: OnceLock<(TempDir, Location, Runtime)> = OnceLock::new();
    let (folder, target, runtime) = TARGET.get_or_init(|| {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::create_dir(folder.path().join("_copyseg")).unwrap();
        let target = Location::parse(folder.path().to_str().unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        (folder, target, runtime)
    });
    fs::write(folder.path().join("_copyseg/outcome"), data).unwrap();
    match runtime.block_on(Manifest::read(target)) {
        Ok(_) => {}
        Err(error) => assert!(error.to_string().contains("outcome"), "{error:?}"),
    }
}

/// A run of the manager in memory beside its model: operations, faults, crashes and reopenings, drawn by the first 32 bytes.
pub fn sequences(data: &[u8]) {
    model::follow_bytes(&Backend::Memory, data, model::program(30));
}
