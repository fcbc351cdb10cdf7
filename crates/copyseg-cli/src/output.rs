//! What goes to stdout: tables for people, JSON for programs.

use std::io::{self, ErrorKind, Write};
use std::sync::LazyLock;
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Row, Table, presets};
use copyseg::{JobState, TaskState, Timestamp};
use indicatif::{BinaryBytes, MultiProgress};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// One JSON document; ids are strings, times are RFC 3339.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// A list that may go on: the page, and the id to pass to `--after` for the next one.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    /// What is listed.
    pub(crate) items: Vec<T>,
    /// Where the next page starts; `None` at the end.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is whole.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// How they are printed.
    pub(crate) format: Format,
}

impl Output {
    /// Prints one result: for people the lines that `text` makes, for programs one JSON object.
    ///
    /// # Errors
    /// The error of stdout, but not that its reader went away: then nobody wants the rest.
    pub(crate) fn one<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        print(match self.format {
            Format::Table => text(value),
            Format::Json => serde_json::to_string_pretty(value)?,
            Format::Jsonl => serde_json::to_string(value)?,
        })
    }

    /// Prints text that is the same in every format.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub(crate) fn raw(self, text: String) -> io::Result<()> {
        print(text)
    }

    /// Tells people something beside the result, on stderr; programs read the result.
    pub(crate) fn note(self, text: &str) {
        if self.format == Format::Table {
            // A failure to write to stderr has nowhere left to be told.
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Prints a list: for people a table with `header`, one `row` for each item.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub(crate) fn list<T: Serialize>(
        self,
        page: &Page<T>,
        header: &[&str],
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> io::Result<()> {
        print(match self.format {
            Format::Table => columns(header, page.items.iter().map(row)),
            Format::Json => serde_json::to_string_pretty(page)?,
            Format::Jsonl => {
                let lines: Vec<_> = page.items.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
                lines.join("\n")
            }
        })
    }
}

/// A block of `name  value` lines, without those that have no value.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Cell)>) -> String {
    let mut table = table();
    table.add_rows(
        pairs
            .into_iter()
            .filter(|(_, value)| !value.content().is_empty())
            .map(|(name, value)| [Cell::new(name), value]),
    );
    lines(table)
}

/// A table of rows under a header.
pub(crate) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) -> String {
    let mut table = table();
    table.set_header(header.iter().copied());
    table.add_rows(rows.into_iter().map(Row::from));
    lines(table)
}

/// Sends the log to stderr; COPYSEG_LOG says what is logged, by default warnings.
pub(crate) fn log_to_stderr() {
    let filter =
        EnvFilter::builder().with_env_var("COPYSEG_LOG").with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt().with_env_filter(filter.from_env_lossy()).with_writer(|| AroundBars).init();
}

/// The progress bars on stderr, which the log must not tear apart.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
    &BARS
}

/// Stderr, written with the progress bars taken away meanwhile.
struct AroundBars;

impl Write for AroundBars {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A job's state, in its colour.
pub(crate) fn job_state(state: JobState) -> Cell {
    let cell = Cell::new(state);
    match state {
        JobState::Completed => cell.fg(Color::Green),
        JobState::Failed => cell.fg(Color::Red),
        JobState::Cancelled => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// A task's state, in its colour.
pub(crate) fn task_state(state: TaskState) -> Cell {
    let cell = Cell::new(state);
    match state {
        TaskState::Completed => cell.fg(Color::Green),
        TaskState::Failed => cell.fg(Color::Red),
        TaskState::Cancelled => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// A time for people, to the second; empty if there is none.
pub(crate) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| Timestamp::from_millis(time.as_millis() / 1000 * 1000).to_string().replace(".000Z", "Z"))
        .unwrap_or_default()
}

/// An amount of data for people.
pub(crate) fn bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}

/// A length of time for people, to the second, or to the millisecond below one.
pub(crate) fn length(duration: Duration) -> String {
    let shown = match duration.as_secs() {
        0 => Duration::from_millis(duration.as_millis().try_into().unwrap_or(0)),
        seconds => Duration::from_secs(seconds),
    };
    match jiff::SignedDuration::try_from(shown) {
        Ok(shown) => format!("{shown:#}"),
        Err(_) => format!("{}s", shown.as_secs()),
    }
}

/// An empty table without borders, as wide as the terminal at most; plain unless on a terminal that wants colour.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = table.width() {
        table.set_width(width);
    }
    if no_color() {
        table.force_no_tty();
    }
    table
}

/// Whether the user asked for plain text, see <https://no-color.org>.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The lines of a table, flush left, without the blanks that pad the last column.
fn lines(mut table: Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
}

fn print(text: String) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = match text.as_str() {
        "" => Ok(()),
        text => writeln!(stdout, "{text}").and_then(|()| stdout.flush()),
    };
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_columns() {
        let text = columns(
            &["ID", "STATE"],
            [
                vec![Cell::new(7), Cell::new(JobState::Failed)],
                vec![Cell::new(12), Cell::new(JobState::Completed)],
            ],
        );
        assert_eq!(text, "ID  STATE\n7   failed\n12  completed");
    }

    #[test]
    fn pairs_leave_out_what_is_empty() {
        let text = pairs([("Job", Cell::new(1)), ("Reason", Cell::new("")), ("Target", Cell::new("/t"))]);
        assert_eq!(text, "Job     1\nTarget  /t");
    }

    #[test]
    fn times_and_sizes_are_for_people() {
        assert_eq!(time(Some(Timestamp::from_millis(1_760_000_000_123))), "2025-10-09T08:53:20Z");
        assert_eq!(time(None), "");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(length(Duration::from_millis(3_723_400)), "1h 2m 3s");
        assert_eq!(length(Duration::from_millis(40)), "40ms");
    }
}
