//! What an error of redb or of the operating system means to the caller. There is no `From`: each conversion
//! names what was being done.

use std::any::Any;
use std::error::Error as _;
use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use copyseg_core::{Error, ErrorKind, Result};

/// An error of redb while `doing` something to a catalog that it names.
pub(crate) fn failed(doing: impl Display, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let (kind, advice) = classify(&error);
    Error::with_source(kind, format!("{doing}: {advice}"), error)
}

/// An error of the operating system while `doing` something to a file that it names.
pub(crate) fn io_failed(doing: impl Display, error: io::Error) -> Error {
    let (kind, advice) = classify_io(error.kind());
    Error::with_source(kind, format!("{doing}: {advice}"), error)
}

/// Runs `work` on redb, which may panic on a file that was changed behind its back.
pub(crate) fn guard<T>(kind: ErrorKind, doing: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message =
            format!("{doing}: redb panicked, its file may be damaged; keep the file and a copy of it");
        Err(Error::with_source(kind, message, panic_text(&*panic)))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".into())
}

const DAMAGED: (ErrorKind, &str) =
    (ErrorKind::Corrupt, "its content is damaged; keep the file, and restore a copy of it elsewhere");
const FOREIGN: (ErrorKind, &str) =
    (ErrorKind::Corrupt, "it is a redb file with tables that are not copyseg's; give another path");
const RETRY: (ErrorKind, &str) = (ErrorKind::Unavailable, "nothing was changed, try again");

/// The kind of an error that left nothing changed, and what to do. An error of `commit` itself never comes here:
/// its outcome is unknown.
fn classify(error: &redb::Error) -> (ErrorKind, &'static str) {
    use redb::Error as E;
    match error {
        E::Io(error) => classify_io(error.kind()),
        E::Corrupted(_) => DAMAGED,
        E::TableTypeMismatch { .. }
        | E::TypeDefinitionChanged { .. }
        | E::TableIsMultimap(_)
        | E::TableIsNotMultimap(_)
        | E::TableDoesNotExist(_) => FOREIGN,
        E::UpgradeRequired(_) => (
            ErrorKind::Unsupported,
            "its file format is older than this build reads; upgrade it with redb 2.6 (`Database::upgrade`)",
        ),
        E::Unsupported => {
            (ErrorKind::Unsupported, "its file system cannot lock or sync files; use a local file system")
        }
        E::ValueTooLarge(_) => (ErrorKind::TooLarge, "a record is larger than redb takes"),
        E::DatabaseAlreadyOpen | E::LockProtocolMismatch => {
            (ErrorKind::Held, "another process holds it; wait until that ends, or stop it")
        }
        E::RepairAborted => {
            (ErrorKind::Unavailable, "it was not closed cleanly; open it for writing once, which repairs it")
        }
        // What is left are failures of this handle alone (its lock, its earlier failure), cured by opening again,
        // as the writer does by itself.
        _ => RETRY,
    }
}

/// Whether a full disk is behind it.
pub(crate) fn is_out_of_space(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(redb::CommitError::Storage(redb::StorageError::Io(error))) = error.downcast_ref() {
            return matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        }
        cause = error.source();
    }
    false
}

fn classify_io(kind: io::ErrorKind) -> (ErrorKind, &'static str) {
    use io::ErrorKind as Io;
    match kind {
        Io::NotFound => (ErrorKind::NotFound, "it is not there; check the path"),
        Io::PermissionDenied => {
            (ErrorKind::Unavailable, "this user may not; give it the permission, or choose another path")
        }
        Io::ReadOnlyFilesystem => {
            (ErrorKind::Unavailable, "the file system is read-only; choose a path that can be written")
        }
        Io::StorageFull | Io::QuotaExceeded => {
            (ErrorKind::Unavailable, "no space is left on the disk; free some and try again")
        }
        Io::IsADirectory | Io::NotADirectory | Io::InvalidFilename => {
            (ErrorKind::InvalidArgument, "the path does not name a file; give the path of a file")
        }
        Io::InvalidData | Io::UnexpectedEof => DAMAGED,
        _ => RETRY,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::damage(redb::Error::Corrupted("page 7".into()), ErrorKind::Corrupt)]
    #[case::other_tables(redb::Error::TableDoesNotExist("meta".into()), ErrorKind::Corrupt)]
    #[case::other_table(redb::Error::TableIsMultimap("meta".into()), ErrorKind::Corrupt)]
    #[case::older_format(redb::Error::UpgradeRequired(2), ErrorKind::Unsupported)]
    #[case::no_locks(redb::Error::Unsupported, ErrorKind::Unsupported)]
    #[case::large_value(redb::Error::ValueTooLarge(4 << 30), ErrorKind::TooLarge)]
    #[case::open_elsewhere(redb::Error::DatabaseAlreadyOpen, ErrorKind::Held)]
    #[case::open_by_another_redb(redb::Error::LockProtocolMismatch, ErrorKind::Held)]
    #[case::repair_needed(redb::Error::RepairAborted, ErrorKind::Unavailable)]
    #[case::failed_before(redb::Error::PreviousIo, ErrorKind::Unavailable)]
    #[case::closed_beneath_a_reader(redb::Error::DatabaseClosed, ErrorKind::Unavailable)]
    #[case::disk_full(redb::Error::Io(io::ErrorKind::StorageFull.into()), ErrorKind::Unavailable)]
    fn every_error_of_redb_has_its_kind(#[case] error: redb::Error, #[case] kind: ErrorKind) {
        let cause = error.to_string();
        let error = failed("cannot read x", error);
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with("cannot read x: "));
        assert!(!error.to_string().contains(&cause), "the cause is only in the chain: {error:?}");
        assert!(error.chain().ends_with(&cause));
    }

    #[rstest]
    #[case(io::ErrorKind::NotFound, ErrorKind::NotFound, "check the path")]
    #[case(io::ErrorKind::PermissionDenied, ErrorKind::Unavailable, "permission")]
    #[case(io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Unavailable, "read-only")]
    #[case(io::ErrorKind::StorageFull, ErrorKind::Unavailable, "free some")]
    #[case(io::ErrorKind::QuotaExceeded, ErrorKind::Unavailable, "free some")]
    #[case(io::ErrorKind::IsADirectory, ErrorKind::InvalidArgument, "path of a file")]
    #[case(io::ErrorKind::NotADirectory, ErrorKind::InvalidArgument, "path of a file")]
    #[case(io::ErrorKind::UnexpectedEof, ErrorKind::Corrupt, "keep the file")]
    #[case(io::ErrorKind::TimedOut, ErrorKind::Unavailable, "try again")]
    fn every_error_of_the_system_has_its_kind_and_advice(
        #[case] error: io::ErrorKind,
        #[case] kind: ErrorKind,
        #[case] advice: &str,
    ) {
        let error = io_failed("cannot open x", error.into());
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(advice), "{error}");
    }

    #[test]
    fn a_panic_of_redb_is_an_error_with_its_text() {
        let panics = || -> Result<()> { panic_any(String::from("page 7 is gone")) };
        let error = guard(ErrorKind::Corrupt, "cannot read x", panics).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.chain().contains("page 7 is gone"), "{}", error.chain());
    }
}
