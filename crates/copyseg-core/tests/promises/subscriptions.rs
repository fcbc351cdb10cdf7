//! Subscribers are told every committed change, in order and without a gap, or that they lagged.

use std::collections::BTreeMap;

use copyseg_core::{
    ErrorKind, Event, JobAction, JobFilter, JobId, ManagerOptions, MemoryCatalog, MetaManager, NodeId,
    Revision, Snapshot, Subscription, TaskFilter, TaskId,
};
use rstest::rstest;

use super::{Fixture, TINY, job, open, visible};

/// What a subscriber knows that applies whatever it is told.
struct Follower {
    subscription: Subscription,
    revision: Revision,
    jobs: BTreeMap<JobId, std::sync::Arc<copyseg_core::Job>>,
    tasks: BTreeMap<TaskId, std::sync::Arc<copyseg_core::Task>>,
    lags: usize,
}

impl Follower {
    fn new(meta: &MetaManager) -> Self {
        let subscription = meta.subscribe().unwrap();
        let snapshot = subscription.snapshot().clone();
        let mut follower = Self {
            subscription,
            revision: Revision(0),
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            lags: 0,
        };
        follower.restart(&snapshot);
        follower
    }

    fn restart(&mut self, snapshot: &Snapshot) {
        self.revision = snapshot.revision();
        self.jobs = snapshot.jobs(&JobFilter::new()).map(|job| (job.id, job.clone())).collect();
        self.tasks = snapshot.tasks(&TaskFilter::new()).map(|task| (task.id, task.clone())).collect();
    }

    async fn follow(&mut self, until: Revision) {
        while self.revision < until {
            match self.subscription.next().await.unwrap() {
                Event::Lagged(snapshot) => {
                    assert!(snapshot.revision() > self.revision);
                    self.lags += 1;
                    self.restart(&snapshot);
                }
                Event::Changes(changes) => {
                    assert_eq!(changes.revision, Revision(self.revision.0 + 1), "no gap");
                    self.revision = changes.revision;
                    for (id, job) in changes.jobs.iter().cloned() {
                        self.jobs.remove(&id);
                        self.jobs.extend(job.map(|job| (id, job)));
                    }
                    for (id, task) in changes.tasks.iter().cloned() {
                        self.tasks.remove(&id);
                        self.tasks.extend(task.map(|task| (id, task)));
                    }
                }
            }
        }
    }

    fn assert_knows(&self, snapshot: &Snapshot) {
        let seen = visible(snapshot);
        assert_eq!(self.revision, seen.revision);
        assert!(self.jobs.values().eq(&seen.jobs) && self.tasks.values().eq(&seen.tasks));
    }
}

#[tokio::test]
async fn a_subscriber_that_applies_every_change_knows_what_a_snapshot_shows() {
    let fixture = Fixture::on(MemoryCatalog::with_limits(TINY)).await;
    fixture.add(1, [11, 12]).await;
    let mut early = Follower::new(&fixture.meta);
    fixture.add(2, 20..30).await;
    let mut late = Follower::new(&fixture.meta);
    let claim = fixture.meta.claim_task(TaskId(20), NodeId(5)).await.unwrap();
    fixture.meta.complete_task(claim).await.unwrap();
    fixture.meta.cancel_job(JobId(2), "stop").await.unwrap();
    fixture.meta.remove_task(TaskId(11)).await.unwrap();
    fixture.meta.remove_job(JobId(2)).await.unwrap();
    fixture.meta.allocate_ids(3).await.unwrap();
    fixture.add(2, [31]).await;
    let snapshot = fixture.meta.snapshot().unwrap();
    for follower in [&mut early, &mut late] {
        follower.follow(snapshot.revision()).await;
        follower.assert_knows(&snapshot);
        assert_eq!(follower.lags, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscription_begins_exactly_between_two_revisions_beside_busy_writers() {
    let meta = open(&MemoryCatalog::new()).await;
    let writers = (0..4).map(|id| {
        let meta = meta.clone();
        tokio::spawn(async move {
            meta.add_job(job(id), vec![]).await.unwrap();
            for rows in 0..100 {
                meta.update_job(JobId(id), [JobAction::Rows(rows)]).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut followers = Vec::new();
    for _ in 0..20 {
        followers.push(Follower::new(&meta));
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let snapshot = meta.snapshot().unwrap();
    for follower in &mut followers {
        follower.follow(snapshot.revision()).await;
        follower.assert_knows(&snapshot);
    }
}

#[tokio::test]
async fn a_slow_subscriber_is_told_that_it_lagged_and_goes_on_from_a_fresh_snapshot() {
    let options = ManagerOptions { lag_max: 4, ..ManagerOptions::default() };
    let fixture = Fixture::with(MemoryCatalog::new(), options).await;
    fixture.add(1, [11]).await;
    let mut follower = Follower::new(&fixture.meta);
    for rows in 0..100 {
        fixture.meta.update_job(JobId(1), [JobAction::Rows(rows)]).await.unwrap();
    }
    let snapshot = fixture.meta.snapshot().unwrap();
    follower.follow(snapshot.revision()).await;
    assert_eq!(follower.lags, 1);
    follower.assert_knows(&snapshot);

    fixture.meta.cancel_job(JobId(1), "stop").await.unwrap();
    let snapshot = fixture.meta.snapshot().unwrap();
    follower.follow(snapshot.revision()).await;
    assert_eq!(follower.lags, 1, "once caught up, changes come one by one again");
    follower.assert_knows(&snapshot);
}

#[tokio::test]
async fn a_refused_transaction_is_never_told() {
    let fixture = Fixture::new().await;
    fixture.add(1, []).await;
    let mut follower = Follower::new(&fixture.meta);
    fixture.faults.fail_nth_of(copyseg_conformance::Call::Commit, 0, copyseg_conformance::Fault::Before);
    fixture.meta.update_job(JobId(1), [JobAction::Reason("refused".into())]).await.unwrap_err();
    fixture.meta.update_job(JobId(1), [JobAction::Rows(1)]).await.unwrap();
    let snapshot = fixture.meta.snapshot().unwrap();
    follower.follow(snapshot.revision()).await;
    follower.assert_knows(&snapshot);
}

#[rstest]
#[case::closed(false, ErrorKind::Closed)]
#[case::fenced(true, ErrorKind::Fenced)]
#[tokio::test(start_paused = true)]
async fn a_subscription_ends_with_its_manager_after_everything_it_committed(
    #[case] fence: bool,
    #[case] expected: ErrorKind,
) {
    let fixture = Fixture::new().await;
    let mut subscription = fixture.meta.subscribe().unwrap();
    fixture.add(1, []).await;
    if fence {
        let _second = open(&fixture.store).await;
        fixture.meta.remove_job(JobId(1)).await.unwrap_err();
    } else {
        fixture.meta.close().await.unwrap();
    }
    assert!(matches!(subscription.next().await, Ok(Event::Changes(changes)) if changes.jobs.len() == 1));
    let hour = std::time::Duration::from_secs(3_600);
    let end = tokio::time::timeout(hour, subscription.next()).await.expect("nobody is left waiting");
    assert_eq!(end.unwrap_err().kind(), expected);
}
