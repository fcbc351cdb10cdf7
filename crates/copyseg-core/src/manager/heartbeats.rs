//! When each worker was last heard of. Kept in memory: after a restart everybody has their whole time again.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::filter::TaskFilter;
use crate::id::TaskId;
use crate::snapshot::Snapshot;
use crate::task::{Claim, TaskState};

pub(super) struct Heartbeats {
    /// The monotonic time of the start, from which claims of an earlier process count.
    start: Duration,
    beats: Mutex<HashMap<TaskId, (Claim, Duration)>>,
}

impl Heartbeats {
    pub(super) fn new(start: Duration) -> Self {
        Self { start, beats: Mutex::default() }
    }

    pub(super) fn beat(&self, claim: Claim, now: Duration) {
        self.beats.lock().insert(claim.task, (claim, now));
    }

    pub(super) fn forget(&self, claim: Claim) {
        self.beats.lock().remove(&claim.task);
    }

    /// The claims in `snapshot` not heard of for `timeout`. Forgets the beats of claims that are over.
    pub(super) fn silent(&self, snapshot: &Snapshot, now: Duration, timeout: Duration) -> Vec<Claim> {
        let running = TaskFilter::new().states([TaskState::InProgress]);
        let claims: Vec<Claim> = snapshot.tasks(&running).filter_map(|task| task.claim()).collect();
        let mut beats = self.beats.lock();
        beats.retain(|task, (claim, _)| snapshot.task(*task).and_then(|task| task.claim()) == Some(*claim));
        let last = |claim: &Claim| beats.get(&claim.task).map_or(self.start, |(_, beat)| *beat);
        claims.into_iter().filter(|claim| now.saturating_sub(last(claim)) >= timeout).collect()
    }
}
