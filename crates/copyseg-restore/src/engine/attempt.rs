//! One attempt at one task: claim it, let the worker copy, and report.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Claim, Error, ErrorKind, Job, MetaManager, NodeId, Result, TaskId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::group::{Group, Member};
use super::{patience, short};
use crate::failure::{Failure, FailureKind};
use crate::request::RestoreOptions;
use crate::worker::{Assignment, Shared, Worker};

/// How long a task that is copied may wait to be recorded with others. If the process is killed meanwhile, it is copied
/// again.
const REPORT_DELAY_MAX: Duration = Duration::from_millis(500);

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
    pub(super) group: Arc<Group>,
    /// Cancelled when the run needs no more of them.
    pub(super) halt: CancellationToken,
}

impl Attempts {
    /// Makes one attempt, and drops `ahead` when it begins to copy. Once the task is claimed, the claim is reported on or
    /// given back.
    pub(super) async fn attempt(self, task: TaskId, ahead: OwnedSemaphorePermit) -> Report {
        let manager = self.shared.manager.clone();
        let member = self.group.join();
        match self.attempt_claimed(&manager, task, ahead, member).await {
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
        ahead: OwnedSemaphorePermit,
        member: Member,
    ) -> Result<Report> {
        if self.halt.is_cancelled() {
            return Ok(Report::Over);
        }
        let claim = self.record(|| manager.claim_task(task, self.node)).await?;
        let Some(task) = manager.get_task(task)? else { return Ok(Report::Over) };
        let assignment = Assignment::new(self.shared.clone(), Arc::clone(&self.job), task, claim);
        let copy = async {
            assignment.wait_to_begin().await;
            drop(ahead);
            let copied = self.worker.copy(&assignment).await;
            assignment.leave_slots();
            copied.map(|()| member)
        };
        let copied = tokio::select! {
            biased;
            () = self.halt.cancelled() => None,
            lost = self.lost(claim) => return lost.map(|()| Report::Over),
            copied = copy => Some(copied),
        };
        let report = assignment.beating(self.report(claim, copied)).await?;
        if matches!(report, Report::Completed) {
            assignment.keep_copied();
        }
        Ok(report)
    }

    /// Records what became of the attempt, or gives back the task of one that was stopped.
    async fn report(&self, claim: Claim, copied: Option<Result<Member, Failure>>) -> Result<Report> {
        let manager = &self.shared.manager;
        match copied {
            Some(Ok(member)) => {
                tokio::select! {
                    () = self.halt.cancelled() => {}
                    () = member.wait(REPORT_DELAY_MAX.min(self.shared.beat_interval)) => {}
                }
                self.record(|| manager.complete_task(claim)).await.map(|()| Report::Completed)
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
        }
    }

    /// Ends when somebody else has given the task back or removed it, which a worker that hangs would not learn.
    async fn lost(&self, claim: Claim) -> Result<()> {
        let manager = &self.shared.manager;
        while manager.get_task(claim.task)?.and_then(|task| task.claim()) == Some(claim) {
            sleep(self.shared.beat_interval).await;
        }
        Ok(())
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
