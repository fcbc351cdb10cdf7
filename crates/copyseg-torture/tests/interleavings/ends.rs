//! Managers that end while callers wait: closed, fenced, dropped, cut off.

use std::sync::atomic::{AtomicBool, Ordering};

use copyseg_shuttle::task::{spawn, yield_now};
use copyseg_shuttle::time::run_out_of_patience;
use copyseg_shuttle_core::{Catalog, ErrorKind, JobAction, ManagerOptions, Txn};
use futures::poll;
use shuttle::rand::{Rng, thread_rng};

use crate::scenarios;
use crate::store::{Fault, JOB, UNKNOWN, acknowledged, answers, raise, raisers, start};

scenarios! {
    async fn a_close_writes_what_was_accepted_and_answers_everybody() {
        let options = ManagerOptions { queue_max: thread_rng().gen_range(1..4), ..ManagerOptions::default() };
        let (store, manager) = start(options).await;
        let callers = raisers(&manager, 3);
        let closes: Vec<_> = (0..2).map(|_| {
            let (store, manager) = (store.clone(), manager.clone());
            spawn(async move {
                manager.close().await.unwrap();
                store.stored_rows().await
            })
        }).collect();
        let count = acknowledged(&answers(callers).await, &[ErrorKind::Closed]);
        for close in closes {
            assert_eq!(close.await.unwrap(), count, "nothing is written after a close");
        }
        assert_eq!(manager.snapshot().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(store.stored_rows().await, count);
    }

    /// Who is told that it is unknown may find it either way; nobody else may.
    async fn a_close_during_an_unknown_outcome_guesses_nothing() {
        let (store, manager) = start(ManagerOptions::default()).await;
        store.fail(0, UNKNOWN[thread_rng().gen_range(0..3)]);
        store.fail(1, UNKNOWN[thread_rng().gen_range(0..3)]);
        let callers = raisers(&manager, 3);
        let closing = manager.clone();
        let close = spawn(async move { closing.close().await });
        let answers = answers(callers).await;
        close.await.unwrap().unwrap();
        let count = acknowledged(&answers, &[ErrorKind::Closed, ErrorKind::OutcomeUnknown]);
        let unknown = answers.iter().filter(|answer| **answer == Err(ErrorKind::OutcomeUnknown)).count() as u64;
        let stored = store.stored_rows().await;
        assert!((count..=count + unknown).contains(&stored), "{stored}: {answers:?}");
    }

    async fn a_fenced_manager_answers_everybody_and_writes_nothing_more() {
        let (store, manager) = start(ManagerOptions::default()).await;
        let callers = raisers(&manager, 3);
        let successor = store.open(ManagerOptions::default()).await;
        let first = raise(successor.clone()).await.unwrap();
        let answers = answers(callers).await;
        let count = acknowledged(&answers, &[ErrorKind::Fenced]);
        assert_eq!(first, count + 1, "what was acknowledged was there when the successor opened: {answers:?}");
        assert_eq!(raise(manager.clone()).await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(manager.snapshot().unwrap_err().kind(), ErrorKind::Fenced);
        store.assert_rows(&successor, first).await;
    }

    async fn a_manager_fenced_during_an_unknown_outcome_guesses_nothing() {
        let (store, manager) = start(ManagerOptions::default()).await;
        store.fail(0, UNKNOWN[thread_rng().gen_range(0..3)]);
        let callers = raisers(&manager, 2);
        let successor = store.open(ManagerOptions::default()).await;
        let first = raise(successor.clone()).await.unwrap();
        let answers = answers(callers).await;
        let count = acknowledged(&answers, &[ErrorKind::Fenced, ErrorKind::OutcomeUnknown]);
        let unknown = answers.iter().filter(|answer| **answer == Err(ErrorKind::OutcomeUnknown)).count() as u64;
        assert!((count + 1..=count + unknown + 1).contains(&first), "{first}: {answers:?}");
        store.assert_rows(&successor, first).await;
    }

    async fn an_idle_manager_that_was_fenced_finds_out() {
        let (store, manager) = start(ManagerOptions::default()).await;
        let _successor = store.open(ManagerOptions::default()).await;
        while manager.snapshot().is_ok() {
            run_out_of_patience();
            yield_now().await;
        }
        assert_eq!(manager.snapshot().unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(raise(manager).await.unwrap_err().kind(), ErrorKind::Fenced);
    }

    /// Looking at the head must not take the turn of the work that comes at that moment.
    async fn a_look_at_the_head_hinders_no_work() {
        let (store, manager) = start(ManagerOptions::default()).await;
        let impatient = spawn(async {
            for _ in 0..4 {
                run_out_of_patience();
                yield_now().await;
            }
        });
        let count = acknowledged(&answers(raisers(&manager, 3)).await, &[]);
        impatient.await.unwrap();
        store.assert_rows(&manager, count).await;
    }

    async fn a_last_handle_that_is_dropped_leaves_what_was_accepted_to_be_written() {
        let (store, manager) = start(ManagerOptions::default()).await;
        let accepted = AtomicBool::new(false);
        let mut caller = Box::pin(async {
            let raised = |txn: &mut Txn<'_>| {
                accepted.store(true, Ordering::Relaxed);
                txn.update_job(JOB, [JobAction::Rows(1)])
            };
            { manager }.transact(raised).await
        });
        // It may have to wait for its turn, and does not come to it then.
        if poll!(&mut caller).is_ready() || !accepted.load(Ordering::Relaxed) {
            return;
        }
        drop(caller);
        while store.stored_rows().await == 0 {
            yield_now().await;
        }
    }

    async fn a_catalog_closed_behind_the_manager_leaves_nobody_waiting() {
        let (store, manager) = start(ManagerOptions::default()).await;
        if thread_rng().gen_range(0..2) == 0 {
            store.fail(0, Fault::Lost);
        }
        let callers = raisers(&manager, 3);
        let closing = store.clone();
        let close = spawn(async move { closing.close().await });
        let answers = answers(callers).await;
        close.await.unwrap().unwrap();
        let count = acknowledged(&answers, &[ErrorKind::Closed, ErrorKind::OutcomeUnknown]);
        assert_eq!(store.stored_rows().await, count, "a lost commit is in no state: {answers:?}");
        manager.close().await.unwrap();
    }
}
