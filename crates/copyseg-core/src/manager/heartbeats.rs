//! When each worker was last heard of. Kept in memory: after a restart everybody has their whole time again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::queue::Work;
use crate::error::Result;
use crate::filter::TaskFilter;
use crate::id::TaskId;
use crate::snapshot::Snapshot;
use crate::task::{Claim, Task, TaskState};
use crate::txn::{check_claim, stale};

/// The published state changes under the same lock as the beats, so that no claim is ever without its first beat,
/// and none is kept of a claim that is over.
pub(super) struct Heartbeats {
    /// The monotonic time of the start, from which claims of an earlier process count.
    start: Duration,
    beats: Mutex<HashMap<TaskId, Duration>>,
}

impl Heartbeats {
    pub(super) fn new(start: Duration) -> Self {
        Self { start, beats: Mutex::default() }
    }

    /// Publishes `state`. Every claim that came into being with `works` has its first beat; they are in the order in which
    /// they were accepted.
    pub(super) fn publish<'a>(
        &self,
        published: &ArcSwap<Snapshot>,
        state: Snapshot,
        works: impl IntoIterator<Item = &'a Work>,
        now: Duration,
    ) {
        let mut beats = self.beats.lock();
        for work in works {
            beats.extend(work.claimed.iter().map(|id| (*id, now)));
            let changed = work.changes.iter().flat_map(|changes| &changes.tasks);
            let is_claimed = |task: &Arc<Task>| task.claim().is_some();
            for (id, _) in changed.filter(|(_, task)| !task.as_ref().is_some_and(is_claimed)) {
                beats.remove(id);
            }
        }
        published.store(Arc::new(state));
    }

    /// Notes that the worker with `claim` is alive, unless the attempt is over.
    pub(super) fn beat(&self, published: &ArcSwap<Snapshot>, claim: Claim, now: Duration) -> Result<()> {
        let mut beats = self.beats.lock();
        let state = published.load();
        let task = check_claim(&state, claim)?;
        if task.state != TaskState::InProgress {
            return Err(stale(claim, &format!("the task is {}", task.state)));
        }
        beats.insert(claim.task, now);
        Ok(())
    }

    /// The claims not heard of for `timeout`, in the order of their tasks.
    pub(super) fn silent(
        &self,
        published: &ArcSwap<Snapshot>,
        now: Duration,
        timeout: Duration,
    ) -> Vec<Claim> {
        let beats = self.beats.lock();
        let running = TaskFilter::new().states([TaskState::InProgress]);
        let last = |claim: &Claim| beats.get(&claim.task).copied().unwrap_or(self.start);
        let state = published.load();
        let claims = state.tasks(&running).filter_map(|task| task.claim());
        claims.filter(|claim| now.saturating_sub(last(claim)) >= timeout).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use crate::id::{JobId, NodeId, TaskId};
    use crate::job::NewJob;
    use crate::task::NewTask;
    use crate::{ManagerOptions, MemoryCatalog, MetaManager};

    #[rstest]
    #[tokio::test]
    async fn no_beat_is_kept_of_a_claim_that_is_over(#[values(true, false)] at_once: bool) {
        let manager =
            MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await.unwrap();
        let job = NewJob { id: Some(JobId(1)), ..NewJob::default() };
        let task = NewTask { id: Some(TaskId(11)), ..NewTask::new([]) };
        manager.add_job(job, vec![task]).await.unwrap();
        let beats = || manager.shared.heartbeats.beats.lock().len();
        if at_once {
            let both = manager.transact(|txn| {
                let claim = txn.claim_task(TaskId(11), NodeId(5))?;
                txn.release_task(claim, "")
            });
            both.await.unwrap();
        } else {
            let claim = manager.claim_task(TaskId(11), NodeId(5)).await.unwrap();
            assert_eq!(beats(), 1);
            manager.release_task(claim, "").await.unwrap();
        }
        assert_eq!(beats(), 0);
    }
}
