//! What an error of redb means to the caller. There is no `From`: each conversion names what was being done.

use std::error::Error as _;
use std::fmt::Display;

use copyseg_core::{Error, ErrorKind};
use copyseg_local::{Lasting, classify_io, is_panic, lasting_io};

/// An error of redb while `doing` something to a catalog that it names.
pub(crate) fn failed(doing: impl Display, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let (kind, advice) = classify(&error);
    Error::with_source(kind, format!("{doing}: {advice}"), error)
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
        E::Io(error) => classify_io(error),
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

/// Why what failed with this error would fail again, if it would.
pub(crate) fn lasting(error: &Error) -> Option<Lasting> {
    use redb::StorageError as E;
    if is_panic(error) {
        return Some(Lasting::Damaged);
    }
    let cause = error.source()?;
    let of_system = match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(redb::CommitError::Storage(E::Corrupted(_))), _) => return Some(Lasting::Damaged),
        (Some(redb::CommitError::Storage(E::Io(error))), _) | (_, Some(redb::Error::Io(error))) => error,
        _ => cause.downcast_ref()?,
    };
    lasting_io(of_system)
}

#[cfg(test)]
mod tests {
    use std::io;

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
    #[case::disk(io::ErrorKind::StorageFull, Some(Lasting::Full))]
    #[case::quota(io::ErrorKind::QuotaExceeded, Some(Lasting::Full))]
    #[case::limit_of_the_process(io::ErrorKind::FileTooLarge, Some(Lasting::Full))]
    #[case::read_only(io::ErrorKind::ReadOnlyFilesystem, Some(Lasting::ReadOnly))]
    #[case::passing(io::ErrorKind::TimedOut, None)]
    fn a_commit_that_sending_again_does_not_cure_is_not_asked_for_again(
        #[case] kind: io::ErrorKind,
        #[case] expected: Option<Lasting>,
    ) {
        let cause = redb::CommitError::Storage(redb::StorageError::Io(kind.into()));
        let error = Error::with_source(ErrorKind::OutcomeUnknown, "commit", cause);
        assert_eq!(lasting(&error), expected);
        assert_eq!(lasting(&failed("cannot open x", redb::Error::Io(kind.into()))), expected);
        assert_eq!(lasting(&copyseg_local::io_failed("cannot open x", kind.into())), expected);
    }
}
