//! Readers and subscribers beside the publication.

use std::sync::Arc;
use std::time::Duration;

use copyseg_shuttle::task::{spawn, yield_now};
use copyseg_shuttle_core::{
    ErrorKind, Event, JobId, Limits, ManagerOptions, ManualClock, MemoryCatalog, MetaManager, NewJob,
    NewTask, NodeId, SegmentId, SegmentPair, Subscription, TaskId, Timestamp,
};
use shuttle::rand::{Rng, thread_rng};

use crate::scenarios;
use crate::store::{Fault, JOB, UNKNOWN, acknowledged, answers, raisers, rows, rows_of, start, start_on};

fn task(id: i64) -> NewTask {
    NewTask { id: Some(TaskId(id)), ..NewTask::new([SegmentPair::new(SegmentId(id), SegmentId(id + 100))]) }
}

/// Every change until the manager ends: one after the other, and each by one more. Answers the last number.
async fn follow(mut subscription: Subscription) -> u64 {
    let mut revision = subscription.snapshot().revision().0;
    let mut number = rows(subscription.snapshot());
    loop {
        match subscription.next().await {
            Ok(Event::Changes(changes)) => {
                assert_eq!(changes.revision.0, revision + 1, "without a gap");
                revision += 1;
                let job = changes.jobs.iter().find(|(id, _)| *id == JOB).and_then(|(_, job)| job.clone());
                assert_eq!(rows_of(&job.unwrap()), number + 1);
                number += 1;
            }
            Ok(Event::Lagged(snapshot)) => {
                assert!(snapshot.revision().0 >= revision, "it goes on, not back");
                (revision, number) = (snapshot.revision().0, rows(&snapshot));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                return number;
            }
        }
    }
}

async fn subscribe_while_writing(options: ManagerOptions) {
    let (store, manager) = start(options).await;
    store.fail(
        thread_rng().gen_range(0..3),
        [Fault::Refused, Fault::AnswerLost][thread_rng().gen_range(0..2)],
    );
    let callers = raisers(&manager, 4);
    let subscribers: Vec<_> = (0..2)
        .map(|_| {
            let manager = manager.clone();
            spawn(async move {
                // It ends when the manager was closed, and may begin before or after that.
                match manager.subscribe() {
                    Ok(subscription) => Some(follow(subscription).await),
                    Err(_) => None,
                }
            })
        })
        .collect();
    let early = manager.subscribe().unwrap();
    let count = acknowledged(&answers(callers).await, &[ErrorKind::Unavailable]);
    manager.close().await.unwrap();
    for subscriber in subscribers {
        assert!(subscriber.await.unwrap().is_none_or(|last| last == count));
    }
    assert_eq!(follow(early).await, count);
}

scenarios! {
    async fn a_reader_never_sees_what_storage_does_not_have() {
        let (store, manager) = start(ManagerOptions::default()).await;
        let faults = [Fault::Refused, UNKNOWN[thread_rng().gen_range(0..3)]];
        store.fail(thread_rng().gen_range(0..2), faults[thread_rng().gen_range(0..2)]);
        let writers = raisers(&manager, 3);
        let (reading, storage) = (manager.clone(), store.clone());
        let reader = spawn(async move {
            let mut before = 0;
            for _ in 0..4 {
                let seen = rows(&reading.snapshot().unwrap());
                assert!(seen >= before, "it goes on, not back");
                assert!(storage.stored_rows().await >= seen);
                before = seen;
            }
        });
        let count = acknowledged(&answers(writers).await, &[ErrorKind::Unavailable]);
        reader.await.unwrap();
        store.assert_rows(&manager, count).await;
    }

    async fn a_subscription_taken_during_a_publication_misses_nothing() {
        subscribe_while_writing(ManagerOptions::default()).await;
    }

    async fn a_subscriber_that_lags_goes_on_from_a_state_and_misses_nothing_after_it() {
        subscribe_while_writing(ManagerOptions { lag_max: 1, ..ManagerOptions::default() }).await;
    }

    /// Were the claim visible before its first heartbeat, it would look silent since the start of the manager.
    async fn a_claim_is_never_seen_without_its_first_heartbeat() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let options = ManagerOptions { clock: Arc::new(clock.clone()), ..ManagerOptions::default() };
        let (_store, manager) = start(options).await;
        manager.add_job(NewJob { id: Some(JobId(2)), ..NewJob::default() }, vec![task(1), task(2)]).await.unwrap();
        clock.advance(Duration::from_secs(3600));
        let reading = manager.clone();
        let reader = spawn(async move {
            for _ in 0..4 {
                assert_eq!(reading.silent_claims(Duration::from_secs(60)).unwrap(), []);
                yield_now().await;
            }
        });
        let claims = [1, 2].map(|id| {
            let manager = manager.clone();
            spawn(async move {
                let claim = manager.claim_task(TaskId(id), NodeId(1)).await.unwrap();
                manager.heartbeat(claim).unwrap();
                manager.complete_task(claim).await.unwrap();
                assert_eq!(manager.heartbeat(claim).unwrap_err().kind(), ErrorKind::StaleClaim);
            })
        });
        for claim in claims {
            claim.await.unwrap();
        }
        reader.await.unwrap();
    }

    async fn a_job_of_several_batches_appears_whole_and_once() {
        let limits = Limits { operations_max: 4, bytes_max: 128 << 10, commits_max: 1 };
        let (store, manager) = start_on(MemoryCatalog::with_limits(limits), ManagerOptions::default()).await;
        let faults = [Fault::Refused, UNKNOWN[thread_rng().gen_range(0..3)]];
        store.fail(thread_rng().gen_range(0..5), faults[thread_rng().gen_range(0..2)]);
        let add = |manager: MetaManager| async move {
            let job = NewJob { id: Some(JobId(2)), ..NewJob::default() };
            manager.add_job(job, (1..=7).map(task).collect()).await.map_err(|error| error.kind())
        };
        let adders = [spawn(add(manager.clone())), spawn(add(manager.clone()))];
        let writers = raisers(&manager, 1);
        let reading = manager.clone();
        let reader = spawn(async move {
            for _ in 0..4 {
                let snapshot = reading.snapshot().unwrap();
                let expected = if snapshot.job(JobId(2)).is_some() { 7 } else { 0 };
                assert_eq!(snapshot.tasks_of_job(JobId(2)).count(), expected);
                yield_now().await;
            }
        });
        let mut added = 0;
        for adder in adders {
            match adder.await.unwrap() {
                Ok(_) => added += 1,
                Err(ErrorKind::AlreadyExists { .. } | ErrorKind::Unavailable) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        reader.await.unwrap();
        let count = acknowledged(&answers(writers).await, &[ErrorKind::Unavailable]);
        store.assert_rows(&manager, count).await;
        let (shown, stored) = (manager.snapshot().unwrap(), store.stored().await);
        assert!(added <= 1);
        for snapshot in [shown, stored] {
            assert_eq!(snapshot.job(JobId(2)).is_some(), added == 1);
            assert_eq!(snapshot.tasks_of_job(JobId(2)).count(), 7 * added);
        }
    }
}
