//! One attempt at one task: claim it, let the worker copy, and report.

use std::sync::Arc;

use copyseg_core::{Error, ErrorKind, Job, MetaManager, NodeId, Result, TaskId};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{patience, short};
use crate::failure::{Failure, FailureKind};
use crate::request::RestoreOptions;
use crate::worker::{Assignment, Shared, Worker};

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
                    FailureKind::Transient => self.record(|| manager.release_task(claim, &reason)).await,
                    // It ends the run now, also if the catalog is blocked with it; the next run takes the task back.
                    FailureKind::Blocked => match manager.release_task(claim, &reason).await {
                        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
                        released => released,
                    },
                }
                .map(|()| Report::Failed(failure))
            }
            None => manager.release_task(claim, "its run was stopped").await.map(|()| Report::Over),
        };
        assignment.forget_copied();
        report
    }

    /// Repeats what the catalog does not take now: see [`patience::record`].
    pub(super) async fn record<T, W: Future<Output = Result<T>>>(
        &self,
        work: impl FnMut() -> W,
    ) -> Result<T> {
        patience::record(&self.options, &self.shared.progress, &self.halt, work).await
    }
}

fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StaleClaim | ErrorKind::IllegalTransition | ErrorKind::NotFound)
}
