//! One attempt at one task: claim it, let the worker copy, and report.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use copyseg_core::{Error, ErrorKind, Job, MetaManager, NodeId, Result, TaskId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::short;
use crate::failure::{Failure, FailureKind};
use crate::request::RestoreOptions;
use crate::worker::{Assignment, Shared, Worker};

/// How long the catalog may take no writes, as while the members of a cluster are started again.
const CATALOG_AWAY_MAX: Duration = Duration::from_secs(60);

/// How long it is left alone at most until it is tried again.
const CATALOG_DELAY_MAX: Duration = Duration::from_secs(2);

/// How an attempt ended.
pub(super) enum Report {
    /// The task is completed.
    Completed,
    /// The task was given back or was not to be had: somebody else has decided about it.
    Over,
    /// The worker failed.
    Failed(Failure),
    /// The catalog failed.
    Broken(Error),
}

/// What every attempt of a run needs.
#[derive(Clone)]
pub(super) struct Attempts {
    pub(super) job: Arc<Job>,
    pub(super) node: NodeId,
    pub(super) worker: Arc<dyn Worker>,
    pub(super) shared: Shared,
    pub(super) options: RestoreOptions,
    /// Cancelled when the run needs no more of them.
    pub(super) halt: CancellationToken,
}

impl Attempts {
    /// Makes one attempt. Once the task is claimed, the claim is reported on or given back.
    pub(super) async fn attempt(self, task: TaskId, slot: OwnedSemaphorePermit) -> Report {
        let manager = self.shared.manager.clone();
        match self.attempt_claimed(&manager, task, slot).await {
            Ok(report) => report,
            // Cancelled, reassigned or removed in the meantime; the subscription tells.
            Err(error) if is_over(&error) => Report::Over,
            Err(error) => Report::Broken(error),
        }
    }

    async fn attempt_claimed(
        self,
        manager: &MetaManager,
        task: TaskId,
        slot: OwnedSemaphorePermit,
    ) -> Result<Report> {
        let claim = self.record(|| manager.claim_task(task, self.node)).await?;
        let Some(task) = manager.get_task(task)? else { return Ok(Report::Over) };
        let assignment = Assignment::new(self.shared.clone(), Arc::clone(&self.job), task, claim, slot);
        let copied = tokio::select! {
            biased;
            () = self.halt.cancelled() => None,
            copied = self.worker.copy(&assignment) => Some(copied),
        };
        let report = match copied {
            Some(Ok(())) => {
                self.record(|| manager.complete_task(claim)).await?;
                return Ok(Report::Completed);
            }
            Some(Err(failure)) => {
                let reason = short(failure.error.chain());
                match failure.kind {
                    FailureKind::Permanent => self.record(|| manager.fail_task(claim, &reason)).await,
                    _ => self.record(|| manager.release_task(claim, &reason)).await,
                }
                .map(|()| Report::Failed(failure))
            }
            None => manager.release_task(claim, "its run was stopped").await.map(|()| Report::Over),
        };
        assignment.forget_copied();
        report
    }

    /// Repeats what the catalog does not take now, until it does, or has not for long, or the run halts.
    async fn record<T, W: Future<Output = Result<T>>>(&self, mut work: impl FnMut() -> W) -> Result<T> {
        let mut delays = backoff(&self.options);
        let end = Instant::now() + CATALOG_AWAY_MAX;
        loop {
            let error = match work().await {
                Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < end => error,
                result => return result,
            };
            let waiting = short(error.chain());
            // Every task that is under way meets it; one says it for all.
            if self.shared.progress.send_if_modified(|progress| {
                let is_new = progress.waiting != waiting;
                progress.waiting = waiting;
                is_new
            }) {
                tracing::warn!(error = error.chain(), "the catalog was not available, trying again");
            }
            let delay = delays.next().unwrap_or(self.options.retry_delay_max).min(CATALOG_DELAY_MAX);
            tokio::select! {
                () = self.halt.cancelled() => return Err(error),
                () = sleep(delay) => {}
            }
        }
    }
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

fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StaleClaim | ErrorKind::IllegalTransition | ErrorKind::NotFound)
}
