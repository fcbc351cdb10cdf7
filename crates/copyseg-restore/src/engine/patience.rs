//! Patience with what is away for a moment: storage is tried a number of times, the catalog for a while.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use copyseg_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Run, short};
use crate::request::{RestoreOptions, RestoreProgress};

/// How long the catalog may take no writes, as while the members of a cluster are started again.
const CATALOG_AWAY_MAX: Duration = Duration::from_secs(60);

/// How long it is left alone at most until it is tried again.
const CATALOG_DELAY_MAX: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Repeats what the catalog does not take now: see [`record`].
    pub(super) async fn record<T, W: Future<Output = Result<T>>>(
        &self,
        work: impl FnMut() -> W,
    ) -> Result<T> {
        record(&self.request.options, self.progress, self.stop, work).await
    }
}

/// Repeats what the catalog does not take now, until it does, or has not for long, or the run halts.
pub(super) async fn record<T, W: Future<Output = Result<T>>>(
    options: &RestoreOptions,
    progress: &watch::Sender<RestoreProgress>,
    halt: &CancellationToken,
    mut work: impl FnMut() -> W,
) -> Result<T> {
    let mut delays = backoff(options);
    let end = Instant::now() + CATALOG_AWAY_MAX;
    let mut has_waited = false;
    loop {
        let error = match work().await {
            Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < end => error,
            result => {
                if has_waited {
                    progress.send_modify(|progress| progress.waiting.clear());
                }
                return result;
            }
        };
        has_waited = true;
        let waiting = short(error.chain());
        // Every task that is under way meets it; one says it for all.
        if progress.send_if_modified(|progress| {
            let is_new = progress.waiting != waiting;
            progress.waiting = waiting;
            is_new
        }) {
            tracing::warn!(error = error.chain(), "the catalog was not available, trying again");
        }
        let delay = delays.next().unwrap_or(options.retry_delay_max).min(CATALOG_DELAY_MAX);
        tokio::select! {
            () = halt.cancelled() => return Err(error),
            () = sleep(delay) => {}
        }
    }
}

/// Repeats what storage cannot do now, a bounded number of times.
pub(super) async fn persist<T, E: Into<Error>, W: Future<Output = Result<T, E>>>(
    options: &RestoreOptions,
    mut work: impl FnMut() -> W,
) -> Result<T> {
    let mut delays = backoff(options);
    for _ in 1..options.attempts_max {
        match work().await.map_err(Into::into) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(error = error.chain(), "storage was not available, trying again");
                sleep(delays.next().unwrap_or(options.retry_delay_max)).await;
            }
            result => return result,
        }
    }
    work().await.map_err(Into::into)
}

/// The waits between the attempts at one thing.
pub(super) fn backoff(options: &RestoreOptions) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(options.retry_delay_min)
        .with_max_delay(options.retry_delay_max)
        .without_max_times()
        .build()
}
