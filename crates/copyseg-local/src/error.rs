//! What an error of the operating system, or a panic of a storage engine, means to the caller. There is no `From`:
//! each conversion names what was being done.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use copyseg_core::{Error, ErrorKind, Result};
use rustix::io::Errno;

/// An error of the operating system while `doing` something to a catalog that it names.
pub fn io_failed(doing: impl Display, error: io::Error) -> Error {
    let (kind, advice) = classify_io(&error);
    Error::with_source(kind, format!("{doing}: {advice}"), error)
}

/// The error of a commit to the catalog called `name` of which the storage engine reported only `cause`.
pub fn unknown_outcome(name: &str, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    let message = format!(
        "{name} did not say whether a commit was made; it is opened again at the next call, and sending the same commit \
         again settles it"
    );
    Error::with_source(ErrorKind::OutcomeUnknown, message, cause)
}

/// The kind of an error that left nothing changed, and what to do.
pub fn classify_io(error: &io::Error) -> (ErrorKind, &'static str) {
    use io::ErrorKind as Io;
    // Without a kind of its own.
    if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) {
        let advice = "too many open files; close some, or raise the limit (`ulimit -n`), and try again";
        return (ErrorKind::Unavailable, advice);
    }
    if is_full(error) {
        return (ErrorKind::Unavailable, "no space is left on the disk; free some and try again");
    }
    const ANOTHER_PATH: &str = "no catalog can have this path; give another";
    if Errno::from_io_error(error) == Some(Errno::LOOP) {
        return (ErrorKind::InvalidArgument, ANOTHER_PATH);
    }
    match error.kind() {
        Io::NotFound => (ErrorKind::NotFound, "it is not there; check the path"),
        Io::PermissionDenied => {
            (ErrorKind::Unavailable, "this user may not; give it the permission, or choose another path")
        }
        Io::ReadOnlyFilesystem => {
            (ErrorKind::Unavailable, "the file system is read-only; choose a path that can be written")
        }
        Io::IsADirectory | Io::NotADirectory | Io::InvalidFilename => {
            (ErrorKind::InvalidArgument, ANOTHER_PATH)
        }
        Io::InvalidData | Io::UnexpectedEof => {
            (ErrorKind::Corrupt, "its content is damaged; keep the file, and restore a copy of it elsewhere")
        }
        _ => (ErrorKind::Unavailable, "nothing was changed, try again"),
    }
}

/// Why what failed with this error would fail again, if it would.
pub fn lasting_io(error: &io::Error) -> Option<Lasting> {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Some(Lasting::ReadOnly),
        _ => is_full(error).then_some(Lasting::Full),
    }
}

/// Whether the disk, a quota or a limit leaves no space to write.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind as Io;
    matches!(error.kind(), Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge)
}

/// Why a commit fails however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// No space is left.
    Full,
    /// Nothing can be written any more: the file system became read-only, as one does whose disk fails.
    ReadOnly,
    /// The files are damaged.
    Damaged,
}

/// What a storage engine said when it panicked, the cause of an error of [`guard`].
#[derive(Debug)]
struct Panic(String);

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Panic {}

/// Whether a panic of a storage engine is behind it.
pub fn is_panic(error: &Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<Panic>())
}

/// Runs `work` on `engine`, which may panic on files that were changed behind its back. `kind` says what is known
/// about the work then.
///
/// # Errors
/// Those of `work`, and `kind` if it panics.
pub fn guard<T>(
    engine: &str,
    kind: ErrorKind,
    doing: impl Display,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message =
            format!("{doing}: {engine} panicked, its files may be damaged; keep them and a copy of them");
        Err(Error::with_source(kind, message, Panic(panic_text(&*panic))))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".into())
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(io::ErrorKind::NotFound, ErrorKind::NotFound, "check the path")]
    #[case(io::ErrorKind::PermissionDenied, ErrorKind::Unavailable, "permission")]
    #[case(io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Unavailable, "read-only")]
    #[case(io::ErrorKind::StorageFull, ErrorKind::Unavailable, "free some")]
    #[case(io::ErrorKind::QuotaExceeded, ErrorKind::Unavailable, "free some")]
    #[case(io::ErrorKind::FileTooLarge, ErrorKind::Unavailable, "free some")]
    #[case(io::ErrorKind::IsADirectory, ErrorKind::InvalidArgument, "give another")]
    #[case(io::ErrorKind::NotADirectory, ErrorKind::InvalidArgument, "give another")]
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
    fn a_link_that_leads_to_itself_is_a_wrong_path() {
        let error = io_failed("cannot open x", Errno::LOOP.into());
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("give another"), "{error}");
    }

    #[rstest]
    #[case::of_this_process(Errno::MFILE)]
    #[case::of_the_whole_system(Errno::NFILE)]
    fn too_many_open_files_say_how_to_have_more(#[case] error: Errno) {
        let error = io_failed("cannot open x", error.into());
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }

    #[test]
    fn a_panic_of_an_engine_is_an_error_with_its_text() {
        let panics = || -> Result<()> { panic_any(String::from("page 7 is gone")) };
        let error = guard("redb", ErrorKind::Corrupt, "cannot read x", panics).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("redb panicked"), "{error}");
        assert!(error.chain().contains("page 7 is gone"), "{}", error.chain());
    }
}
