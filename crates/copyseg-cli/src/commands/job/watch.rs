//! `copyseg job watch`: how a job, or every job, is, and then each change of it.

use std::collections::BTreeMap;

use copyseg::{Clock, JobFilter, JobId, Snapshot, SystemClock};
use serde::Serialize;

use super::observer::{Look, Observer};
use super::{JobView, copied, ended, find};
use crate::exit::Failure;
use crate::output::{self, Cell, Format, Output, Text};
use crate::signals;

/// How wide the columns are; the last one, of any text, is as wide as it has to be.
const WIDTHS: [u16; 5] = [20, 6, 10, 6, 8];

/// A job whose record is no longer there, as `copyseg job rm` names it.
#[derive(Debug, Serialize)]
struct Removed {
    removed: JobId,
}

/// Shows the changes of one job until it has ended, or of every job until somebody stops it.
pub(super) async fn run(url: &str, output: Output, id: Option<JobId>) -> Result<(), Failure> {
    let watch = Watch { url, output, id, shown: None, told: String::new() };
    signals::until_stopped(async |stop| watch.run(Observer::open(url, stop).await?).await).await
}

struct Watch<'a> {
    url: &'a str,
    output: Output,
    id: Option<JobId>,
    /// What was shown last of each job, nothing of one that has ended. `None` before the first look.
    shown: Option<BTreeMap<JobId, Option<String>>>,
    /// What people were told last.
    told: String,
}

impl Watch<'_> {
    async fn run(mut self, mut observer: Observer<'_>) -> Result<(), Failure> {
        // Where nobody reads on, the watch has ended, and not failed.
        while !output::is_unread() {
            match observer.look().await? {
                Look::Snapshot(snapshot, is_held) => {
                    self.told.clear();
                    self.show(&snapshot, is_held)?;
                    if let Some(job) = self.id.and_then(|id| snapshot.job(id))
                        && job.state.is_terminal()
                    {
                        return ended(job);
                    }
                }
                Look::Held(error) => self.tell(error.to_string()),
            }
            observer.pause().await?;
        }
        Ok(())
    }

    /// Shows what is not as it was shown last.
    fn show(&mut self, snapshot: &Snapshot, is_held: bool) -> Result<(), Failure> {
        let before = self.shown.take();
        let jobs: Vec<_> = match self.id {
            Some(id) => vec![find(snapshot, id)?],
            None => snapshot.jobs(&JobFilter::new()).map(AsRef::as_ref).collect(),
        };
        let is_first = before.is_none();
        if is_first && self.output.format == Format::Table {
            let header = ["TIME", "JOB", "STATE", "COPIED", "SEGMENTS", "NOTE"].map(Cell::new);
            self.output.next(&(), |()| output::columns_of(&WIDTHS, header.into()))?;
        }
        let mut before = before.unwrap_or_default();
        let mut shown = BTreeMap::new();
        for job in jobs {
            let last = before.remove(&job.id);
            let has_ended = job.state.is_terminal();
            let is_old = is_first && has_ended && self.id.is_none();
            if is_old || matches!(last, Some(None)) {
                shown.insert(job.id, None);
                continue;
            }
            let view = JobView::new(self.url, snapshot, job, is_held);
            let now = self.content(&view)?;
            if last.flatten().as_ref() != Some(&now) {
                self.output.next(&view, change)?;
            }
            shown.insert(job.id, (!has_ended).then_some(now));
        }
        for removed in before.into_keys() {
            self.output.next(&Removed { removed }, |it| {
                Text::line(format!("the record of job {} was removed", it.removed))
            })?;
        }
        self.shown = Some(shown);
        Ok(())
    }

    /// What is shown of a job, but for the time: people are spared a line that says what the last one said.
    fn content(&self, view: &JobView<'_>) -> std::io::Result<String> {
        Ok(match self.output.format {
            Format::Table => format!("{} {} {}", view.job.state, copied(view), note(view)),
            Format::Json | Format::Jsonl => serde_json::to_string(view)?,
        })
    }

    fn tell(&mut self, reason: String) {
        if reason != self.told {
            self.output.note(&format!("waiting: {reason}"));
            self.told = reason;
        }
    }
}

fn change(view: &JobView<'_>) -> Text {
    let job = view.job;
    let cells = vec![
        Cell::new(output::time(Some(SystemClock::default().now()))),
        Cell::new(job.id),
        output::job_state(job.state),
        Cell::new(copied(view)),
        Cell::new(job.segments),
        Cell::new(note(view)),
    ];
    output::columns_of(&WIDTHS, cells)
}

/// Why it ended so, or why it waits.
fn note<'a>(view: &'a JobView<'_>) -> &'a str {
    view.waiting.as_deref().unwrap_or(&view.job.reason)
}
