//! The log, and the progress bars that share stderr with it.

use std::io::{self, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::output::{Format, json_line};

/// Sends the log to stderr, as `format` asks for; COPYSEG_LOG says what is logged, by default warnings.
pub(crate) fn to_stderr(format: Format) {
    let filter =
        EnvFilter::builder().with_env_var("COPYSEG_LOG").with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(move || Log(format))
        .init();
}

/// The progress bars on stderr, which the log must not tear apart.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
    &BARS
}

/// Stderr, written with the progress bars taken away meanwhile. It is given a whole entry of the log at once.
struct Log(Format);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        bars().suspend(|| match self.0 {
            Format::Table => io::stderr().write(text),
            Format::Json | Format::Jsonl => {
                let entry = json_line("log", String::from_utf8_lossy(text).trim_end());
                writeln!(io::stderr(), "{entry}").map(|()| text.len())
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
