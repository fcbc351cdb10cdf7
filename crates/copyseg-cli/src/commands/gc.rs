//! `copyseg gc`: removes the records of jobs that ended long ago.

use std::time::Duration;

use comfy_table::Cell;
use copyseg::{Clock, JobFilter, JobId, JobState, Snapshot, SystemClock, Timestamp};
use serde::Serialize;

use crate::args::Gc;
use crate::catalog;
use crate::exit::Failure;
use crate::output::{self, Output, Page};

/// A job whose record is removed.
#[derive(Debug, Serialize)]
struct Expired {
    job: JobId,
    state: JobState,
    completed: Option<Timestamp>,
    target: String,
}

/// Removes the jobs that ended longer ago than the retention, or only lists them; restored data is never touched.
pub(crate) async fn run(url: &str, output: Output, gc: Gc) -> Result<(), Failure> {
    let Gc { retention, dry_run } = gc;
    let now = SystemClock::default().now();
    let items = if dry_run {
        expired(&catalog::read(url).await?, now, retention)
    } else {
        catalog::write(url, async |manager| {
            let expired = expired(&manager.snapshot()?, now, retention);
            for job in &expired {
                manager.remove_job(job.job).await?;
            }
            Ok(expired)
        })
        .await?
    };
    output.note(&match (dry_run, items.len()) {
        (true, count) => format!("{count} jobs would be removed"),
        (false, count) => format!("removed the records of {count} jobs"),
    });
    Ok(output.list(&Page::whole(items), &["ID", "STATE", "COMPLETED", "TARGET"], row)?)
}

fn expired(snapshot: &Snapshot, now: Timestamp, retention: Duration) -> Vec<Expired> {
    let long_ago = move |job: &copyseg::Job| job.completed.is_some_and(|ended| ended.after(retention) <= now);
    let ended = JobState::ALL.into_iter().filter(|state| state.is_terminal());
    let filter = JobFilter::new().states(ended).matching(long_ago);
    let jobs = snapshot.jobs(&filter);
    jobs.map(|job| Expired {
        job: job.id,
        state: job.state,
        completed: job.completed,
        target: job.target.clone(),
    })
    .collect()
}

fn row(job: &Expired) -> Vec<Cell> {
    vec![
        Cell::new(job.job),
        output::job_state(job.state),
        Cell::new(output::time(job.completed)),
        Cell::new(&job.target),
    ]
}
