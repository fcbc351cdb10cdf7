//! `copyseg stats`: what the catalog holds, by state.

use std::collections::BTreeMap;

use copyseg::{JobFilter, JobState, Revision, Snapshot, TaskFilter, TaskState, Timestamp};
use serde::Serialize;

use crate::catalog;
use crate::exit::Failure;
use crate::output::{self, Cell, Output, Text};

/// What the catalog holds.
#[derive(Debug, Serialize)]
struct Stats {
    revision: Revision,
    jobs: BTreeMap<JobState, usize>,
    tasks: BTreeMap<TaskState, Amount>,
    /// How many records could not be read.
    set_aside: usize,
    /// When the oldest job that has not ended was added.
    oldest_open: Option<Timestamp>,
}

/// How much is in one state.
#[derive(Debug, Default, Serialize)]
struct Amount {
    tasks: usize,
    segments: u64,
    bytes: u64,
}

/// Prints how many jobs, tasks, segments and bytes are in each state.
pub(crate) async fn run(url: &str, output: Output) -> Result<(), Failure> {
    let stats = count(&catalog::read(url).await?);
    Ok(output.one(&stats, text)?)
}

fn count(snapshot: &Snapshot) -> Stats {
    let jobs = |state| (state, snapshot.count_jobs(&JobFilter::new().states([state])));
    let mut tasks: BTreeMap<_, _> = TaskState::ALL.map(|state| (state, Amount::default())).into();
    for task in snapshot.tasks(&TaskFilter::new()) {
        let amount = tasks.entry(task.state).or_default();
        amount.tasks += 1;
        amount.segments += task.segments.len() as u64;
        amount.bytes += task.segments.bytes();
    }
    let ended = JobState::ALL.into_iter().filter(|state| state.is_terminal());
    let open = JobFilter::new().without_states(ended);
    Stats {
        revision: snapshot.revision(),
        jobs: JobState::ALL.map(jobs).into(),
        tasks,
        set_aside: snapshot.set_aside().count(),
        oldest_open: snapshot.jobs(&open).map(|job| job.created).min(),
    }
}

fn text(stats: &Stats) -> Text {
    let jobs = output::columns(
        &["JOBS", ""],
        stats.jobs.iter().map(|(state, count)| vec![output::job_state(*state), Cell::new(count)]),
    );
    let tasks = output::columns(
        &["TASKS", "", "SEGMENTS", "SIZE"],
        stats.tasks.iter().map(|(state, amount)| {
            let counts = [Cell::new(amount.tasks), Cell::new(amount.segments)];
            [output::task_state(*state)]
                .into_iter()
                .chain(counts)
                .chain([Cell::new(output::bytes(amount.bytes))])
                .collect()
        }),
    );
    let rest = output::pairs([
        ("Revision", Cell::new(stats.revision)),
        ("Set aside", Cell::new(stats.set_aside)),
        ("Oldest open job", Cell::new(output::time(stats.oldest_open))),
    ]);
    [jobs, Text::line(""), tasks, Text::line(""), rest].into_iter().collect()
}
