//! How the command ends: one table of exit codes, one way to report a failure.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use copyseg::{Error, ErrorKind, JobState, RecordKey};
use serde::Serialize;

use crate::output::{Format, printable};
use crate::signals::Stop;

/// How the process ends, as a number a script can act on. Part of the command's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// An error that no other code names.
    Other = 1,
    /// The arguments or the input are wrong; repeating the command cannot succeed.
    Usage = 2,
    /// A job, a record or a catalog of this name does not exist.
    NotFound = 3,
    /// Something exists already, is in another state, or belongs to somebody else.
    Conflict = 4,
    /// The catalog or the storage cannot be used now; the same command may work later.
    Unavailable = 5,
    /// The time given by `--timeout` is over.
    TimedOut = 6,
    /// The job failed or was cancelled.
    JobEnded = 7,
    /// `check` found problems.
    Problems = 8,
    /// Ended by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

/// The same table for people; the long help ends with it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing was left to do
  1    any other error
  2    wrong arguments or wrong input
  3    no such job, record or catalog
  4    conflict: it exists already, is in another state, or belongs to somebody else
  5    the catalog is held by another process, or storage is unavailable; try again later
  6    timed out
  7    the job failed or was cancelled
  8    `check` found problems
  130  stopped by SIGINT (Ctrl-C); `restore` goes on when it is run again
  143  stopped by SIGTERM; `restore` goes on when it is run again";

/// A macro, because only literals can be joined at compile time.
macro_rules! beyond_repair {
    () => {
        "a catalog beyond repair can be moved away: then the same `copyseg restore` finds what is complete and starts over \
         with what is not"
    };
}

/// The exit code of a library error: the one place where kinds become codes.
pub(crate) fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::InvalidArgument => Exit::Usage,
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::AlreadyExists { .. }
        | ErrorKind::IllegalTransition
        | ErrorKind::StaleClaim
        | ErrorKind::SetAside
        | ErrorKind::QuotaExceeded
        | ErrorKind::Fenced => Exit::Conflict,
        ErrorKind::Held | ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => Exit::Unavailable,
        _ => Exit::Other,
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library refused or failed.
    Library(Error),
    /// The arguments do not make a request.
    Usage(String),
    /// What was waited for did not happen in time.
    TimedOut(String),
    /// The job ended without completing.
    JobEnded {
        /// How it ended.
        state: JobState,
        /// The same, and why, in words.
        message: String,
        /// Whether what is left in the target belongs to no restore.
        target_cleared: bool,
    },
    /// `check` found this many problems.
    Problems {
        /// All of them.
        count: usize,
        /// Whether there are records among them that were set aside.
        set_aside: bool,
    },
    /// There is no record of this key that was set aside.
    NotSetAside(RecordKey),
    /// The command was stopped, by a signal if one is named, and tells how to go on.
    Stopped(Option<Stop>, String),
    /// The result could not be written out.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// The system refused what it takes to start, such as a thread or a file.
    pub(crate) fn not_started(error: io::Error) -> Self {
        let message =
            "the command could not start: if it may open too few files, raise the limit (`ulimit -n`)";
        Error::with_source(ErrorKind::Unavailable, message, error).into()
    }

    /// The system does not let this user start another thread.
    pub(crate) fn no_thread(cause: &str) -> Self {
        let message = "a thread could not be started: raise the limit on processes (`ulimit -u`)";
        Error::with_source(ErrorKind::Unavailable, message, cause).into()
    }

    /// The exit code it ends the process with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Library(error) => exit_of(error.kind()),
            Self::Usage(_) => Exit::Usage,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::JobEnded { .. } => Exit::JobEnded,
            Self::Problems { .. } => Exit::Problems,
            Self::NotSetAside(_) => Exit::NotFound,
            Self::Stopped(signal, _) => signal.map_or(Exit::Unavailable, Stop::exit),
            Self::Output(_) => Exit::Other,
        }
    }

    /// Tells the user, on stderr: the error, its causes and what to do next; as one JSON object if `format`
    /// asks for that. Gives the exit code.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        let exit = self.exit();
        // A failure to write to stderr has nowhere left to be told.
        let _ = match format {
            Format::Table => self.write_text(anstream::stderr().lock()),
            Format::Json | Format::Jsonl => self.write_json(io::stderr().lock()),
        };
        ExitCode::from(exit as u8)
    }

    fn write_text(&self, mut out: impl Write) -> io::Result<()> {
        let (red, bold) = (anstyle::AnsiColor::Red.on_default().bold(), anstyle::Style::new().bold());
        writeln!(out, "{red}error:{red:#} {}", printable(&self.to_string()))?;
        for cause in self.causes() {
            writeln!(out, "  {bold}caused by:{bold:#} {}", printable(&cause))?;
        }
        match self.hint() {
            Some(hint) => writeln!(out, "  {bold}hint:{bold:#} {hint}"),
            None => Ok(()),
        }
    }

    fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        let body = Body {
            error: Details {
                code: self.code(),
                message: self.to_string(),
                causes: self.causes(),
                hint: self.hint(),
                retryable: self.exit() == Exit::Unavailable,
                exit_code: self.exit() as u8,
            },
        };
        serde_json::to_writer(&mut out, &body)?;
        writeln!(out)
    }

    /// The stable name of the failure, for scripts.
    fn code(&self) -> &'static str {
        match self {
            Self::Library(error) => error.kind().as_str(),
            Self::Usage(_) => "usage",
            Self::TimedOut(_) => "timed_out",
            Self::JobEnded { state: JobState::Cancelled, .. } => "job_cancelled",
            Self::JobEnded { .. } => "job_failed",
            Self::Problems { .. } => "problems_found",
            Self::NotSetAside(_) => "not_found",
            Self::Stopped(..) => "stopped",
            Self::Output(_) => "output",
        }
    }

    fn causes(&self) -> Vec<String> {
        let mut cause = match self {
            Self::Library(error) => error.source(),
            Self::Output(error) => Some(error as &dyn StdError),
            _ => None,
        };
        let mut causes = Vec::new();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        causes
    }

    /// What the user can do next, where the message does not say it by its nature.
    fn hint(&self) -> Option<&'static str> {
        let kind = match self {
            Self::Library(error) => error.kind(),
            Self::Usage(_) => return Some("see `copyseg --help` for examples"),
            Self::TimedOut(_) => return Some("wait again, or look at the job with `copyseg job get`"),
            // The next run would not touch what it finds and nothing owns.
            Self::JobEnded { target_cleared: true, .. } => {
                return Some(
                    "remove what is left in the target; then running the same `copyseg restore` again starts over",
                );
            }
            Self::JobEnded { .. } => return Some("running the same `copyseg restore` again starts over"),
            Self::Problems { set_aside: true, .. } => {
                return Some(
                    "`copyseg check --list` shows, `--export` saves and `--drop` removes records set aside",
                );
            }
            Self::Problems { set_aside: false, .. } => return Some(beyond_repair!()),
            Self::NotSetAside(_) => return Some("`copyseg check --list` shows what was set aside"),
            Self::Stopped(..) | Self::Output(_) => return None,
        };
        match kind {
            ErrorKind::NotFound => Some("`copyseg job list` shows what there is; check --catalog too"),
            ErrorKind::Held => Some("wait until that process ends, or stop it; nothing was changed"),
            ErrorKind::Unavailable => {
                Some("nothing is lost; when that is put right, run the same command again")
            }
            ErrorKind::OutcomeUnknown => {
                Some("run the command again: it looks at the state before it goes on")
            }
            ErrorKind::Fenced => Some("another process owns the catalog now; let it finish"),
            ErrorKind::SetAside => Some("`copyseg check --list` shows the record and why it cannot be read"),
            ErrorKind::IllegalTransition => Some("`copyseg job get` shows where the job stands"),
            ErrorKind::Corrupt => Some(concat!("`copyseg check` shows more; ", beyond_repair!())),
            ErrorKind::Unsupported => {
                Some("`copyseg --version` shows what this build is; a newer one may be needed")
            }
            _ => None,
        }
    }
}

/// Ends a run whose arguments could not be read, or that only asked for help.
pub(crate) fn report_usage(error: &clap::Error, format: Format) -> ExitCode {
    match format {
        Format::Json | Format::Jsonl if error.use_stderr() => {
            let text = error.render().to_string();
            Failure::Usage(text.trim_start_matches("error: ").trim_end().to_owned()).report(format)
        }
        _ => match error.print() {
            Err(failed) if !error.use_stderr() && failed.kind() != io::ErrorKind::BrokenPipe => {
                Failure::Output(failed).report(format)
            }
            _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Other as u8)),
        },
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => error.fmt(f),
            Self::Usage(message)
            | Self::TimedOut(message)
            | Self::Stopped(_, message)
            | Self::JobEnded { message, .. } => f.write_str(message),
            Self::Problems { count: 1, .. } => f.write_str("the check found 1 problem"),
            Self::Problems { count, .. } => write!(f, "the check found {count} problems"),
            Self::NotSetAside(key) => write!(f, "{key} was not set aside, so it is not dropped"),
            Self::Output(_) => f.write_str("the result could not be written"),
        }
    }
}

#[derive(Serialize)]
struct Body {
    error: Details,
}

#[derive(Serialize)]
struct Details {
    code: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<&'static str>,
    retryable: bool,
    exit_code: u8,
}

#[cfg(test)]
mod tests {
    use copyseg::RecordKind;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(ErrorKind::NotFound, 3)]
    #[case(ErrorKind::AlreadyExists { identical: true }, 4)]
    #[case(ErrorKind::IllegalTransition, 4)]
    #[case(ErrorKind::StaleClaim, 4)]
    #[case(ErrorKind::SetAside, 4)]
    #[case(ErrorKind::QuotaExceeded, 4)]
    #[case(ErrorKind::Fenced, 4)]
    #[case(ErrorKind::InvalidArgument, 2)]
    #[case(ErrorKind::Held, 5)]
    #[case(ErrorKind::Unavailable, 5)]
    #[case(ErrorKind::OutcomeUnknown, 5)]
    #[case(ErrorKind::TooLarge, 1)]
    #[case(ErrorKind::Corrupt, 1)]
    #[case(ErrorKind::Unsupported, 1)]
    #[case(ErrorKind::Closed, 1)]
    fn every_kind_of_error_has_its_exit_code(#[case] kind: ErrorKind, #[case] code: u8) {
        assert_eq!(exit_of(kind) as u8, code);
        assert!(EXIT_CODES.contains(&format!("\n  {code:<3}  ")), "{code} is documented");
    }

    #[test]
    fn an_error_tells_its_causes_and_what_to_do() {
        let cause = io::Error::other("no such device");
        let failure =
            Failure::from(Error::with_source(ErrorKind::Unavailable, "job 5 cannot be read", cause));

        let mut text = Vec::new();
        failure.write_text(anstream::StripStream::new(&mut text)).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "error: job 5 cannot be read\n  caused by: no such device\n  \
             hint: nothing is lost; when that is put right, run the same command again\n"
        );

        let mut json = Vec::new();
        failure.write_json(&mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["error"]["code"], "unavailable");
        assert_eq!(json["error"]["message"], "job 5 cannot be read");
        assert_eq!(json["error"]["causes"][0], "no such device");
        assert_eq!(json["error"]["retryable"], true);
        assert_eq!(json["error"]["exit_code"], 5);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let cause = io::Error::other("\u{9b}2J\r");
        let failure =
            Failure::from(Error::with_source(ErrorKind::InvalidArgument, "no \u{1b}]0;x\u{7}/\nfüße", cause));
        let mut text = Vec::new();
        failure.write_text(anstream::StripStream::new(&mut text)).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "error: no \\u{1b}]0;x\\u{7}/\\nfüße\n  caused by: \\u{9b}2J\\r\n"
        );
    }

    fn job_ended(state: JobState) -> Failure {
        Failure::JobEnded { state, message: String::new(), target_cleared: false }
    }

    #[rstest]
    #[case(Failure::Usage(String::new()), 2)]
    #[case(Failure::TimedOut(String::new()), 6)]
    #[case(job_ended(JobState::Failed), 7)]
    #[case(job_ended(JobState::Cancelled), 7)]
    #[case(Failure::Problems { count: 2, set_aside: false }, 8)]
    #[case(Failure::NotSetAside(RecordKey { kind: RecordKind::Task, id: 5 }), 3)]
    #[case(Failure::Stopped(None, String::new()), 5)]
    #[case(Failure::Stopped(Some(Stop::Interrupt), String::new()), 130)]
    #[case(Failure::Stopped(Some(Stop::Terminate), String::new()), 143)]
    fn every_end_has_its_exit_code(#[case] failure: Failure, #[case] code: u8) {
        assert_eq!(failure.exit() as u8, code);
        assert!(EXIT_CODES.contains(&format!("\n  {code:<3}  ")), "{code} is documented");
    }
}
