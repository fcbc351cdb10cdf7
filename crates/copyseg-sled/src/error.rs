//! What an error of sled means to the caller. There is no `From`: each conversion names what was being done.

use std::error::Error as _;
use std::fmt::Display;
use std::io;

use copyseg_core::{Error, ErrorKind};
use copyseg_local::{Lasting, classify_io, is_panic, lasting_io};

/// An error of sled while `doing` something to a catalog that it names.
pub(crate) fn failed(doing: impl Display, error: sled::Error) -> Error {
    let (kind, advice) = classify(&error);
    Error::with_source(kind, format!("{doing}: {advice}"), error)
}

/// Whether sled could not lock its file, for which it has no kind of its own.
pub(crate) fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// Why what failed with this error would fail again, if it would.
pub(crate) fn lasting(error: &Error) -> Option<Lasting> {
    if is_panic(error) {
        return Some(Lasting::Damaged);
    }
    let cause = error.source()?;
    let of_system = match cause.downcast_ref() {
        Some(sled::Error::Corruption { .. }) => return Some(Lasting::Damaged),
        Some(sled::Error::Io(error)) => error,
        _ => cause.downcast_ref::<io::Error>()?,
    };
    lasting_io(of_system)
}

/// The kind of an error that left nothing changed, and what to do. An error of a commit itself never comes here: its
/// outcome is unknown.
fn classify(error: &sled::Error) -> (ErrorKind, &'static str) {
    use sled::Error as E;
    match error {
        E::Io(error) => classify_io(error),
        E::Corruption { .. } | E::CollectionNotFound(_) => (
            ErrorKind::Corrupt,
            "its content is damaged; keep the folder, and restore a copy of it elsewhere",
        ),
        E::Unsupported(_) => (
            ErrorKind::Unsupported,
            "this build reads folders of sled 0.34 alone; use the version that wrote it",
        ),
        E::ReportableBug(_) => (
            ErrorKind::Unavailable,
            "sled gave up in this process; nothing was changed, start it again, and keep a copy of the folder",
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::damage(sled::Error::Corruption { at: None, bt: () }, ErrorKind::Corrupt)]
    #[case::no_tree(sled::Error::CollectionNotFound("tree".into()), ErrorKind::Corrupt)]
    #[case::another_version(sled::Error::Unsupported("version 0.33".into()), ErrorKind::Unsupported)]
    #[case::its_threads_died(sled::Error::ReportableBug("IO thread".into()), ErrorKind::Unavailable)]
    #[case::disk_full(sled::Error::Io(io::ErrorKind::StorageFull.into()), ErrorKind::Unavailable)]
    #[case::cut_short(sled::Error::Io(io::ErrorKind::UnexpectedEof.into()), ErrorKind::Corrupt)]
    fn every_error_of_sled_has_its_kind(#[case] error: sled::Error, #[case] kind: ErrorKind) {
        let cause = error.to_string();
        let error = failed("cannot read x", error);
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with("cannot read x: "));
        assert!(!error.to_string().contains(&cause), "the cause is only in the chain: {error:?}");
        assert!(error.chain().contains(&cause));
    }

    #[rstest]
    #[case::of_sled(sled::Error::Io(io::ErrorKind::StorageFull.into()), Some(Lasting::Full))]
    #[case::of_the_sync(io::Error::from(io::ErrorKind::QuotaExceeded), Some(Lasting::Full))]
    #[case::read_only(sled::Error::Io(io::ErrorKind::ReadOnlyFilesystem.into()), Some(Lasting::ReadOnly))]
    #[case::damage(sled::Error::Corruption { at: None, bt: () }, Some(Lasting::Damaged))]
    #[case::another_of_sled(sled::Error::Io(io::ErrorKind::TimedOut.into()), None)]
    #[case::another_of_the_sync(io::Error::from(io::ErrorKind::TimedOut), None)]
    fn what_sending_again_does_not_cure_is_known_by_its_cause(
        #[case] cause: impl std::error::Error + Send + Sync + 'static,
        #[case] expected: Option<Lasting>,
    ) {
        let error = Error::with_source(
            ErrorKind::OutcomeUnknown,
            "x",
            Box::new(cause) as Box<dyn std::error::Error + Send + Sync>,
        );
        assert_eq!(lasting(&error), expected);
    }
}
