//! The command line: every command and option, with the help that a newcomer acts on.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use copyseg::{CollectionId, JobId, JobState, RecordKey, RecordKind, TaskState};
use copyseg_restore::RestoreOptions;
use jiff::{Span, SpanRelativeTo};

use crate::exit::EXIT_CODES;
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  Restore a snapshot (a directory with one folder per segment) into a new directory:
      copyseg restore examples/digits restored

  The same again after a crash or Ctrl-C: it goes on where it stopped.
      copyseg restore examples/digits restored

  Look at what was done; the catalog of a local target is the file beside it:
      copyseg job list --catalog restored.copyseg.redb
      copyseg job get ID --catalog restored.copyseg.redb -o json

  Keep the records of several restores in one catalog, here named through the environment:
      export COPYSEG_CATALOG=redb:///var/lib/copyseg/catalog.redb
      copyseg restore /backup/nightly /data/collection-7
      copyseg job list --state executing,failed

  Let a second machine take over when the first one dies (a build with the feature `etcd`):
      export COPYSEG_CATALOG=etcd://host:2379,host2:2379/restores
      copyseg restore s3://backup/nightly s3://data/collection-7 --standby

  Follow every job from a third one:
      copyseg job watch

Environment:
  COPYSEG_CATALOG  the catalog, where --catalog is not given
  COPYSEG_LOG      what to log to stderr, such as `info` or `copyseg_restore=debug`
  NO_COLOR         if set, no output is coloured";

/// Restores snapshots of a vector database by copying their segments, and keeps the record of it.
///
/// A restore is a job. Its record lives in a catalog, so that a restore that was interrupted, even by `kill -9`
/// or a power cut, goes on where it stopped when the same command is run again. The restored segments become
/// visible all at once, when the last of them is verified.
#[derive(Debug, Parser)]
#[command(name = "copyseg", version, after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Arguments {
    /// The catalog: a URL such as redb:///path/to/file, or the path of a .redb file. `copyseg backends` lists the kinds.
    #[arg(long, global = true, env = "COPYSEG_CATALOG", hide_env_values = true, value_name = "URL")]
    pub(crate) catalog: Option<String>,

    /// How to print results; errors, notes and the log follow it on stderr.
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Restore(Restore),
    /// Look at jobs and steer them.
    #[command(subcommand)]
    Job(Job),
    Gc(Gc),
    /// Count the jobs, tasks, segments and bytes in the catalog by state.
    Stats,
    Check(Check),
    /// List the kinds of catalogs that this build opens.
    Backends,
}

/// Restore a snapshot: copy its segments into new ones, verify them, make them visible all at once.
///
/// Run it again after any interruption and it goes on where it stopped; a restore that is complete says so.
/// A restore that failed or was cancelled starts over.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The snapshot: a directory, or a URL that this build opens, with one folder per segment, each named by its
    /// segment id.
    pub(crate) source: String,

    /// Where the restored segments go. A local target is created; its catalog defaults to the file
    /// TARGET.copyseg.redb beside it.
    pub(crate) target: String,

    #[arg(long, value_name = "N", help = format!(
        "How many segments one task copies, up to {} [default: {}]",
        RestoreOptions::SEGMENTS_PER_TASK_MAX, RestoreOptions::SEGMENTS_PER_TASK,
    ))]
    pub(crate) segments_per_task: Option<NonZeroUsize>,

    #[arg(long, value_name = "N", help = format!(
        "How many objects are copied at the same time [default: {}]",
        RestoreOptions::default().objects_in_flight,
    ))]
    pub(crate) objects_in_flight: Option<NonZeroUsize>,

    #[arg(long, value_name = "HOW", help = format!(
        "How each copy is verified: `content` reads it back and compares checksums, `size` compares sizes \
         [default: {}]",
        copyseg_restore::Verify::default(),
    ))]
    pub(crate) verify: Option<Verify>,

    /// Fail the restore if it has not ended after this time, such as 90s, 45m or 2h30m.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) deadline: Option<Duration>,

    #[arg(long, value_name = "N", help = format!(
        "How often a task is tried before the restore fails [default: {}]",
        RestoreOptions::default().attempts_max,
    ))]
    pub(crate) attempts: Option<NonZeroU32>,

    /// While another process holds the catalog, wait, and take over as soon as it has ended.
    #[arg(long)]
    pub(crate) standby: bool,

    /// Take a target over that belongs to another restore. Make sure first that the other one has stopped.
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// How each copy is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    Content,
    Size,
}

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    List(JobList),
    /// Show one job: its progress, its times, and why it waits.
    Get {
        /// The job.
        #[arg(allow_negative_numbers = true)]
        id: JobId,
    },
    /// List the tasks of a job.
    Tasks {
        /// The job.
        #[arg(allow_negative_numbers = true)]
        id: JobId,
        /// Only tasks in this state; may be given several times or as a list.
        #[arg(long, value_name = "STATE", value_delimiter = ',')]
        state: Vec<TaskState>,
    },
    /// Show how a job, or every job, is, and then each change: one line, or one JSON object on a line.
    ///
    /// With a job it ends as that one does: exit code 0 if it completed, 7 if it failed or was cancelled. Otherwise it
    /// begins with the jobs that have not ended, and goes on until it is stopped. On etcd it reads along; a local
    /// catalog is looked at each second while no other process holds it.
    Watch {
        /// The job; every job if none is given.
        #[arg(allow_negative_numbers = true)]
        id: Option<JobId>,
    },
    /// Wait until a job has ended: exit code 0 if it completed, 7 if it failed or was cancelled.
    Wait {
        /// The job.
        #[arg(allow_negative_numbers = true)]
        id: JobId,
        /// Give up after this time, with exit code 6; without it, wait as long as it takes. A catalog has eight seconds for its
        /// first answer in any case.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Cancel a job. What it copied stays until the same restore is run again, which removes it first.
    Cancel {
        /// The job.
        #[arg(allow_negative_numbers = true)]
        id: JobId,
        /// Why, for whoever looks at the job later.
        #[arg(long, value_name = "TEXT", default_value = "cancelled by an operator")]
        reason: String,
    },
    /// Remove the record of a job that has ended. Restored data is never touched.
    Rm {
        /// The job.
        #[arg(allow_negative_numbers = true)]
        id: JobId,
    },
}

/// List jobs, the oldest first.
#[derive(Debug, Args)]
pub(crate) struct JobList {
    /// Only jobs in this state; may be given several times or as a list.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) state: Vec<JobState>,

    /// Only jobs of this collection.
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub(crate) collection: Option<CollectionId>,

    /// At most this many jobs.
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) limit: NonZeroUsize,

    /// Only jobs after this one; to go on with a list that was cut by --limit.
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub(crate) after: Option<JobId>,
}

/// Remove the records of jobs that ended long ago. Restored data is never touched.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// How long a job is kept after it ended, such as 12h or 7d.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    pub(crate) retention: Duration,

    /// Only say what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Check the catalog: decode every record, look for orphans, recount, rebuild the indexes.
///
/// Exits with 8 if there are problems. A record that cannot be read is set aside: it stays in the catalog untouched,
/// keeps its id reserved and keeps its job from completing until it is dropped.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Only list what was set aside.
    #[arg(long, group = "action")]
    pub(crate) list: bool,

    /// Write the bytes of what was set aside to a new file, one JSON object a line (`-`: stdout).
    #[arg(long, group = "action", value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,

    /// Remove a record that was set aside, such as job:5 or task:7. Export it first.
    #[arg(long, group = "action", value_name = "KEY", value_parser = record_key)]
    pub(crate) drop: Option<RecordKey>,
}

/// Reads a length of time such as `90s`, `2h30m` or `7d`; a day has 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a length of time such as 90s, 45m, 2h30m or 7d";
    let length = text.parse().and_then(|span: Span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    // What the parser says is about its own types; the example says what to write.
    let length = length.map_err(|_| expected)?;
    Duration::try_from(length).map_err(|_| format!("{expected}, not a negative one"))
}

/// Reads a length of time that ends while years have four digits, as RFC 3339 wants them.
fn deadline(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let ends = jiff::Timestamp::now().checked_add(length);
    ends.map(|_| length).map_err(|_| "it would end after the year 9999".into())
}

/// Reads the key of a record as `check --list` names it: `job:5`, `task:7`, or `store:1`, the counter of ids, which the
/// writer of the catalog has rebuilt under another key.
fn record_key(text: &str) -> Result<RecordKey, String> {
    let kind = |name| RecordKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    let key = text.split_once(':').and_then(|(name, id)| Some((kind(name)?, id.parse().ok()?)));
    key.map(|(kind, id)| RecordKey { kind, id }).ok_or_else(|| "expected job:ID, task:ID or store:ID".into())
}

/// The output format among arguments that could not be read as a whole.
pub(crate) fn format_wanted(arguments: impl IntoIterator<Item = OsString>) -> Format {
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "-o" | "--output" => arguments.next(),
            _ => {
                ["--output=", "-o=", "-o"].iter().find_map(|it| argument.strip_prefix(it)).map(str::to_owned)
            }
        };
        if let Some(format) = value.and_then(|value| Format::from_str(&value, false).ok()) {
            return format;
        }
    }
    Format::Table
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_explains_itself() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "`{name}` has no help");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "`{name}` does not explain `{}`", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }

    #[rstest]
    #[case("90s", 90)]
    #[case("45m", 45 * 60)]
    #[case("2h30m", 150 * 60)]
    #[case("7d", 7 * 86_400)]
    #[case("1w", 7 * 86_400)]
    #[case("0s", 0)]
    fn a_length_of_time_is_read(#[case] text: &str, #[case] seconds: u64) {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
    }

    #[rstest]
    #[case("")]
    #[case("7")]
    #[case("soon")]
    #[case("-2h")]
    #[case("1 month")]
    #[case("2y")]
    #[case("99999999999w")]
    fn what_is_no_length_of_time_is_refused_with_an_example_alone(#[case] text: &str) {
        let refused = duration(text).unwrap_err();
        assert_eq!(
            refused.trim_end_matches(", not a negative one"),
            "expected a length of time such as 90s, 45m, 2h30m or 7d"
        );
    }

    #[test]
    fn a_deadline_ends_in_a_year_that_can_be_written() {
        assert_eq!(deadline("90s"), Ok(Duration::from_secs(90)));
        let refused = deadline("99999999h").unwrap_err();
        assert!(refused.contains("year 9999"), "{refused}");
    }

    #[rstest]
    #[case("job:5", RecordKind::Job, 5)]
    #[case("task:-7", RecordKind::Task, -7)]
    #[case("store:1", RecordKind::Store, 1)]
    fn a_record_key_is_read(#[case] text: &str, #[case] kind: RecordKind, #[case] id: i64) {
        assert_eq!(record_key(text), Ok(RecordKey { kind, id }));
    }

    #[rstest]
    #[case("5")]
    #[case("shop:1")]
    #[case("job:")]
    #[case("job:x")]
    #[case("job:5:6")]
    fn what_is_no_record_key_is_refused(#[case] text: &str) {
        assert!(record_key(text).is_err(), "{text}");
    }

    #[rstest]
    #[case(&["copyseg", "job", "-o", "json"], Format::Json)]
    #[case(&["copyseg", "-ojsonl", "job"], Format::Jsonl)]
    #[case(&["copyseg", "--output=json", "--wrong"], Format::Json)]
    #[case(&["copyseg", "--output", "table"], Format::Table)]
    #[case(&["copyseg", "-o", "xml"], Format::Table)]
    #[case(&["copyseg", "-o"], Format::Table)]
    fn the_format_is_found_among_wrong_arguments(#[case] arguments: &[&str], #[case] format: Format) {
        assert_eq!(format_wanted(arguments.iter().map(OsString::from)), format);
    }

    #[test]
    fn a_malformed_id_names_what_was_expected() {
        let error = Arguments::try_parse_from(["copyseg", "job", "get", "5x"]).unwrap_err();
        assert!(error.to_string().contains("`5x` is not a job id"), "{error}");
    }

    #[test]
    fn a_negative_id_is_an_id() {
        assert!(Arguments::try_parse_from(["copyseg", "job", "get", "-5"]).is_ok());
    }
}
