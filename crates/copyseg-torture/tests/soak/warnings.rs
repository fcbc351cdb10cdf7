//! What copyseg warned of while a load ran.

use std::fmt::{self, Write};
use std::sync::Once;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::ground::Faults;

static SEEN: Mutex<Vec<(Instant, String)>> = Mutex::new(Vec::new());

/// Begins to collect warnings, and forgets those of another load.
pub(crate) fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(LevelFilter::WARN).with(Collect).init());
    SEEN.lock().clear();
}

/// Asserts that each warning came during a fault, or soon after one. Says how many there were.
pub(crate) fn all_have_a_cause(faults: &Faults) -> u64 {
    let seen = std::mem::take(&mut *SEEN.lock());
    let without: Vec<_> = seen.iter().filter(|(at, _)| !faults.explain(*at)).map(|(_, text)| text).collect();
    assert!(without.is_empty(), "{} warnings without a cause: {without:#?}", without.len());
    seen.len() as u64
}

struct Collect;

impl<S: Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target().starts_with("copyseg") {
            let mut text = Text(event.metadata().target().to_owned());
            event.record(&mut text);
            SEEN.lock().push((Instant::now(), text.0));
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
