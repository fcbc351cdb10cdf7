//! `copyseg job`: list, show, watch, wait for, cancel and remove jobs.

mod observer;
mod watch;
mod wait;

use copyseg::{
    Error, ErrorKind, Job, JobFilter, JobId, JobState, MetaManager, Progress, RecordKey, RecordKind,
    Snapshot, Task, TaskFilter, TaskState,
};
use serde::Serialize;

use crate::args::{self, JobList};
use crate::catalog;
use crate::exit::Failure;
use crate::output::{self, Cell, Output, Page, Text};

/// A job as it is shown: its record, and what is known beside it.
#[derive(Debug, Serialize)]
struct JobView<'a> {
    #[serde(flatten)]
    job: &'a Job,
    progress: Progress,
    /// Whether it lacks segments that a record which was set aside may hold, so that it cannot complete.
    damaged: bool,
    /// Why it is not moving, if that is known.
    waiting: Option<String>,
}

impl<'a> JobView<'a> {
    /// The job as it is in the catalog at `url`, which a process holds, or none.
    fn new(url: &str, snapshot: &'a Snapshot, job: &'a Job, is_held: bool) -> Self {
        let damaged = snapshot.is_damaged(job.id);
        Self {
            job,
            progress: snapshot.progress(job.id).unwrap_or_default(),
            damaged,
            waiting: waiting(url, snapshot, job, damaged, is_held),
        }
    }
}

/// Why a job that has not ended is not moving.
fn waiting(url: &str, snapshot: &Snapshot, job: &Job, damaged: bool, is_held: bool) -> Option<String> {
    if job.state.is_terminal() {
        return None;
    }
    if damaged {
        return Some(
            "it lacks segments, which a record set aside may hold, see `copyseg check --list`".into(),
        );
    }
    let failed =
        snapshot.tasks_of_job(job.id).find(|task| !task.state.is_terminal() && !task.reason.is_empty());
    let last = failed.map(|task| format!("task {} gave up last time: {}", task.id, task.reason));
    if is_held {
        return last;
    }
    let idle = format!("no process works on it; `{}` goes on", catalog::restore_command(url, job));
    Some([Some(idle), last].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Does what was asked with jobs.
pub(crate) async fn run(url: &str, output: Output, command: args::Job) -> Result<(), Failure> {
    match command {
        args::Job::List(request) => list(url, output, request).await,
        args::Job::Get { id } => get(url, output, id).await,
        args::Job::Tasks { id, state } => tasks(url, output, id, state).await,
        args::Job::Watch { id } => watch::run(url, output, id).await,
        args::Job::Wait { id, timeout } => wait::run(url, output, id, timeout).await,
        args::Job::Cancel { id, reason } => cancel(url, output, id, &reason).await,
        args::Job::Rm { id } => remove(url, output, id).await,
    }
}

async fn list(url: &str, output: Output, request: JobList) -> Result<(), Failure> {
    let limit = request.limit.get();
    let mut filter = JobFilter::new().limit(limit.saturating_add(1));
    if !request.state.is_empty() {
        filter = filter.states(request.state);
    }
    if let Some(id) = request.collection {
        filter = filter.collection(id);
    }
    if let Some(id) = request.after {
        filter = filter.after(id);
    }
    let snapshot = catalog::read(url).await?;
    let set_aside = snapshot.set_aside().filter(|record| record.key.kind == RecordKind::Job).count();
    if set_aside > 0 {
        output.warn(&format!(
            "records of jobs set aside, which are not listed: {set_aside}; see `copyseg check --list`"
        ));
    }
    let is_held = copyseg::holder(url).await?.is_some();
    let view = |job| JobView::new(url, &snapshot, job, is_held);
    let mut items: Vec<_> = snapshot.jobs(&filter).map(|job| view(job)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|view| view.job.id.to_string());
    let header = ["ID", "STATE", "COPIED", "SEGMENTS", "SIZE", "CREATED", "TARGET"];
    Ok(output.list(&Page { items, next }, &header, job_row)?)
}

fn job_row(view: &JobView<'_>) -> Vec<Cell> {
    let job = view.job;
    vec![
        Cell::new(job.id),
        output::job_state(job.state),
        Cell::new(copied(view)),
        Cell::new(job.segments),
        Cell::new(output::bytes(job.bytes)),
        Cell::new(output::time(Some(job.created))),
        Cell::new(&job.target),
    ]
}

/// The share of the segments that is copied; rounded down, so that 100 % is never shown too early.
fn copied(view: &JobView<'_>) -> String {
    let copied = view.progress.segments.get(TaskState::Completed);
    match (u128::from(copied) * 100).checked_div(u128::from(view.job.segments)) {
        Some(percent) => format!("{percent}%"),
        None => "-".into(),
    }
}

async fn get(url: &str, output: Output, id: JobId) -> Result<(), Failure> {
    let snapshot = catalog::read(url).await?;
    let job = find(&snapshot, id)?;
    let is_held = copyseg::holder(url).await?.is_some();
    Ok(output.one(&JobView::new(url, &snapshot, job, is_held), job_text)?)
}

fn job_text(view: &JobView<'_>) -> Text {
    let (job, progress) = (view.job, &view.progress);
    let optional = |value: i64, name: &str| match (value, name) {
        (0, "") => String::new(),
        (id, "") => id.to_string(),
        (id, name) => format!("{name} ({id})"),
    };
    let tasks = TaskState::ALL.map(|state| (state, progress.tasks.get(state)));
    let tasks: Vec<_> = tasks
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let options: Vec<_> = job.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (segments, bytes) =
        (progress.segments.get(TaskState::Completed), progress.bytes.get(TaskState::Completed));
    output::pairs([
        ("Job", Cell::new(job.id)),
        ("State", output::job_state(job.state)),
        ("Reason", Cell::new(&job.reason)),
        ("Damaged", Cell::new(if view.damaged { "yes" } else { "" })),
        ("Waiting", Cell::new(view.waiting.as_deref().unwrap_or_default())),
        ("Snapshot", Cell::new(&job.snapshot)),
        ("Source", Cell::new(&job.source)),
        ("Target", Cell::new(&job.target)),
        ("Database", Cell::new(optional(job.database.0, ""))),
        ("Collection", Cell::new(optional(job.collection.0, &job.collection_name))),
        ("Segments", Cell::new(format!("{segments} of {} copied", job.segments))),
        ("Bytes", Cell::new(format!("{} of {} copied", output::bytes(bytes), output::bytes(job.bytes)))),
        ("Rows", Cell::new(job.rows.map(|rows| rows.to_string()).unwrap_or_default())),
        ("Tasks", Cell::new(tasks.join(", "))),
        ("Options", Cell::new(options.join(", "))),
        ("Created", Cell::new(output::time(Some(job.created)))),
        ("Started", Cell::new(output::time(job.started))),
        ("Updated", Cell::new(output::time(Some(job.updated)))),
        ("Completed", Cell::new(output::time(job.completed))),
        ("Deadline", Cell::new(output::time(job.deadline))),
    ])
}

async fn tasks(url: &str, output: Output, id: JobId, states: Vec<TaskState>) -> Result<(), Failure> {
    let snapshot = catalog::read(url).await?;
    find(&snapshot, id)?;
    let mut filter = TaskFilter::new().job(id);
    if !states.is_empty() {
        filter = filter.states(states);
    }
    let items: Vec<&Task> = snapshot.tasks(&filter).map(AsRef::as_ref).collect();
    let header = ["ID", "STATE", "ATTEMPT", "SEGMENTS", "SIZE", "UPDATED", "REASON"];
    Ok(output.list(&Page::whole(items), &header, |task| task_row(task))?)
}

fn task_row(task: &Task) -> Vec<Cell> {
    vec![
        Cell::new(task.id),
        output::task_state(task.state),
        Cell::new(task.attempt),
        Cell::new(task.segments.len()),
        Cell::new(output::bytes(task.segments.bytes())),
        Cell::new(output::time(Some(task.updated))),
        Cell::new(&task.reason),
    ]
}

async fn cancel(url: &str, output: Output, id: JobId, reason: &str) -> Result<(), Failure> {
    catalog::cancel(url, id, reason).await?;
    let cancelled = Cancelled { cancelled: id, state: JobState::Cancelled };
    Ok(output.one(&cancelled, |it| Text::line(format!("job {} is {}", it.cancelled, it.state)))?)
}

async fn remove(url: &str, output: Output, id: JobId) -> Result<(), Failure> {
    let removed = catalog::write(url, async |manager| remove_ended(manager, id).await).await?;
    Ok(output.one(&removed, |it| {
        Text::line(format!("removed the record of job {}; {} was not touched", it.removed, it.target))
    })?)
}

#[derive(Debug, Serialize)]
struct Cancelled {
    cancelled: JobId,
    state: JobState,
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: JobId,
    target: String,
}

async fn remove_ended(manager: &MetaManager, id: JobId) -> Result<Removed, Failure> {
    let snapshot = manager.snapshot()?;
    let job = find(&snapshot, id)?;
    // An ended job never becomes active again, so what is decided here still holds when it is removed.
    if !job.state.is_terminal() {
        let message =
            format!("job {id} is {}: only a job that has ended can be removed, cancel it first", job.state);
        return Err(Error::new(ErrorKind::IllegalTransition, message).into());
    }
    manager.remove_job(id).await?;
    Ok(Removed { removed: id, target: job.target.clone() })
}

/// How a job that has ended lets the command end that waited for it.
fn ended(job: &Job) -> Result<(), Failure> {
    let how = match job.state {
        JobState::Completed => return Ok(()),
        JobState::Failed => "failed",
        _ => "was cancelled",
    };
    let message = format!("job {} {how}: {}", job.id, job.reason);
    Err(Failure::JobEnded { state: job.state, message, target_cleared: false })
}

fn find(snapshot: &Snapshot, id: JobId) -> copyseg::Result<&Job> {
    let key = RecordKey { kind: RecordKind::Job, id: id.0 };
    let missing = || match snapshot.set_aside().any(|record| record.key == key) {
        true => Error::new(
            ErrorKind::SetAside,
            format!("the record of job {id} cannot be read and was set aside"),
        ),
        false => Error::new(ErrorKind::NotFound, format!("there is no job {id} in the catalog")),
    };
    snapshot.job(id).map(AsRef::as_ref).ok_or_else(missing)
}
