//! What a failed request means to the caller, and what to do next.

use std::error::Error as StdError;
use std::fmt::Display;
use std::time::Duration;

use copyseg_core::{Error, ErrorKind};
use etcd_client::Error as ClientError;
use tonic::{Code, ConnectError, Status};

/// How often a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Any number of times: it changes neither head nor records, and what it leaves if its answer is lost, such as a lease or
    /// the leader's key under it, ends by itself.
    Repeatable,
    /// Once: if its answer is lost it may have been done, and doing it again may do harm.
    Once,
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) cause: Cause,
    pub(crate) remedy: Remedy,
}

/// What some callers have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The history at the revision asked for is gone.
    Compacted,
    /// The answer is larger than this client takes.
    AnswerTooLarge,
    /// The space quota is used up. The request may have been applied all the same.
    NoSpace,
    Other,
}

/// What may help, besides telling the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    None,
    /// The request was refused for a token that is too old.
    FreshToken,
    /// The endpoint does not work.
    OtherEndpoint,
    /// The endpoint cannot be reached: no part of the request has been sent.
    SameRequestElsewhere,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Failure {
    /// A request with which `doing` something ended in `error`.
    pub(crate) fn new(doing: impl Display, sending: Sending, error: &ClientError) -> Self {
        let (verdict, text) = match error {
            ClientError::GRpcStatus(status) => (judge(status, sending), explain(status)),
            ClientError::TransportError(error) => (Verdict::lost(sending), chain(error)),
            ClientError::IoError(error) => (Verdict::lost(sending), chain(error)),
            // The others are made by the client before it sends anything.
            error => (
                Verdict::of(ErrorKind::InvalidArgument, "check the options of the catalog"),
                error.to_string(),
            ),
        };
        let error = Error::with_source(verdict.kind, format!("{doing}: {}", verdict.advice), text);
        Self { error, cause: verdict.cause, remedy: verdict.remedy }
    }

    /// A request with which `doing` something had no answer for as long as `timeout`.
    pub(crate) fn timed_out(doing: impl Display, sending: Sending, timeout: Duration) -> Self {
        let verdict = Verdict::lost(sending);
        let text = format!("no answer within {} ms", timeout.as_millis());
        let error = Error::with_source(verdict.kind, format!("{doing}: {}", verdict.advice), text);
        Self { error, cause: verdict.cause, remedy: verdict.remedy }
    }
}

struct Verdict {
    kind: ErrorKind,
    advice: &'static str,
    cause: Cause,
    remedy: Remedy,
}

impl Verdict {
    const fn of(kind: ErrorKind, advice: &'static str) -> Self {
        Self { kind, advice, cause: Cause::Other, remedy: Remedy::None }
    }

    const fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    const fn with(self, remedy: Remedy) -> Self {
        Self { remedy, ..self }
    }

    /// The answer is missing, or says nothing of the request.
    const fn lost(sending: Sending) -> Self {
        match sending {
            Sending::Repeatable => Self::of(ErrorKind::Unavailable, "the cluster did not answer; try again"),
            Sending::Once => {
                Self::of(ErrorKind::OutcomeUnknown, "the cluster did not say whether it was done")
            }
        }
        .with(Remedy::OtherEndpoint)
    }
}

/// The table in the README, after the messages that mean something of their own.
fn judge(status: &Status, sending: Sending) -> Verdict {
    use ErrorKind as Kind;
    if never_sent(status) {
        let advice = "no connection to the member; check its address, and certificates if it uses TLS";
        return Verdict::of(Kind::Unavailable, advice).with(Remedy::SameRequestElsewhere);
    }
    let message = status.message();
    match message {
        "etcdserver: invalid auth token" | "etcdserver: revision of auth store is old" => {
            Verdict::of(Kind::Unavailable, "the login has expired; try again").with(Remedy::FreshToken)
        }
        "etcdserver: user name is empty" => {
            Verdict::of(Kind::Unavailable, "the cluster asks for a login; check the user and the password")
        }
        "etcdserver: authentication failed, invalid user ID or password" => {
            Verdict::of(Kind::Unavailable, "the login was refused; check the user and the password")
        }
        "etcdserver: mvcc: database space exceeded" => Verdict::of(
            Kind::Unavailable,
            "the space quota of the cluster is used up, so that it takes no writes; compact and defragment it or \
             raise --quota-backend-bytes, then run `etcdctl alarm disarm`",
        )
        .because(Cause::NoSpace),
        "etcdserver: mvcc: required revision has been compacted" => {
            Verdict::of(Kind::Unavailable, "the history was removed meanwhile; try again").because(Cause::Compacted)
        }
        "etcdserver: request is too large" | "etcdserver: too many operations in txn request" => TOO_LARGE,
        _ if message.starts_with("grpc: received message larger than max") => TOO_LARGE,
        _ if sending == Sending::Repeatable && message.contains("decoded message length too large") => {
            Verdict::of(Kind::Unavailable, "the answer is too large").because(Cause::AnswerTooLarge)
        }
        _ => by_code(status.code(), sending, message.starts_with("etcdserver: ")),
    }
}

const TOO_LARGE: Verdict = Verdict::of(
    ErrorKind::TooLarge,
    "the servers take smaller requests; set `max_txn_ops` and `max_request_bytes` to what they are started with",
);

/// What is known from the code alone. What is sent once has certainly been refused only if etcd itself says so (`by_etcd`):
/// the same codes come from whatever broke the connection.
fn by_code(code: Code, sending: Sending, by_etcd: bool) -> Verdict {
    use ErrorKind as Kind;
    if sending == Sending::Once && !by_etcd {
        return Verdict::lost(sending);
    }
    match code {
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => Verdict::lost(sending),
        Code::InvalidArgument => Verdict::of(
            Kind::InvalidArgument,
            "the cluster does not understand the request; check its version",
        ),
        Code::PermissionDenied | Code::Unauthenticated => Verdict::of(
            Kind::Unavailable,
            "the cluster refused access; check the user, its password, and that a role lets it read and write the prefix",
        ),
        Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange => {
            Verdict::of(Kind::Unavailable, "the cluster refused the request; nothing was changed")
        }
        Code::Unimplemented => {
            Verdict::of(Kind::Unsupported, "the server is not etcd 3.4 or newer; check the address")
        }
        Code::DataLoss => Verdict::of(
            Kind::Corrupt,
            "the members of the cluster contradict each other; see `etcdctl alarm list`, and restore the cluster",
        ),
    }
}

/// Whether the request failed for want of a connection.
fn never_sent(status: &Status) -> bool {
    sources(status).any(|error| error.is::<ConnectError>())
}

fn explain(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    append(&mut text, sources(status));
    text
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    append(&mut text, sources(error));
    text
}

fn append<'a>(text: &mut String, causes: impl Iterator<Item = &'a (dyn StdError + 'static)>) {
    for cause in causes {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
}

fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn codes() -> impl Iterator<Item = Code> {
        (0..=16).map(Code::from_i32)
    }

    /// The rows of the table in the README: a code, and the kind for a request that may be repeated, for one
    /// that is sent once and that etcd refused, and for any other.
    fn documented() -> Vec<[String; 4]> {
        let readme = include_str!("../README.md");
        let table =
            readme.split("| status |").nth(1).expect("the table").split("\n\n").next().expect("its end");
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
        table.lines().skip(2).filter_map(|line| cells(line).get(1..5)?.to_vec().try_into().ok()).collect()
    }

    #[test]
    fn every_status_means_what_the_readme_says() {
        let kind = |code, sending, by_etcd| format!("{:?}", by_code(code, sending, by_etcd).kind);
        let actual: Vec<_> = codes()
            .map(|code| {
                let [read, refused, other] =
                    [(Sending::Repeatable, false), (Sending::Once, true), (Sending::Once, false)]
                        .map(|(sending, by_etcd)| kind(code, sending, by_etcd));
                [format!("{code:?}"), read, refused, other]
            })
            .collect();
        assert_eq!(actual, documented());
    }

    #[test]
    fn what_is_sent_once_is_in_doubt_without_the_word_of_etcd() {
        for code in codes() {
            let verdict = judge(&Status::new(code, "h2 protocol error"), Sending::Once);
            assert_eq!((verdict.kind, verdict.remedy), (ErrorKind::OutcomeUnknown, Remedy::OtherEndpoint));
        }
    }

    #[test]
    fn what_may_be_repeated_leaves_nothing_in_doubt() {
        for code in codes() {
            for message in ["etcdserver: anything", "h2 protocol error"] {
                let verdict = judge(&Status::new(code, message), Sending::Repeatable);
                assert_ne!(verdict.kind, ErrorKind::OutcomeUnknown);
            }
        }
    }

    #[rstest]
    #[case(
        Code::Unauthenticated,
        "etcdserver: invalid auth token",
        ErrorKind::Unavailable,
        Remedy::FreshToken
    )]
    #[case(Code::Unknown, "etcdserver: invalid auth token", ErrorKind::Unavailable, Remedy::FreshToken)]
    #[case(
        Code::InvalidArgument,
        "etcdserver: revision of auth store is old",
        ErrorKind::Unavailable,
        Remedy::FreshToken
    )]
    #[case(
        Code::InvalidArgument,
        "etcdserver: authentication failed, invalid user ID or password",
        ErrorKind::Unavailable,
        Remedy::None
    )]
    #[case(
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded",
        ErrorKind::Unavailable,
        Remedy::None
    )]
    #[case(Code::InvalidArgument, "etcdserver: request is too large", ErrorKind::TooLarge, Remedy::None)]
    #[case(
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
        ErrorKind::TooLarge,
        Remedy::None
    )]
    #[case(
        Code::ResourceExhausted,
        "grpc: received message larger than max (2200000 vs. 2097152)",
        ErrorKind::TooLarge,
        Remedy::None
    )]
    #[case(Code::Unavailable, "etcdserver: no leader", ErrorKind::OutcomeUnknown, Remedy::OtherEndpoint)]
    #[case(Code::Unavailable, "etcdserver: leader changed", ErrorKind::OutcomeUnknown, Remedy::OtherEndpoint)]
    #[case(
        Code::Unavailable,
        "etcdserver: request timed out",
        ErrorKind::OutcomeUnknown,
        Remedy::OtherEndpoint
    )]
    #[case(Code::Cancelled, "Timeout expired", ErrorKind::OutcomeUnknown, Remedy::OtherEndpoint)]
    #[case(
        Code::OutOfRange,
        "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
        ErrorKind::OutcomeUnknown,
        Remedy::OtherEndpoint
    )]
    fn messages_that_mean_something_of_their_own(
        #[case] code: Code,
        #[case] message: &str,
        #[case] kind: ErrorKind,
        #[case] remedy: Remedy,
    ) {
        let verdict = judge(&Status::new(code, message), Sending::Once);
        assert_eq!((verdict.kind, verdict.remedy), (kind, remedy));
    }

    #[test]
    fn a_message_says_what_was_done_and_the_cause_is_in_the_chain() {
        let status = Status::new(Code::PermissionDenied, "etcdserver: permission denied");
        let failure =
            Failure::new("cannot read the head", Sending::Repeatable, &ClientError::GRpcStatus(status));
        let error = failure.error;
        assert!(error.to_string().starts_with("cannot read the head: the cluster refused access"));
        assert!(
            error.chain().ends_with("PermissionDenied: etcdserver: permission denied"),
            "{}",
            error.chain()
        );
    }
}
