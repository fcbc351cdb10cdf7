//! When to remove old history. etcd keeps every version of every key until it is told to let go, and takes no more
//! writes once its space quota is used up.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How much of the past stays readable: long enough for a load, or for a follower that was cut off, to go on.
const KEPT: Duration = Duration::from_secs(300);

/// More history than this is removed earlier: a full quota stops all writes, an interrupted load starts again.
const KEPT_BYTES_MAX: usize = 512 << 20;

/// The past is noted, and removed, in steps.
const STEP: Duration = Duration::from_secs(30);

const STEP_BYTES: usize = 64 << 20;

/// What one writer has written lately.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Oldest first.
    steps: VecDeque<Step>,
}

/// Part of the history: what was written from `start` until the next step.
#[derive(Debug)]
struct Step {
    start: Instant,
    /// The last revision of etcd in it.
    revision: i64,
    bytes: usize,
}

impl History {
    /// Notes a commit of so many bytes; returns the revision up to which history can now go.
    pub(crate) fn note(&mut self, now: Instant, revision: i64, bytes: usize) -> Option<i64> {
        match self.steps.back_mut() {
            Some(step) if now - step.start < STEP && step.bytes < STEP_BYTES => {
                step.revision = step.revision.max(revision);
                step.bytes += bytes;
                return None;
            }
            _ => self.steps.push_back(Step { start: now, revision, bytes }),
        }
        let mut due = None;
        let mut bytes: usize = self.steps.iter().map(|step| step.bytes).sum();
        while let Some(oldest) = self.steps.front() {
            // The step is over when the next one began, so that all of it is at least that old.
            let over = self.steps.get(1).is_some_and(|next| now - next.start >= KEPT);
            if !over && bytes <= KEPT_BYTES_MAX {
                break;
            }
            bytes -= oldest.bytes;
            due = Some(oldest.revision);
            self.steps.pop_front();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_of_history_are_kept() {
        let start = Instant::now();
        let mut history = History::default();
        let mut compacted = 0;
        for second in 0..3600_u32 {
            let now = start + Duration::from_secs(second.into());
            if let Some(due) = history.note(now, second.into(), 1000) {
                compacted = due;
            }
            let kept = i64::from(second) - compacted;
            assert!(kept >= KEPT.as_secs() as i64 || compacted == 0, "{kept} s kept");
            assert!(kept <= (KEPT + 2 * STEP).as_secs() as i64, "{kept} s kept");
        }
        assert!(history.steps.len() <= 12);
    }

    #[test]
    fn fast_writing_keeps_no_more_than_fits() {
        let start = Instant::now();
        let mut history = History::default();
        let mut compacted = 0;
        let mib = 1 << 20;
        for revision in 0..10_000_i64 {
            if let Some(due) = history.note(start, revision, mib) {
                compacted = due;
            }
            assert!((revision - compacted) as usize * mib <= KEPT_BYTES_MAX + 2 * STEP_BYTES);
        }
        assert!(compacted > 9000);
    }

    #[test]
    fn nothing_is_removed_while_nothing_is_old() {
        let start = Instant::now();
        let mut history = History::default();
        for second in 0..KEPT.as_secs() {
            assert_eq!(history.note(start + Duration::from_secs(second), 1, 1), None);
        }
    }
}
