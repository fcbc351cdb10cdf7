//! When each worker was last heard of. Kept in memory: after a restart everybody has their whole time again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::Changes;
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

    /// Publishes `state`. Every claim that came into being with `changes` has its first beat.
    pub(super) fn publish(
        &self,
        published: &ArcSwap<Snapshot>,
        state: Snapshot,
        changes: &[Arc<Changes>],
        now: Duration,
    ) {
        let mut beats = self.beats.lock();
        let before = published.load();
        for (id, task) in changes.iter().flat_map(|changes| &changes.tasks) {
            let claim = |task: &Arc<Task>| task.claim();
            match task.as_ref().and_then(claim) {
                Some(new) if before.task(*id).and_then(claim) != Some(new) => drop(beats.insert(*id, now)),
                Some(_) => {}
                None => drop(beats.remove(id)),
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
