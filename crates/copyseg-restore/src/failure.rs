//! What a failed step means for the restore: try again, call an operator, or give up.

use std::io;
use std::path::Path;

use copyseg_core::{Error, ErrorKind};
use rustix::io::Errno;

const MORE_DESCRIPTORS: &str = ": raise the limit on open files (`ulimit -n`) or copy fewer objects at once, then run \
                                the same restore again to go on";

/// What to do about a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It may work when tried again: the task is released and retried with backoff, a bounded number of times.
    Transient,
    /// It works once somebody helps: a full disk, a missing permission, a read-only target, too many open files.
    /// The run ends with an error that says so; the job stays as it is, and the same request goes on.
    Blocked,
    /// It can never work, such as a source that changed since the plan: the job fails.
    Permanent,
}

/// Why a step of a restore did not work, and what that means.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// What happened, naming the path.
    pub error: Error,
}

impl Failure {
    /// A failure that may not happen again.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Transient, error: Error::new(ErrorKind::Unavailable, message) }
    }

    /// A failure that will happen again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Permanent, error: Error::new(ErrorKind::InvalidArgument, message) }
    }

    /// What `error` of the file system means for the attempt to `operation` (a verb) the file `path`.
    pub(crate) fn of_file(operation: &str, path: &Path, error: io::Error) -> Self {
        use io::ErrorKind::*;
        let path = path.display();
        let (kind, advice) = match error.kind() {
            StorageFull | QuotaExceeded => {
                (FailureKind::Blocked, ": make room there, then run the same restore again to go on")
            }
            PermissionDenied => {
                (FailureKind::Blocked, ": allow it to this user, then run the same restore again to go on")
            }
            ReadOnlyFilesystem => (
                FailureKind::Blocked,
                ": make the file system writable, then run the same restore again to go on",
            ),
            FileTooLarge => {
                (FailureKind::Blocked, ": lift the limit on file sizes, then run the restore again")
            }
            NotADirectory => {
                (FailureKind::Permanent, ": something on this path is not a folder: choose another")
            }
            IsADirectory | InvalidFilename | InvalidInput => (FailureKind::Permanent, ""),
            _ if is_out_of_descriptors(&error) => (FailureKind::Blocked, MORE_DESCRIPTORS),
            _ => (FailureKind::Transient, ""),
        };
        Self::caused(kind, format!("cannot {operation} {path}{advice}"), error)
    }

    /// What it means that the unfinished file `path` is gone, or cannot be made because its folder is.
    pub(crate) fn of_staging(path: &Path, error: io::Error) -> Self {
        let message = format!(
            "the unfinished file {} was removed: by another process that goes on with this restore or took its target \
             over, or by somebody who cleared the folder; run the same restore again to see where it stands",
            path.display()
        );
        Self::caused(FailureKind::Blocked, message, error)
    }

    /// What it means that a folder of the target is a symbolic link.
    pub(crate) fn of_link(path: &Path) -> Self {
        let message = format!(
            "cannot write into {}: it is a symbolic link, and nothing is written outside the target; remove it, then \
             run the same restore again to go on",
            path.display()
        );
        Self { kind: FailureKind::Blocked, error: Error::new(ErrorKind::Unavailable, message) }
    }

    /// What `error` of a remote store means for the attempt to `operation` (a verb) the object `url`.
    pub(crate) fn of_object(operation: &str, url: &str, error: object_store::Error) -> Self {
        use object_store::Error::*;
        let (kind, advice) = match &error {
            PermissionDenied { .. } | Unauthenticated { .. } => (
                FailureKind::Blocked,
                ": check the credentials in the environment, then run the same restore again to go on",
            ),
            NotFound { .. } | Precondition { .. } | NotModified { .. } | AlreadyExists { .. } => {
                (FailureKind::Permanent, "")
            }
            InvalidPath { .. }
            | NotSupported { .. }
            | NotImplemented { .. }
            | UnknownConfigurationKey { .. } => (FailureKind::Permanent, ""),
            error if is_caused_by_lack_of_descriptors(error) => (FailureKind::Blocked, MORE_DESCRIPTORS),
            _ => (FailureKind::Transient, ""),
        };
        Self::caused(kind, format!("cannot {operation} {url}{advice}"), error)
    }

    /// A failure whose message names operation and path, and whose cause is only in its source.
    pub(crate) fn caused(
        kind: FailureKind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let error_kind = match kind {
            FailureKind::Permanent => ErrorKind::InvalidArgument,
            FailureKind::Transient | FailureKind::Blocked => ErrorKind::Unavailable,
        };
        Self { kind, error: Error::with_source(error_kind, message, cause) }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// Whether this process, or the whole system, can open no more files; the standard library has no kind for it.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Clients of remote stores bury it below errors of their own.
fn is_caused_by_lack_of_descriptors(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.filter_map(|cause| cause.downcast_ref()).any(is_out_of_descriptors)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(io::ErrorKind::StorageFull, FailureKind::Blocked, "make room there")]
    #[case(io::ErrorKind::QuotaExceeded, FailureKind::Blocked, "make room there")]
    #[case(io::ErrorKind::PermissionDenied, FailureKind::Blocked, "allow it to this user")]
    #[case(io::ErrorKind::ReadOnlyFilesystem, FailureKind::Blocked, "make the file system writable")]
    #[case(io::ErrorKind::NotADirectory, FailureKind::Permanent, "is not a folder: choose another")]
    #[case(Errno::MFILE, FailureKind::Blocked, "raise the limit on open files")]
    #[case(Errno::NFILE, FailureKind::Blocked, "raise the limit on open files")]
    #[case(io::ErrorKind::Interrupted, FailureKind::Transient, "")]
    #[case(io::ErrorKind::Other, FailureKind::Transient, "")]
    fn an_error_of_the_file_system_says_what_to_do(
        #[case] error: impl Into<io::Error>,
        #[case] kind: FailureKind,
        #[case] advice: &str,
    ) {
        let failure = Failure::of_file("write", Path::new("/restored/7/ids.npy"), error.into());
        assert_eq!(failure.kind, kind);
        let message = failure.error.to_string();
        assert!(
            message.starts_with("cannot write /restored/7/ids.npy") && message.contains(advice),
            "{message}"
        );
    }

    #[rstest]
    #[case(Errno::MFILE, FailureKind::Blocked, "raise the limit on open files")]
    #[case(Errno::NFILE, FailureKind::Blocked, "raise the limit on open files")]
    #[case(Errno::CONNRESET, FailureKind::Transient, "")]
    fn a_lack_of_descriptors_is_found_below_the_errors_of_a_remote_store(
        #[case] cause: Errno,
        #[case] kind: FailureKind,
        #[case] advice: &str,
    ) {
        let cause = io::Error::from(cause);
        let client = Error::with_source(ErrorKind::Unavailable, "the client cannot connect", cause);
        let error = object_store::Error::Generic { store: "S3", source: Box::new(client) };
        let failure = Failure::of_object("read", "s3://bucket/nightly/7/ids.npy", error);
        assert_eq!(failure.kind, kind);
        assert!(failure.error.to_string().contains(advice), "{failure:?}");
    }
}
