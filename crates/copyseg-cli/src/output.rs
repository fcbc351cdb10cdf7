//! What goes to stdout: tables for people, JSON for programs.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use copyseg::{JobState, TaskState, Timestamp};
use indicatif::BinaryBytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

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
    pub(crate) fn one<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> Text) -> io::Result<()> {
        print(&match self.format {
            Format::Table => text(value),
            Format::Json => Text::json(serde_json::to_string_pretty(value)?),
            Format::Jsonl => Text::json(serde_json::to_string(value)?),
        })
    }

    /// Prints one of many results as it comes: for people what `text` makes, for programs one JSON object on a line.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub(crate) fn next<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> Text) -> io::Result<()> {
        print(&match self.format {
            Format::Table => text(value),
            Format::Json | Format::Jsonl => Text::json(serde_json::to_string(value)?),
        })
    }

    /// Prints JSON that is the same in every format.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub(crate) fn json(self, json: String) -> io::Result<()> {
        print(&Text::json(json))
    }

    /// Tells people something beside the result, on stderr; programs read the result.
    pub(crate) fn note(self, text: &str) {
        if self.format == Format::Table {
            // A failure to write to stderr has nowhere left to be told.
            let _ = writeln!(io::stderr().lock(), "{}", printable(text));
        }
    }

    /// Tells what a reader of the result must know too, on stderr: people by a line, programs by one JSON object.
    pub(crate) fn warn(self, text: &str) {
        let line = match self.format {
            Format::Table => printable(text),
            Format::Json | Format::Jsonl => json_line("note", text),
        };
        // A failure to write to stderr has nowhere left to be told.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Prints a list: for people a table with `header`, one `row` for each item. Lines have no place for where the next
    /// page starts, so that it is told beside them.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub(crate) fn list<T: Serialize>(
        self,
        page: &Page<T>,
        header: &[&str],
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> io::Result<()> {
        if let Some(next) = page.next.as_ref().filter(|_| self.format != Format::Json) {
            self.warn(&format!("there are more: add --after {next}"));
        }
        print(&match self.format {
            Format::Table => columns(header, page.items.iter().map(row)),
            Format::Json => Text::json(serde_json::to_string_pretty(page)?),
            Format::Jsonl => {
                let lines: Vec<_> = page.items.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
                Text::json(lines.join("\n"))
            }
        })
    }
}

/// What is printed. Nothing in it that came from elsewhere can steer the terminal: see [`printable`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text(String);

impl Text {
    /// One line.
    pub(crate) fn line(text: impl AsRef<str>) -> Self {
        Self(printable(text.as_ref()))
    }

    /// JSON, in which a character of a text may be written as its number too.
    fn json(json: String) -> Self {
        let steers = |character| steers(character) && character != '\n';
        if !json.contains(steers) {
            return Self(json);
        }
        let mut text = String::with_capacity(json.len());
        for character in json.chars() {
            match steers(character) {
                true => text += &format!("\\u{:04x}", u32::from(character)),
                false => text.push(character),
            }
        }
        Self(text)
    }
}

/// One below the other.
impl FromIterator<Text> for Text {
    fn from_iter<I: IntoIterator<Item = Text>>(texts: I) -> Self {
        let texts: Vec<_> = texts.into_iter().map(|text| text.0).collect();
        Self(texts.join("\n"))
    }
}

/// A cell of a table: one line, in which nothing can steer the terminal.
#[derive(Debug)]
pub(crate) struct Cell(comfy_table::Cell);

impl Cell {
    /// A cell that shows this.
    pub(crate) fn new(content: impl ToString) -> Self {
        Self(comfy_table::Cell::new(printable(&content.to_string())))
    }

    fn coloured(self, color: Color) -> Self {
        Self(self.0.fg(color))
    }
}

/// The text with every character escaped that could steer the terminal of who reads it: names, reasons and paths come
/// from elsewhere.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match steers(character) {
            true => printable.extend(character.escape_default()),
            false => printable.push(character),
        }
    }
    printable
}

/// An object of one text, in which nothing can steer the terminal either, on one line.
pub(crate) fn json_line(name: &str, text: &str) -> String {
    Text::json(serde_json::json!({ name: text }).to_string()).0
}

/// Whether a terminal does something at this character but show it: control characters, ends of lines, and what turns
/// the direction of reading (Boucher and Anderson, "Trojan Source", USENIX Security 2023).
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A block of `name  value` lines, without those that have no value.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Cell)>) -> Text {
    let mut table = table();
    table.add_rows(
        pairs
            .into_iter()
            .filter(|(_, value)| !value.0.content().is_empty())
            .map(|(name, value)| [comfy_table::Cell::new(name), value.0]),
    );
    lines(table)
}

/// A table of rows under a header.
pub(crate) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) -> Text {
    let mut table = table();
    table.set_header(header.iter().copied());
    table.add_rows(rows.into_iter().map(row));
    lines(table)
}

/// One row of a table that is printed row by row: each column is at least so wide as these say, which leave out the
/// last. The terminal breaks a line that is too long; in a column, what comes last would get too little room.
pub(crate) fn columns_of(widths: &[u16], cells: Vec<Cell>) -> Text {
    let mut table = table();
    table.set_content_arrangement(ContentArrangement::Disabled).add_row(row(cells));
    for (column, width) in table.column_iter_mut().zip(widths) {
        // The space before and after; before the first one there is none.
        let space = if column.index == 0 { 1 } else { 2 };
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + space)));
    }
    lines(table)
}

fn row(cells: Vec<Cell>) -> Row {
    Row::from(cells.into_iter().map(|cell| cell.0).collect::<Vec<_>>())
}

/// Whether nobody reads stdout any more: the other end of a pipe is closed.
pub(crate) fn is_unread() -> bool {
    let stdout = io::stdout();
    // Errors are told without being asked for.
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// A job's state, in its colour.
pub(crate) fn job_state(state: JobState) -> Cell {
    let cell = Cell::new(state);
    match state {
        JobState::Completed => cell.coloured(Color::Green),
        JobState::Failed => cell.coloured(Color::Red),
        JobState::Cancelled => cell.coloured(Color::Yellow),
        _ => cell,
    }
}

/// A task's state, in its colour.
pub(crate) fn task_state(state: TaskState) -> Cell {
    let cell = Cell::new(state);
    match state {
        TaskState::Completed => cell.coloured(Color::Green),
        TaskState::Failed => cell.coloured(Color::Red),
        TaskState::Cancelled => cell.coloured(Color::Yellow),
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
    match table.width() {
        // A terminal that does not know its width, as on a serial line, says this.
        Some(0) => table.set_content_arrangement(ContentArrangement::Disabled),
        Some(width) => table.set_width(width),
        None => &mut table,
    };
    if wants_no_color() {
        table.force_no_tty();
    }
    table
}

/// Whether the user asked for plain text, see <https://no-color.org>, or the terminal shows nothing else.
fn wants_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// The lines of a table, flush left, without the blanks that pad the last column.
fn lines(mut table: Table) -> Text {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    Text(table.trim_fmt())
}

fn print(text: &Text) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = match text.0.as_str() {
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
        assert_eq!(text.0, "ID  STATE\n7   failed\n12  completed");
    }

    #[test]
    fn pairs_leave_out_what_is_empty() {
        let text = pairs([("Job", Cell::new(1)), ("Reason", Cell::new("")), ("Target", Cell::new("/t"))]);
        assert_eq!(text.0, "Job     1\nTarget  /t");
    }

    #[test]
    fn rows_printed_one_by_one_stand_below_each_other() {
        let row = |id: i64, state: JobState| {
            columns_of(&[4, 9], vec![Cell::new(id), Cell::new(state), Cell::new("/t")]).0
        };
        assert_eq!(row(7, JobState::Failed), "7     failed     /t");
        assert_eq!(row(12, JobState::Completed), "12    completed  /t");
    }

    /// A colour, a title, a cleared screen by a single character, a line end, and a text turned round.
    const STEERING: &str = "a\u{1b}[31mb\u{1b}]0;t\u{7}c\u{9b}2Jd\r\ne\u{202e}f\u{2028}";
    const SHOWN: &str = "a\\u{1b}[31mb\\u{1b}]0;t\\u{7}c\\u{9b}2Jd\\r\\ne\\u{202e}f\\u{2028}";

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(Text::line(STEERING).0, SHOWN);
        assert_eq!(pairs([("Reason", Cell::new(STEERING))]).0, format!("Reason  {SHOWN}"));
        assert_eq!(columns(&["A"], [vec![Cell::new(STEERING)]]).0, format!("A\n{SHOWN}"));
        assert_eq!(columns_of(&[], vec![Cell::new(STEERING)]).0, SHOWN);
        assert_eq!(Text::line("füße 数据 🙂").0, "füße 数据 🙂");
    }

    #[test]
    fn no_json_steers_the_terminal_and_it_means_the_same() {
        let json = Text::json(serde_json::to_string_pretty(&[STEERING, "füße 数据 🙂"]).unwrap()).0;
        assert!(!json.contains(|character| steers(character) && character != '\n'), "{json:?}");
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&json).unwrap(),
            [STEERING.to_owned(), "füße 数据 🙂".into()]
        );
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
