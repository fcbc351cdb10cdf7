//! `copyseg gc`: removes the records of jobs that ended long ago.

use copyseg::{Clock, Job, JobId, JobState, SystemClock, Timestamp};
use copyseg_restore::{collect_garbage, expired};
use serde::Serialize;

use crate::args::Gc;
use crate::catalog;
use crate::exit::Failure;
use crate::output::{self, Cell, Output, Page};

/// A job whose record is removed.
#[derive(Debug, Serialize)]
struct Expired {
    job: JobId,
    state: JobState,
    completed: Option<Timestamp>,
    target: String,
}

impl Expired {
    fn new(job: &Job) -> Self {
        Self { job: job.id, state: job.state, completed: job.completed, target: job.target.clone() }
    }
}

/// Removes the jobs that ended longer ago than the retention, or only lists them; restored data is never touched.
pub(crate) async fn run(url: &str, output: Output, gc: Gc) -> Result<(), Failure> {
    let items = if gc.dry_run {
        let filter = expired(SystemClock::default().now(), gc.retention);
        catalog::read(url).await?.jobs(&filter).map(|job| Expired::new(job)).collect()
    } else {
        catalog::write(url, async |manager| {
            let before = manager.snapshot()?;
            let removed = collect_garbage(manager, gc.retention).await?;
            Ok(removed.iter().filter_map(|id| before.job(*id)).map(|job| Expired::new(job)).collect())
        })
        .await?
    };
    let page: Page<Expired> = Page::whole(items);
    output.note(&match (gc.dry_run, page.items.len()) {
        (true, count) => format!("jobs whose records would be removed: {count}"),
        (false, count) => format!("jobs whose records were removed: {count}"),
    });
    Ok(output.list(&page, &["ID", "STATE", "COMPLETED", "TARGET"], row)?)
}

fn row(job: &Expired) -> Vec<Cell> {
    vec![
        Cell::new(job.job),
        output::job_state(job.state),
        Cell::new(output::time(job.completed)),
        Cell::new(&job.target),
    ]
}
