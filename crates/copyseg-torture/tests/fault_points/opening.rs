//! Opening, failed at every point: recovery, the first records of a new store, and the sweep.

use copyseg_core::{ErrorKind, JobAction, JobId, MetaManager, NewJob, RecordKey, RecordKind};
use copyseg_torture::{Backend, Instance, Storage, TINY, Trial, Visible, or_dead, run};

use super::point::{Failure, Plan};
use super::seed::{LAST_BROUGHT_ID, damage, kept, options, seeded};

/// A store to be opened.
#[derive(Debug, Clone, Copy)]
enum Store {
    New,
    Used,
    /// The record of a job is damaged, so that nothing is swept.
    WithDamagedJob,
    /// Its counter of ids is damaged, so that it is rebuilt and written again.
    WithoutCounter,
}

const STORES: [Store; 4] = [Store::New, Store::Used, Store::WithDamagedJob, Store::WithoutCounter];

impl Store {
    async fn make(self, backend: &Backend) -> Storage {
        match self {
            Self::New => Storage::new(backend, TINY),
            Self::Used => seeded(backend, false).await,
            Self::WithDamagedJob => seeded(backend, true).await,
            Self::WithoutCounter => {
                let storage = seeded(backend, false).await;
                damage(&storage, RecordKey { kind: RecordKind::Store, id: 1 }).await;
                storage
            }
        }
    }
}

/// Opens a store of this kind with these failures, and says whether one of them came to pass.
async fn try_opening(backend: &Backend, store: Store, plan: &[Plan]) -> bool {
    let place = format!("open {store:?} with {plan:?}");
    let storage = store.make(backend).await;
    let instance = Instance::new(&storage).await;
    let before = Visible::stored(&*instance.storage).await;
    plan.iter().for_each(|plan| plan.set(&instance));
    let opened = or_dead(&instance, instance.manager(options())).await;
    match &opened {
        Some(Ok(manager)) if !instance.crash.crashed() => {
            let seen = instance.memory_equals_storage(manager).await;
            assert_eq!(seen, before, "{place}: opening changes nothing visible");
            instance.swept(kept(&seen)).await;
        }
        Some(Err(error)) => {
            let kind = error.kind();
            assert_eq!(kind, ErrorKind::Unavailable, "{place}: {}", error.chain());
        }
        _ => {}
    }
    let injected = instance.faults.faults_injected() > 0 || instance.crash.crashed();
    drop(opened);
    instance.end().await;

    let instance = Instance::new(&storage).await;
    let manager = instance.manager(options()).await.unwrap();
    let found = instance.memory_equals_storage(&manager).await;
    assert_eq!(found, before, "{place}: nothing was lost");
    instance.swept(kept(&found)).await;
    works(&manager, store).await;
    instance.memory_equals_storage(&manager).await;
    instance.end().await;
    injected
}

/// Ids go on where they stood, and what can be done with a sound store can be done.
async fn works(manager: &MetaManager, store: Store) {
    let ids = manager.allocate_ids(1).await.unwrap();
    if !matches!(store, Store::New) {
        assert!(ids.start > LAST_BROUGHT_ID, "no id is given out twice: {ids:?}");
        manager.update_job(JobId(2), [JobAction::Rows(1)]).await.unwrap();
    }
    manager.add_job(NewJob::default(), vec![]).await.unwrap();
}

#[test]
fn every_fault_point_of_opening() {
    let mut trial = Trial::new("every_fault_point_of_opening", 1);
    while let Some(mut round) = trial.round() {
        for (store, failure) in STORES.iter().flat_map(|store| Failure::ALL.map(|failure| (*store, failure)))
        {
            for call in 0.. {
                assert!(call < 100, "it never runs out of calls");
                if !run(true, try_opening(&Backend::Memory, store, &[Plan { call, failure }])) {
                    break;
                }
                round.count("fault points", 1);
            }
        }
    }
    assert!(trial.counted("fault points") > 50);
}

#[test]
fn fault_points_of_opening_files() {
    let mut trial = Trial::new("fault_points_of_opening_files", 4);
    while let Some(mut round) = trial.round() {
        let mut random = fastrand::Rng::with_seed(round.seed());
        let backend = [Backend::Redb, Backend::Sled][random.usize(..2)].clone();
        let (store, failure) =
            (STORES[random.usize(..STORES.len())], Failure::ALL[random.usize(..Failure::ALL.len())]);
        let plan = [Plan { call: random.u64(..8), failure }];
        round.count("points reached", u64::from(run(false, try_opening(&backend, store, &plan))));
    }
}
