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
        // Every task that is under way meets it, each time perhaps at another member of a cluster; one says it for all.
        if progress.send_if_modified(|progress| {
            let is_new = !progress.waiting.starts_with(&error.to_string());
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use parking_lot::Mutex;
    use tracing_subscriber::util::SubscriberInitExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Tasks that are claimed ahead and those that are copied.
    const ATTEMPTS: usize = 96;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_however_many_tasks_meet_it_at_however_many_members() {
        let log = Log::default();
        let writer = log.clone();
        let _guard = tracing_subscriber::fmt().with_writer(move || writer.clone()).set_default();
        let (options, progress, halt) =
            (RestoreOptions::default(), watch::Sender::default(), CancellationToken::new());
        for outage in 1..=2 {
            let end = Instant::now() + CATALOG_AWAY_MAX / 2;
            let calls = AtomicUsize::new(0);
            let commit = || async {
                if Instant::now() > end {
                    return Ok(());
                }
                let member = calls.fetch_add(1, Ordering::Relaxed) % 3;
                let cause = Error::new(ErrorKind::Unavailable, format!("no connection to member {member}"));
                Err(Error::with_source(ErrorKind::Unavailable, "storage refused the change", cause))
            };
            let attempts = (0..ATTEMPTS).map(|_| record(&options, &progress, &halt, commit));
            assert!(join_all(attempts).await.iter().all(Result::is_ok));
            assert!(calls.into_inner() > 2 * ATTEMPTS, "each of them tried again and again");
            assert_eq!(progress.borrow().waiting, "");
            let text = String::from_utf8(log.0.lock().clone()).unwrap();
            assert_eq!(text.lines().count(), outage, "{text}");
            assert!(text.contains("no connection to member 0"), "{text}");
        }
    }
}
