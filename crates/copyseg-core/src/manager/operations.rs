//! The operations of the meta manager: reads of the newest committed state, and transactions of one step.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::MetaManager;
use crate::action::{JobAction, TaskAction};
use crate::catalog::RecordKey;
use crate::error::Result;
use crate::filter::{JobFilter, TaskFilter};
use crate::id::{CollectionId, JobId, NodeId, TaskId};
use crate::job::Job;
use crate::task::{Claim, NewTask, Task, TaskState};
use crate::wire::RECORD_BYTES_MAX;

/// Jobs. Errors are those of the [`Txn`](crate::Txn) operation of the same name and of
/// [`transact`](MetaManager::transact).
impl MetaManager {
    /// Applies `actions` to a job, in order, all or none, and returns it as it is then.
    pub async fn update_job(
        &self,
        id: JobId,
        actions: impl IntoIterator<Item = JobAction>,
    ) -> Result<Arc<Job>> {
        self.transact(|txn| txn.update_job(id, actions)).await
    }

    /// The job with this id; `None` if there is none.
    pub fn get_job(&self, id: JobId) -> Result<Option<Arc<Job>>> {
        Ok(self.read()?.job(id).cloned())
    }

    /// The jobs that `filter` leaves, in id order. Gathers them all; [`Snapshot::jobs`](crate::Snapshot::jobs) passes over them.
    pub fn list_jobs(&self, filter: &JobFilter) -> Result<Vec<Arc<Job>>> {
        Ok(self.read()?.jobs(filter).cloned().collect())
    }

    /// How many jobs `filter` leaves.
    pub fn count_jobs(&self, filter: &JobFilter) -> Result<usize> {
        Ok(self.read()?.count_jobs(filter))
    }

    /// Removes a job with its tasks, of any number, and says whether it was there. Visits every task while other changes wait.
    pub async fn remove_job(&self, id: JobId) -> Result<bool> {
        self.transact(|txn| txn.remove_job(id)).await
    }

    /// Cancels a job and its open tasks; cancelling it again is fine. Visits every task while other changes wait.
    pub async fn cancel_job(&self, id: JobId, reason: &str) -> Result<Arc<Job>> {
        self.transact(|txn| txn.cancel_job(id, reason)).await
    }

    /// Fails a job and its open tasks; failing it again is fine. Visits every task while other changes wait.
    pub async fn fail_job(&self, id: JobId, reason: &str) -> Result<Arc<Job>> {
        self.transact(|txn| txn.fail_job(id, reason)).await
    }
}

/// Tasks. Errors are those of the [`Txn`](crate::Txn) operation of the same name and of
/// [`transact`](MetaManager::transact).
impl MetaManager {
    /// Adds a task to an active job.
    pub async fn add_task(&self, job: JobId, task: NewTask) -> Result<TaskId> {
        self.transact(|txn| txn.add_task(job, task)).await
    }

    /// Applies `actions` to a task, in order, all or none, and returns it as it is then.
    pub async fn update_task(
        &self,
        id: TaskId,
        actions: impl IntoIterator<Item = TaskAction>,
    ) -> Result<Arc<Task>> {
        self.transact(|txn| txn.update_task(id, actions)).await
    }

    /// The task with this id; `None` if there is none.
    pub fn get_task(&self, id: TaskId) -> Result<Option<Arc<Task>>> {
        Ok(self.read()?.task(id).cloned())
    }

    /// The tasks that `filter` leaves, in id order. Gathers them all; [`Snapshot::tasks`](crate::Snapshot::tasks) passes over them.
    pub fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<Arc<Task>>> {
        Ok(self.read()?.tasks(filter).cloned().collect())
    }

    /// How many tasks `filter` leaves.
    pub fn count_tasks(&self, filter: &TaskFilter) -> Result<usize> {
        Ok(self.read()?.count_tasks(filter))
    }

    /// The tasks of one job, in id order. Gathers them all;
    /// [`Snapshot::tasks_of_job`](crate::Snapshot::tasks_of_job) passes over them.
    pub fn tasks_of_job(&self, id: JobId) -> Result<Vec<Arc<Task>>> {
        Ok(self.read()?.tasks_of_job(id).cloned().collect())
    }

    /// The tasks of one collection, in id order. Gathers them all;
    /// [`Snapshot::tasks_of_collection`](crate::Snapshot::tasks_of_collection) passes over them.
    pub fn tasks_of_collection(&self, id: CollectionId) -> Result<Vec<Arc<Task>>> {
        Ok(self.read()?.tasks_of_collection(id).cloned().collect())
    }

    /// Removes a task and says whether it was there.
    pub async fn remove_task(&self, id: TaskId) -> Result<bool> {
        self.transact(|txn| txn.remove_task(id)).await
    }
}

/// Dispatch. Errors are those of the [`Txn`](crate::Txn) operation of the same name and of
/// [`transact`](MetaManager::transact).
impl MetaManager {
    /// Gives a pending task to a worker. The claim counts as its first heartbeat.
    pub async fn claim_task(&self, id: TaskId, node: NodeId) -> Result<Claim> {
        self.transact(|txn| txn.claim_task(id, node)).await
    }

    /// Reports that the task's segments are copied and durable.
    pub async fn complete_task(&self, claim: Claim) -> Result<()> {
        self.transact(|txn| txn.complete_task(claim)).await
    }

    /// Reports that the task cannot be done.
    pub async fn fail_task(&self, claim: Claim, reason: &str) -> Result<()> {
        self.transact(|txn| txn.fail_task(claim, reason)).await
    }

    /// Gives the task back for a later attempt; `reason` says why it waits.
    pub async fn release_task(&self, claim: Claim, reason: &str) -> Result<()> {
        self.transact(|txn| txn.release_task(claim, reason)).await
    }

    /// Says that the worker with this claim is alive. Costs no write: heartbeats live in memory, and after a
    /// restart every claim has its whole time again.
    ///
    /// # Errors
    /// [`StaleClaim`](crate::ErrorKind::StaleClaim) if the attempt is over: stop working on the task.
    /// [`SetAside`](crate::ErrorKind::SetAside) if the task's record was.
    pub fn heartbeat(&self, claim: Claim) -> Result<()> {
        let shared = &self.shared;
        shared.check_running()?;
        shared.heartbeats.beat(&shared.published, claim, shared.options.clock.monotonic())
    }

    /// The claims whose worker was not heard of for `timeout`, to be released. Visits every task in progress.
    pub fn silent_claims(&self, timeout: Duration) -> Result<Vec<Claim>> {
        let shared = &self.shared;
        shared.check_running()?;
        Ok(shared.heartbeats.silent(&shared.published, shared.options.clock.monotonic(), timeout))
    }

    /// Gives back every task that a lost worker has, of any number, and says how many there were. What the
    /// worker still reports is refused from then on.
    ///
    /// Many tasks take several transactions: after an error some may have been given back. Repeat it.
    pub async fn reassign_node(&self, node: NodeId, reason: &str) -> Result<usize> {
        let running = TaskFilter::new().node(node).states([TaskState::InProgress]);
        // One batch of this many tasks is sure to fit.
        let limits = self.shared.limits;
        let batch_max = limits.operations_max.min(limits.bytes_max / RECORD_BYTES_MAX).clamp(1, 256);
        let mut reassigned = 0;
        loop {
            let released = self
                .transact(|txn| {
                    let claims: Vec<Claim> = txn
                        .snapshot()
                        .tasks(&running)
                        .filter_map(|task| task.claim())
                        .take(batch_max)
                        .collect();
                    claims.iter().try_for_each(|claim| txn.release_task(*claim, reason))?;
                    Ok(claims.len())
                })
                .await?;
            reassigned += released;
            if released < batch_max {
                return Ok(reassigned);
            }
        }
    }
}

/// Ids, and records that were set aside. Errors are those of the [`Txn`](crate::Txn) operation of the same name and of
/// [`transact`](MetaManager::transact).
impl MetaManager {
    /// Takes `count` ids from the durable counter, for jobs, tasks or target segments; none is given out twice.
    pub async fn allocate_ids(&self, count: u64) -> Result<Range<i64>> {
        self.transact(|txn| txn.allocate_ids(count)).await
    }

    /// Removes a record that was set aside from storage, for good, and says whether it was there.
    pub async fn drop_set_aside(&self, key: RecordKey) -> Result<bool> {
        self.transact(|txn| Ok(txn.drop_set_aside(key))).await
    }
}
