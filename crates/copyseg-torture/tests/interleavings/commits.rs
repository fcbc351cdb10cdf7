//! Transactions that meet in the queue, and commits that fail.

use copyseg_shuttle::task::{spawn, yield_now};
use copyseg_shuttle_core::{ErrorKind, ManagerOptions, MetaManager, Result};
use shuttle::rand::{Rng, thread_rng};

use crate::scenarios;
use crate::store::{Fault, UNKNOWN, acknowledged, answers, raise, raisers, rows, start};

scenarios! {
    async fn an_acknowledged_change_is_durable_and_visible() {
        let (store, manager) = start(ManagerOptions::default()).await;
        let callers: Vec<_> = (0..3).map(|_| {
            let (store, manager) = (store.clone(), manager.clone());
            spawn(async move {
                let number = raise(manager.clone()).await.unwrap();
                assert!(rows(&manager.snapshot().unwrap()) >= number);
                assert!(store.stored_rows().await >= number);
            })
        }).collect();
        for caller in callers {
            caller.await.unwrap();
        }
        store.assert_rows(&manager, 3).await;
    }

    async fn a_refused_batch_takes_with_it_all_that_was_built_on_it_and_nothing_else() {
        let (store, manager) = start(ManagerOptions::default()).await;
        store.fail(thread_rng().gen_range(0..2), Fault::Refused);
        let answers = answers(raisers(&manager, 4)).await;
        let count = acknowledged(&answers, &[ErrorKind::Unavailable]);
        store.assert_rows(&manager, count).await;
        store.heal();
        raise(manager.clone()).await.unwrap();
        store.assert_rows(&manager, count + 1).await;
    }

    async fn an_unknown_outcome_is_settled_and_what_is_behind_it_follows() {
        let (store, manager) = start(ManagerOptions::default()).await;
        for commit in 0..2 {
            store.fail(commit, UNKNOWN[thread_rng().gen_range(0..3)]);
        }
        let answers = answers(raisers(&manager, 3)).await;
        assert_eq!(acknowledged(&answers, &[]), 3);
        store.assert_rows(&manager, 3).await;
    }

    async fn a_settled_outcome_after_which_one_is_refused_loses_and_doubles_nothing() {
        let (store, manager) = start(ManagerOptions::default()).await;
        store.fail(0, UNKNOWN[thread_rng().gen_range(0..3)]);
        store.fail(thread_rng().gen_range(1..3), Fault::Refused);
        let answers = answers(raisers(&manager, 3)).await;
        let count = acknowledged(&answers, &[ErrorKind::Unavailable]);
        store.assert_rows(&manager, count).await;
    }

    /// A closure that writes nothing sees accepted state, and is answered when that is durable, or refused.
    async fn nobody_is_told_of_a_state_that_did_not_last() {
        let (store, manager) = start(ManagerOptions::default()).await;
        store.fail(thread_rng().gen_range(0..2), Fault::Refused);
        let writers = raisers(&manager, 2);
        let look = |manager: MetaManager| async move {
            manager.transact(|txn| Ok(rows(txn.snapshot()))).await
        };
        let readers: Vec<_> = (0..2).map(|_| {
            let (store, looking) = (store.clone(), look(manager.clone()));
            spawn(async move {
                let seen: Result<u64> = looking.await;
                match seen {
                    Ok(seen) => assert!(store.stored_rows().await >= seen),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                }
            })
        }).collect();
        let count = acknowledged(&answers(writers).await, &[ErrorKind::Unavailable]);
        for reader in readers {
            reader.await.unwrap();
        }
        store.assert_rows(&manager, count).await;
    }

    async fn a_caller_that_is_gone_has_changed_all_or_nothing_and_hinders_nobody() {
        let options = ManagerOptions { queue_max: thread_rng().gen_range(1..3), ..ManagerOptions::default() };
        let (store, manager) = start(options).await;
        let gone = spawn(raise(manager.clone()));
        let others = raisers(&manager, 2);
        for _ in 0..thread_rng().gen_range(0..8) {
            yield_now().await;
        }
        gone.abort();
        let told = matches!(gone.await, Ok(Ok(_)));
        assert_eq!(acknowledged(&answers(others).await, &[]), 2);
        // What was accepted before is durable when this is.
        let last = raise(manager.clone()).await.unwrap();
        assert!(last == 4 || last == 3 && !told, "{last}, told: {told}");
        store.assert_rows(&manager, last).await;
    }

    async fn a_full_queue_lets_everybody_have_their_turn() {
        let (store, manager) = start(ManagerOptions { queue_max: 1, ..ManagerOptions::default() }).await;
        store.fail(1, Fault::Lost);
        let answers = answers(raisers(&manager, 4)).await;
        assert_eq!(acknowledged(&answers, &[]), 4);
        store.assert_rows(&manager, 4).await;
    }
}
