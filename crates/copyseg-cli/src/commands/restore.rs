//! `copyseg restore`: runs a restore to its end, shows how far it is, and stops it in order when asked to.

mod progress;

use std::pin::pin;
use std::time::{Duration, Instant};

use copyseg::{ErrorKind, JobState};
use copyseg_restore::{CancellationToken, Outcome, RestoreOptions, RestoreProgress, RestoreRequest, Verify};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use self::progress::Bar;
use crate::args::Restore;
use crate::catalog;
use crate::exit::Failure;
use crate::output::{self, Output, Text};
use crate::signals::{STOP_TIME, Signals, Stop};

/// A restore that is complete.
#[derive(Debug, Serialize)]
struct Restored {
    job: copyseg::JobId,
    state: JobState,
    /// Whether an earlier run had completed it.
    already: bool,
    segments: u64,
    bytes: u64,
    target: String,
    elapsed_ms: u128,
    server_side: bool,
}

/// Runs the restore until it has ended, or until a signal stops it.
pub(crate) async fn run(given: Option<&str>, output: Output, arguments: Restore) -> Result<(), Failure> {
    let start = Instant::now();
    let signals = Signals::new()?;
    let mut request = RestoreRequest::new(&arguments.source, &arguments.target)?;
    request.options = options(&arguments);
    let target = request.target.to_string();
    let url = match (given.filter(|given| !given.is_empty()), request.target.local_path()) {
        (None, Some(path)) => catalog::url_beside(path)?,
        // It would create the catalog, so that what was given is wrong and not missing.
        (given, _) => catalog::url(given).map_err(|failure| match failure {
            Failure::Library(error) if error.kind() == ErrorKind::NotFound => {
                Failure::Usage(error.to_string())
            }
            failure => failure,
        })?,
    };
    let outcome = supervise(&url, output, arguments.standby, request, signals).await?;
    match outcome {
        Outcome::Completed { job, segments, bytes, already, server_side } => {
            let (state, elapsed_ms) = (JobState::Completed, start.elapsed().as_millis());
            let restored = Restored { job, state, already, segments, bytes, target, elapsed_ms, server_side };
            Ok(output.one(&restored, summary)?)
        }
        Outcome::Failed { job, reason, target_cleared } => {
            let message = format!("the restore failed (job {job}): {reason}");
            Err(Failure::JobEnded { state: JobState::Failed, message, target_cleared })
        }
        Outcome::Cancelled { job, reason } => {
            let message = format!("the restore was cancelled (job {job}): {reason}");
            Err(Failure::JobEnded { state: JobState::Cancelled, message, target_cleared: false })
        }
        Outcome::Stopped { .. } => {
            let message = "the restore was stopped; run the same command again and it goes on";
            Err(Failure::Stopped(None, message.into()))
        }
    }
}

fn options(arguments: &Restore) -> RestoreOptions {
    let mut options = RestoreOptions::default();
    options.segments_per_task = arguments.segments_per_task.map(Into::into);
    options.verify = arguments.verify.map(|verify| match verify {
        crate::args::Verify::Content => Verify::Content,
        crate::args::Verify::Size => Verify::Size,
    });
    options.deadline = arguments.deadline;
    options.objects_in_flight = arguments.objects_in_flight.map_or(options.objects_in_flight, Into::into);
    options.attempts_max = arguments.attempts.map_or(options.attempts_max, Into::into);
    options.take_over = arguments.take_over;
    options
}

/// Runs the restore beside its progress bar and the signals.
async fn supervise(
    url: &str,
    output: Output,
    standby: bool,
    request: RestoreRequest,
    mut signals: Signals,
) -> Result<Outcome, Failure> {
    let (sender, mut progress) = watch::channel(RestoreProgress::default());
    let stop = CancellationToken::new();
    let mut restore = pin!(restore(url, output, standby, &request, &sender, &stop));
    let mut bar = Bar::new();
    let signal = loop {
        tokio::select! {
            outcome = &mut restore => return outcome,
            signal = signals.next() => break signal,
            Ok(()) = progress.changed() => bar.show(&progress.borrow_and_update()),
        }
    };
    drop(bar);
    signals.end_process_at_next();
    stop.cancel();
    output.note(&format!("{}: stopping; a second signal ends the process at once", signal.name()));
    match timeout(STOP_TIME, restore).await {
        Ok(Ok(Outcome::Stopped { .. })) | Err(_) => Err(stopped(signal, &progress.borrow())),
        Ok(ended) => ended,
    }
}

async fn restore(
    url: &str,
    output: Output,
    standby: bool,
    request: &RestoreRequest,
    progress: &watch::Sender<RestoreProgress>,
    stop: &CancellationToken,
) -> Result<Outcome, Failure> {
    let begin = async {
        // A request that cannot be carried out must not leave an empty catalog behind.
        copyseg_restore::check(request, &copyseg::canonical_url(url)?).await?;
        let note = |text: &str| output.note(text);
        if standby { catalog::acquire_or_wait(url, note).await } else { catalog::acquire(url, note).await }
    };
    let manager = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Outcome::Stopped { job: None }),
        manager = begin => manager?,
    };
    let outcome = match copyseg::canonical_url(url) {
        Ok(url) => copyseg_restore::restore(&manager, &url, request, progress, stop).await,
        Err(error) => Err(error),
    };
    let closed = manager.close().await;
    let outcome = outcome?;
    closed?;
    Ok(outcome)
}

fn stopped(signal: Stop, progress: &RestoreProgress) -> Failure {
    let message = match progress.job {
        Some(job) => format!(
            "stopped by {} with {} of {} segments copied; run the same command again and job {job} goes on",
            signal.name(),
            progress.segments_copied,
            progress.segments
        ),
        None => {
            format!("stopped by {} before anything was copied; run the same command again", signal.name())
        }
    };
    Failure::Stopped(Some(signal), message)
}

fn summary(restored: &Restored) -> Text {
    let Restored { job, segments, target, .. } = restored;
    let size = output::bytes(restored.bytes);
    if restored.already {
        return Text::line(format!(
            "already restored: {segments} segments ({size}) are in {target} (job {job})"
        ));
    }
    let elapsed =
        output::length(Duration::from_millis(u64::try_from(restored.elapsed_ms).unwrap_or(u64::MAX)));
    let note = if restored.server_side {
        "; the store copied them itself, so sizes and etags were compared"
    } else {
        ""
    };
    Text::line(format!("restored {segments} segments ({size}) into {target} in {elapsed} (job {job}){note}"))
}
