//! A transaction that fails leaves no trace for those behind it, and each batch shows the state at its own end.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, OnceLock};

use copyseg_core::{
    CollectionId, Error, ErrorKind, JobAction, JobFilter, JobId, JobState, ManagerOptions, MemoryCatalog,
    MetaManager, NodeId, Progress, Result, Snapshot, TaskFilter, TaskId, TaskState, Txn, WeakManager,
};
use futures::FutureExt;
use proptest::prelude::*;

use super::committer::HookedCatalog;
use super::{TINY, Visible, job, tamper, task, task_key, visible};
use copyseg_core::Operation;

const JOBS: std::ops::Range<i64> = 1..4;
const TASKS: i64 = 3;

/// One step of a transaction; whether its rules allow it depends on what came before.
#[derive(Debug, Clone, Copy)]
enum Step {
    AddJob(i64),
    AddTask(i64, i64),
    Publish(i64),
    Cancel(i64),
    RemoveJob(i64),
    Claim(i64, i64),
    Release(i64, i64),
    Complete(i64, i64),
    RemoveTask(i64, i64),
    Allocate(u64),
    DropSetAside,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Well,
    InAnError,
    InAPanic,
}

/// The record that the store holds from the start and nobody can decode.
const DAMAGED: i64 = 900;

fn any_transaction() -> impl Strategy<Value = (Vec<Step>, End)> {
    let pair = || (JOBS, 0..TASKS);
    let step = prop_oneof![
        3 => JOBS.prop_map(Step::AddJob),
        2 => pair().prop_map(|(job, task)| Step::AddTask(job, task)),
        1 => JOBS.prop_map(Step::Publish),
        1 => JOBS.prop_map(Step::Cancel),
        2 => JOBS.prop_map(Step::RemoveJob),
        4 => pair().prop_map(|(job, task)| Step::Claim(job, task)),
        1 => pair().prop_map(|(job, task)| Step::Release(job, task)),
        2 => pair().prop_map(|(job, task)| Step::Complete(job, task)),
        1 => pair().prop_map(|(job, task)| Step::RemoveTask(job, task)),
        1 => (0..3u64).prop_map(Step::Allocate),
        1 => Just(Step::DropSetAside),
    ];
    let end = prop_oneof![4 => Just(End::Well), 2 => Just(End::InAnError), 1 => Just(End::InAPanic)];
    (prop::collection::vec(step, 0..6), end)
}

fn id(job: i64, task: i64) -> TaskId {
    TaskId(job * 10 + task)
}

fn take(txn: &mut Txn<'_>, step: Step) -> Result<()> {
    let claim = |txn: &Txn<'_>, job, number| {
        let claim = txn.task(id(job, number)).and_then(|task| task.claim());
        claim.ok_or_else(|| Error::new(ErrorKind::NotFound, "nobody has it"))
    };
    match step {
        Step::AddJob(number) => {
            let tasks = (0..TASKS - 1).map(|at| task(id(number, at).0)).collect();
            let new = copyseg_core::NewJob { segments: Some(TASKS as u64), ..job(number) };
            txn.add_job(new, tasks).map(drop)
        }
        Step::AddTask(job, number) => txn.add_task(JobId(job), task(id(job, number).0)).map(drop),
        Step::Publish(job) => txn.update_job(JobId(job), [JobAction::State(JobState::Publishing)]).map(drop),
        Step::Cancel(job) => txn.cancel_job(JobId(job), "enough").map(drop),
        Step::RemoveJob(job) => txn.remove_job(JobId(job)).map(drop),
        Step::Claim(job, number) => txn.claim_task(id(job, number), NodeId(job)).map(drop),
        Step::Release(job, number) => txn.release_task(claim(txn, job, number)?, "later"),
        Step::Complete(job, number) => txn.complete_task(claim(txn, job, number)?),
        Step::RemoveTask(job, number) => txn.remove_task(id(job, number)).map(drop),
        Step::Allocate(count) => txn.allocate_ids(count).map(drop),
        Step::DropSetAside => {
            txn.drop_set_aside(task_key(DAMAGED));
            Ok(())
        }
    }
}

/// What every index and counter says.
#[derive(Debug, PartialEq)]
struct Shown {
    visible: Visible,
    by_state: Vec<(usize, Vec<TaskId>)>,
    by_node: Vec<(usize, Vec<TaskId>)>,
    by_job: Vec<(Option<Progress>, Vec<TaskId>, Vec<TaskId>)>,
    collection: (usize, Vec<TaskId>),
    jobs_by_state: Vec<usize>,
}

fn shown(snapshot: &Snapshot) -> Shown {
    let found = |filter: TaskFilter| {
        (snapshot.count_tasks(&filter), snapshot.tasks(&filter).map(|task| task.id).collect())
    };
    let of_job = |number| {
        let pending = TaskFilter::new().job(JobId(number)).states([TaskState::Pending]);
        let tasks = snapshot.tasks_of_job(JobId(number)).map(|task| task.id);
        (snapshot.progress(JobId(number)), tasks.collect(), found(pending).1)
    };
    let in_state = |state| snapshot.count_jobs(&JobFilter::new().states([state]));
    Shown {
        visible: visible(snapshot),
        by_state: TaskState::ALL.map(|state| found(TaskFilter::new().states([state]))).into(),
        by_node: JOBS.map(|node| found(TaskFilter::new().node(NodeId(node)))).collect(),
        by_job: JOBS.map(of_job).collect(),
        collection: found(TaskFilter::new().collection(CollectionId(7))),
        jobs_by_state: JobState::ALL.map(in_state).into(),
    }
}

/// What a restart would load; on a thread of its own, because the catalog asks in the middle of a commit.
fn loaded(store: &MemoryCatalog) -> Shown {
    let load = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        shown(&runtime.block_on(Snapshot::load(store)).unwrap())
    };
    std::thread::scope(|scope| scope.spawn(load).join().unwrap())
}

/// The accepted state, and where the counter of ids stands in it.
async fn accepted(manager: &MetaManager) -> (Shown, i64) {
    manager.transact(|txn| Ok((shown(txn.snapshot()), txn.allocate_ids(0)?.start))).await.unwrap()
}

/// A store with one record that cannot be decoded, and a manager that looks before each commit whether what it shows is
/// what the store holds.
/// Storage refuses commits by `refusals`, and then none.
async fn open(refusals: Vec<bool>) -> (MemoryCatalog, MetaManager) {
    let store = MemoryCatalog::with_limits(TINY);
    MetaManager::open(Arc::new(store.clone()), ManagerOptions::default())
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    tamper(&store, [Operation::Put(task_key(DAMAGED), Arc::from(*b"damaged"))]).await;
    let watched = Arc::new(OnceLock::<WeakManager>::new());
    let catalog = HookedCatalog::new(store.clone(), {
        let (store, watched) = (store.clone(), Arc::clone(&watched));
        let refusals = Mutex::new(refusals.into_iter());
        move || {
            let Some(manager) = watched.get().and_then(WeakManager::upgrade) else { return Ok(()) };
            assert_eq!(shown(&manager.snapshot()?), loaded(&store));
            match refusals.lock().unwrap().next() {
                Some(true) => Err(Error::new(ErrorKind::Unavailable, "not now")),
                _ => Ok(()),
            }
        }
    });
    let manager = MetaManager::open(Arc::new(catalog), ManagerOptions::default()).await.unwrap();
    watched.set(manager.downgrade()).unwrap();
    (store, manager)
}

/// What somebody holds, and what it showed then.
type Held = Arc<Mutex<Vec<(Snapshot, Shown)>>>;

/// All steps, where those that the rules refuse do nothing. The state between them is held by every other transaction.
fn take_all(txn: &mut Txn<'_>, steps: &[Step], held: &Held) {
    for step in steps {
        let _ = take(txn, *step);
        if txn.snapshot().revision().0.is_multiple_of(2) {
            held.lock().unwrap().push((txn.snapshot().clone(), shown(txn.snapshot())));
        }
    }
}

fn check_held(held: &Held) {
    for (snapshot, then) in held.lock().unwrap().iter() {
        assert_eq!(shown(snapshot), *then);
    }
}

fn end(end: End) -> Result<()> {
    match end {
        End::Well => Ok(()),
        End::InAnError => Err(Error::new(ErrorKind::InvalidArgument, "the caller thought better of it")),
        // Says nothing to stderr.
        End::InAPanic => resume_unwind(Box::new("a bug of the caller")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_transaction_that_fails_leaves_no_trace(
        transactions in prop::collection::vec(any_transaction(), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((_, manager), held) = (open(Vec::new()).await, Held::default());
            for (steps, how) in transactions {
                let before = accepted(&manager).await;
                let change = manager.transact(|txn| {
                    take_all(txn, &steps, &held);
                    end(how)
                });
                let outcome = std::panic::AssertUnwindSafe(change).catch_unwind().await;
                if !matches!(outcome, Ok(Ok(()))) {
                    assert_eq!(accepted(&manager).await, before, "{steps:?}");
                }
            }
            check_held(&held);
        });
    }

    #[test]
    fn each_batch_shows_what_it_wrote_and_nothing_of_those_behind_it(
        transactions in prop::collection::vec(any_transaction(), 1..40),
        refusals in prop::collection::vec(prop::bool::weighted(0.2), 0..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((store, manager), held) = (open(refusals).await, Held::default());
            // All of them are in the queue before the first is committed.
            let callers: Vec<_> = transactions.into_iter().map(|(steps, how)| {
                let (manager, held) = (manager.clone(), Arc::clone(&held));
                tokio::spawn(async move {
                    manager.transact(|txn| {
                        take_all(txn, &steps, &held);
                        end(how)
                    }).await
                })
            }).collect();
            for caller in callers {
                let _ = caller.await;
            }
            assert_eq!(accepted(&manager).await.0, loaded(&store));
            assert_eq!(shown(&manager.snapshot().unwrap()), loaded(&store));
            check_held(&held);
            manager.close().await.unwrap();
            // Opening compares the counts of records in the head.
            let again = MetaManager::open(Arc::new(store.clone()), ManagerOptions::default()).await.unwrap();
            assert_eq!(shown(&again.snapshot().unwrap()), loaded(&store));
        });
    }
}
