//! Reports in groups: small tasks are done far more often than a catalog can commit, and share its commits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// No group waits for more than this: a commit is worth its time by then.
const GROUP_MAX: usize = 64;

/// Attempts, some of which are done and wait to be recorded with others.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: Mutex<Members>,
    departure: Notify,
}

#[derive(Debug, Default)]
struct Members {
    /// Those that may still come, and those that have.
    all: usize,
    waiting: usize,
}

/// An attempt that others wait for, until it is dropped or waits itself.
#[derive(Debug)]
pub(super) struct Member {
    group: Arc<Group>,
    waits: bool,
}

impl Group {
    pub(super) fn join(self: &Arc<Self>) -> Member {
        self.members.lock().all += 1;
        Member { group: Arc::clone(self), waits: false }
    }

    fn depart(&self, members: &mut Members) {
        members.all -= members.waiting;
        members.waiting = 0;
        self.departure.notify_waiters();
    }

    fn depart_if_complete(&self, members: &mut Members) {
        if members.waiting >= GROUP_MAX.min(members.all) {
            self.depart(members);
        }
    }
}

impl Member {
    /// Waits for others, for `patience` at most. Ends at the same moment for all of them.
    pub(super) async fn wait(mut self, patience: Duration) {
        self.waits = true;
        let group = &self.group;
        let mut departure = pin!(group.departure.notified());
        departure.as_mut().enable();
        {
            let mut members = group.members.lock();
            members.waiting += 1;
            group.depart_if_complete(&mut members);
        }
        if timeout(patience, departure).await.is_err() {
            group.depart(&mut group.members.lock());
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.waits {
            let mut members = self.group.members.lock();
            members.all -= 1;
            self.group.depart_if_complete(&mut members);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// How long this took by the paused clock, which moves on only when every task waits for it.
    async fn time_of(waiting: impl Future) -> Duration {
        let start = Instant::now();
        let _ = timeout(2 * LONG, waiting).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_those_who_will_not_come() {
        let group = Arc::new(Group::default());
        let [first, second, failing] = [(); 3].map(|()| group.join());
        let mut first = pin!(first.wait(LONG));
        assert!(futures::poll!(&mut first).is_pending());
        drop(failing);
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(time_of(second.wait(LONG)).await, Duration::ZERO);
        assert_eq!(time_of(first).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_group_leaves_without_the_others() {
        let group = Arc::new(Group::default());
        let _late = group.join();
        let members: Vec<_> = (0..GROUP_MAX).map(|_| group.join()).collect();
        let all = join_all(members.into_iter().map(|member| member.wait(LONG)));
        assert_eq!(time_of(all).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_with_the_others_ends() {
        let group = Arc::new(Group::default());
        let (patient, slow) = (group.join(), group.join());
        let patience = Duration::from_millis(100);
        assert_eq!(time_of(patient.wait(patience)).await, patience);
        assert_eq!(time_of(slow.wait(LONG)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_while_it_waits_keeps_nobody() {
        let group = Arc::new(Group::default());
        let (first, second) = (group.join(), group.join());
        {
            let mut first = pin!(first.wait(LONG));
            assert!(futures::poll!(&mut first).is_pending());
        }
        assert_eq!(time_of(second.wait(LONG)).await, Duration::ZERO);
    }
}
