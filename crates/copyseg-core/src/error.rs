//! One error type with few kinds; each kind says what the caller should do.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of every fallible operation in copyseg.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as advice to the caller.
///
/// Only [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) leaves it open whether the change was made; after every
/// other kind the change was certainly not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No record has this id. Check the id; it may have been removed.
    NotFound,
    /// A record with this id is already there. `identical` says whether it is the one being added, as
    /// happens when an answer was lost: then there is nothing left to do.
    AlreadyExists {
        /// Whether what is stored is what was to be added. Of a job that is its target, snapshot, source, options, deadline,
        /// number of segments if one is given, and segment pairs, whichever tasks they are in; its rows are not compared. Of a
        /// task it is its job, segment pairs and slots.
        identical: bool,
    },
    /// The request contradicts itself or the rules of its operation. Correct it; repeating it cannot succeed.
    InvalidArgument,
    /// The job or task is in a state that does not allow this. Read it again and decide anew.
    IllegalTransition,
    /// The report speaks for an attempt that is over. Stop working on the task.
    StaleClaim,
    /// The record could not be decoded and was set aside. List, export or drop it with `copyseg check`.
    SetAside,
    /// The change does not fit into one record or one atomic batch of this backend. Make it smaller.
    TooLarge,
    /// A limit on active jobs is reached. Wait until one ends, or raise the limit.
    QuotaExceeded,
    /// The storage could not take or serve the request now; nothing was changed. Try again later.
    Unavailable,
    /// The storage did not say whether the change was made. Read the state before deciding to repeat it.
    OutcomeUnknown,
    /// Another writer has taken over this store. Stop; open it again if this process should own it.
    Fenced,
    /// The store is open in another live process. Wait for it, or stop it.
    Held,
    /// Stored data is damaged beyond one record. Keep the files and inspect them with `copyseg check`.
    Corrupt,
    /// The data or request needs something this build does not have, such as a newer version or a feature.
    Unsupported,
    /// This handle has been closed. Open the store again.
    Closed,
}

impl ErrorKind {
    /// The name written in JSON and sent between processes. It never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::InvalidArgument => "invalid_argument",
            Self::IllegalTransition => "illegal_transition",
            Self::StaleClaim => "stale_claim",
            Self::SetAside => "set_aside",
            Self::TooLarge => "too_large",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Fenced => "fenced",
            Self::Held => "held",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Closed => "closed",
        }
    }
}

/// The error of every operation: a kind, a message naming the operation and ids, and the cause in
/// [`source`](StdError::source), which the message never repeats.
///
/// It is one word wide and cheap to clone, since one failed batch answers many callers.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` whose message names the operation and the ids it concerned.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An error of `kind` caused by `source`.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// What the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message and all its causes on one line, for a log or a terminal.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorKind; 15] = [
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists { identical: true },
        ErrorKind::InvalidArgument,
        ErrorKind::IllegalTransition,
        ErrorKind::StaleClaim,
        ErrorKind::SetAside,
        ErrorKind::TooLarge,
        ErrorKind::QuotaExceeded,
        ErrorKind::Unavailable,
        ErrorKind::OutcomeUnknown,
        ErrorKind::Fenced,
        ErrorKind::Held,
        ErrorKind::Corrupt,
        ErrorKind::Unsupported,
        ErrorKind::Closed,
    ];

    #[test]
    fn every_kind_is_written_as_it_is_called_here() {
        for kind in ALL {
            let called: String = format!("{kind:?}").chars().take_while(|c| c.is_alphabetic()).collect();
            let written: String = kind.as_str().split('_').map(capitalized).collect();
            assert_eq!(written, called);
        }
    }

    fn capitalized(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }
}
