//! Who watches: readers, a subscriber, and followers beside the manager.

use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{ErrorKind, Event, JobFilter, JobState, Subscription, TaskState};
use copyseg_torture::Visible;
use tokio::time::sleep;

use crate::ground::{Actors, Ground, Stage};

pub(crate) fn spawn(ground: &Arc<Ground>, actors: &mut Actors) {
    for _ in 0..2 {
        actors.spawn(read(Arc::clone(ground)));
    }
}

/// Looks at one job after the other: counters are right, and what has ended has ended whole.
async fn read(ground: Arc<Ground>) {
    let mut random = ground.random();
    while ground.stage() != Stage::Over {
        let snapshot = ground.manager.snapshot().unwrap();
        let jobs: Vec<_> = snapshot.jobs(&JobFilter::new()).collect();
        if let Some(job) = random.choice(jobs) {
            let mut counted = [0; TaskState::ALL.len()];
            for task in snapshot.tasks_of_job(job.id) {
                assert_eq!(task.incarnation, job.incarnation);
                assert!(!job.state.is_terminal() || task.state.is_terminal(), "{task:?} of {job:?}");
                counted[task.state as usize] += 1;
            }
            let progress = snapshot.progress(job.id).unwrap();
            assert_eq!(TaskState::ALL.map(|state| progress.tasks.get(state)), counted);
            let copied = progress.segments.get(TaskState::Completed);
            assert!(job.state != JobState::Completed || copied == job.segments, "{job:?}");
        }
        if random.u8(..) == 0 {
            // One of many that come and go.
            drop(ground.manager.subscribe().unwrap());
        }
        ground.count("snapshots read");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Keeps a state by changes alone, until the manager is closed.
pub(crate) async fn subscribe(mut subscription: Subscription) -> Visible {
    let mut seen = Visible::of(subscription.snapshot());
    loop {
        match subscription.next().await {
            Ok(Event::Changes(changes)) => {
                assert!(changes.revision > seen.revision, "changes come in order");
                seen.apply(&changes);
            }
            Ok(Event::Lagged(snapshot)) => seen = Visible::of(&snapshot),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                return seen;
            }
        }
    }
}

/// A follower that lives as long as the load sees in the end what the manager shows.
#[cfg(feature = "etcd-tests")]
pub(crate) async fn follow_all_along(ground: Arc<Ground>, catalog: Arc<dyn copyseg_core::Follow>) {
    let follower = copyseg_core::Follower::open(catalog).await.unwrap();
    let mut seen = follower.snapshot().revision();
    while ground.stage() != Stage::Over {
        let now = follower.snapshot().revision();
        assert!(now >= seen, "a follower never goes back");
        seen = now;
        sleep(Duration::from_millis(20)).await;
    }
    let last = ground.manager.snapshot().unwrap();
    for _ in 0..600 {
        if follower.snapshot().revision() == last.revision() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(Visible::of(&follower.snapshot()), Visible::of(&last), "a follower sees all there is");
}

/// Followers that come, see some changes, and go.
#[cfg(feature = "etcd-tests")]
pub(crate) async fn follow_now_and_then(ground: Arc<Ground>, catalog: Arc<dyn copyseg_core::Follow>) {
    use copyseg_core::Follower;

    let mut random = ground.random();
    while ground.stage() == Stage::Busy {
        let mut follower = ground.ask("followers", || Follower::open(Arc::clone(&catalog))).await.unwrap();
        let mut changes = random.u8(..);
        while changes > 0 && ground.stage() == Stage::Busy {
            // Nothing changes while members are away.
            let _ = tokio::time::timeout(Duration::from_secs(1), follower.changed()).await;
            changes -= 1;
        }
    }
}
