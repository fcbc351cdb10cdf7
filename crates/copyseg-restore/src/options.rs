//! The options that belong to the stored plan, as the record of the job keeps them.

use std::collections::BTreeMap;
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Job, Result};

use crate::failure::Failure;
use crate::request::{RestoreOptions, Verify};

const RESTORE: &str = "restore";
const SEGMENTS_PER_TASK: &str = "segments_per_task";
const VERIFY: &str = "verify";
const DEADLINE_MS: &str = "deadline_ms";

/// Refuses options outside their range.
pub(crate) fn check(options: &RestoreOptions) -> Result<()> {
    let max = RestoreOptions::SEGMENTS_PER_TASK_MAX;
    if options.segments_per_task.is_some_and(|count| !(1..=max).contains(&count)) {
        return Err(refused(format!("segments per task must be from 1 to {max}")));
    }
    let max = tokio::sync::Semaphore::MAX_PERMITS;
    if !(1..=max).contains(&options.objects_in_flight) {
        return Err(refused(format!("objects in flight must be from 1 to {max}")));
    }
    if options.attempts_max == 0 {
        return Err(refused("attempts must be at least 1".to_owned()));
    }
    if options.catalog_timeout.is_zero() {
        return Err(refused("the catalog timeout must be longer than zero".to_owned()));
    }
    if options.heartbeat_timeout.is_zero() {
        return Err(refused("the heartbeat timeout must be longer than zero".to_owned()));
    }
    Ok(())
}

pub(crate) fn segments_per_task(options: &RestoreOptions) -> usize {
    options.segments_per_task.unwrap_or(RestoreOptions::SEGMENTS_PER_TASK)
}

/// What the record of a new job keeps. `restore` is the random name of the restore.
pub(crate) fn stored(options: &RestoreOptions, restore: &str) -> BTreeMap<String, String> {
    let mut stored = BTreeMap::from([
        (RESTORE.to_owned(), restore.to_owned()),
        (SEGMENTS_PER_TASK.to_owned(), segments_per_task(options).to_string()),
        (VERIFY.to_owned(), options.verify.unwrap_or_default().to_string()),
    ]);
    if let Some(deadline) = options.deadline {
        stored.insert(DEADLINE_MS.to_owned(), deadline.as_millis().to_string());
    }
    stored
}

/// The random name of the restore, if the job is one of this engine.
pub(crate) fn restore_of(job: &Job) -> Option<&str> {
    job.options.get(RESTORE).map(String::as_str)
}

/// What the built-in worker needs to know of the job.
pub(crate) fn of_worker(job: &Job) -> Result<(&str, Verify), Failure> {
    let verify = job.options.get(VERIFY).and_then(|verify| verify.parse().ok());
    restore_of(job)
        .zip(verify)
        .ok_or_else(|| Failure::permanent(format!("job {} was not made by this engine", job.id)))
}

/// Refuses options that differ from those the job was planned with.
pub(crate) fn check_same(options: &RestoreOptions, job: &Job) -> Result<()> {
    let asked = [
        (SEGMENTS_PER_TASK, options.segments_per_task.map(|count| count.to_string())),
        (VERIFY, options.verify.map(|verify| verify.to_string())),
        (DEADLINE_MS, options.deadline.as_ref().map(Duration::as_millis).map(|ms| ms.to_string())),
    ];
    for (name, asked) in asked {
        let planned = job.options.get(name);
        if asked.is_some() && asked.as_ref() != planned {
            let planned = planned.map_or("none", String::as_str);
            return Err(refused(format!(
                "job {} goes on with the plan it was made with: {name} is {planned} and cannot become {}; leave \
                 the option out, or cancel the job first",
                job.id,
                asked.unwrap_or_default()
            )));
        }
    }
    Ok(())
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
