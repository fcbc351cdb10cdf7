//! Where the load runs: one manager, everybody who uses it, and what must be true in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    Catalog, ErrorKind, JobFilter, JobState, ManagerOptions, MetaManager, RecordKind, Result, TaskFilter,
};
use copyseg_torture::Visible;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{memory, traffic, warnings, witnesses};

/// How long a fault may show after it is over: as long as a request may be under way.
const AFTERMATH: Duration = Duration::from_secs(20);

/// How long the jobs that are active in the end may take, on a machine that is busy with other things.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// What was counted.
pub(crate) type Report = BTreeMap<&'static str, u64>;

/// Everybody who uses the manager. One that panics fails the trial at once.
pub(crate) type Actors = JoinSet<()>;

/// Where the load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Stage {
    /// Everything goes on.
    Busy,
    /// Nothing new is begun, and nobody cancels or gives up.
    Draining,
    /// Every job has ended.
    Over,
}

pub(crate) struct Ground {
    pub(crate) manager: MetaManager,
    pub(crate) faults: Faults,
    stage: watch::Sender<Stage>,
    seeds: Mutex<fastrand::Rng>,
    counts: Mutex<Report>,
}

impl Ground {
    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Random numbers for one actor.
    pub(crate) fn random(&self) -> fastrand::Rng {
        self.seeds.lock().fork()
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    /// Asks again while storage refuses because of a fault. None if others were faster: the job was cancelled, the task
    /// given to somebody else.
    pub(crate) async fn ask<T, F>(&self, what: &'static str, mut ask: impl FnMut() -> F) -> Option<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let error = match ask().await {
                Ok(answer) => {
                    self.count(what);
                    return Some(answer);
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::IllegalTransition | ErrorKind::StaleClaim => return None,
                ErrorKind::Unavailable if self.faults.explain(Instant::now()) => {
                    self.count("refusals during faults");
                    sleep(Duration::from_millis(50)).await;
                }
                _ => panic!("{what}: {error:?}"),
            }
        }
    }
}

/// When storage was made to fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<Fault>>>);

#[derive(Debug)]
struct Fault {
    start: Instant,
    end: Option<Instant>,
}

impl Faults {
    #[cfg(feature = "etcd-tests")]
    pub(crate) fn begin(&self) {
        self.0.lock().push(Fault { start: Instant::now(), end: None });
    }

    #[cfg(feature = "etcd-tests")]
    pub(crate) fn end(&self) {
        self.0.lock().last_mut().unwrap().end = Some(Instant::now());
    }

    /// Whether a fault can be the cause of what happened at this time.
    pub(crate) fn explain(&self, at: Instant) -> bool {
        let over = |fault: &Fault| fault.end.is_some_and(|end| at > end + AFTERMATH);
        self.0.lock().iter().any(|fault| fault.start <= at && !over(fault))
    }
}

/// Runs the load for so long, then lets every job end, and asserts what must be true.
pub(crate) async fn run(
    seed: u64,
    time: Duration,
    faults: Faults,
    open: impl AsyncFn() -> Arc<dyn Catalog>,
    more: impl FnOnce(&Arc<Ground>, &mut Actors),
) -> Report {
    warnings::collect();
    let catalog = open().await;
    let manager = MetaManager::open(Arc::clone(&catalog), ManagerOptions::default()).await.unwrap();
    let ground = Arc::new(Ground {
        manager: manager.clone(),
        faults,
        stage: watch::Sender::new(Stage::Busy),
        seeds: Mutex::new(fastrand::Rng::with_seed(seed)),
        counts: Mutex::default(),
    });
    let subscriber = tokio::spawn(witnesses::subscribe(manager.subscribe().unwrap()));
    let mut actors = Actors::new();
    traffic::spawn(&ground, &mut actors);
    witnesses::spawn(&ground, &mut actors);
    more(&ground, &mut actors);

    let (start, mut resident) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        check(&mut actors);
        resident.extend(memory::resident_mib());
        sleep(time / 400).await;
    }
    ground.stage.send_replace(Stage::Draining);
    let drained = timeout(DRAIN_MAX, async {
        while manager.count_jobs(&active()).unwrap() > 0 {
            check(&mut actors);
            sleep(Duration::from_millis(50)).await;
        }
    });
    drained.await.unwrap_or_else(|_| panic!("stuck: {:#?}", manager.list_jobs(&active())));
    ground.stage.send_replace(Stage::Over);
    while let Some(ended) = actors.join_next().await {
        ended.unwrap();
    }

    swept(&manager, &*catalog).await;
    let memory = Visible::of(&manager.snapshot().unwrap());
    assert_eq!(memory, Visible::stored(&*catalog).await, "memory (left) equals storage (right)");
    manager.close().await.unwrap();
    assert_eq!(memory, subscriber.await.unwrap(), "a subscriber saw every change");
    let again = MetaManager::open(open().await, ManagerOptions::default()).await.unwrap();
    assert_eq!(memory, Visible::of(&again.snapshot().unwrap()), "a restart shows the same");
    again.close().await.unwrap();

    let mut report = std::mem::take(&mut *ground.counts.lock());
    report.insert("warnings with a cause", warnings::all_have_a_cause(&ground.faults));
    report.extend(memory::stays_flat(&resident, time));
    report
}

fn active() -> JobFilter {
    JobFilter::new().without_states([JobState::Completed, JobState::Failed, JobState::Cancelled])
}

/// Fails as soon as an actor has.
fn check(actors: &mut Actors) {
    while let Some(ended) = actors.try_join_next() {
        ended.unwrap();
    }
}

/// Waits until no task of a removed job is stored any more.
async fn swept(manager: &MetaManager, catalog: &dyn Catalog) {
    let shown = manager.count_tasks(&TaskFilter::new()).unwrap() as u64;
    let swept = timeout(DRAIN_MAX, async {
        while catalog.head().await.unwrap().counts.0[RecordKind::Task as usize] != shown {
            sleep(Duration::from_millis(50)).await;
        }
    });
    swept.await.expect("what no job claims is swept");
}
