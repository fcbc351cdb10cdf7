//! Many callers at once on one store, through faults, crashes, closes and takeovers: one order of transactions, that
//! of their revisions, explains all that any of them was told and shown.
//!
//! The seed of a round fixes what each caller does, and not how the threads take turns.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use copyseg_conformance::SlowCatalog;
use copyseg_core::{Catalog, Limits, ManagerOptions, MetaManager};
use copyseg_torture::history::{Client, History, Outcome, Recorder, check, plan_faults};
use copyseg_torture::{Backend, Instance, Storage, TINY, Trial};
use fastrand::Rng;
use tokio::task::JoinHandle;

const LIVES: usize = 4;
const CLIENTS: usize = 8;
const STEPS: u32 = 60;

const LARGE: Limits = Limits { operations_max: 100, bytes_max: 1 << 20, commits_max: 1 };

#[test]
fn one_order_explains_what_everybody_saw_in_memory() {
    explore(Trial::new("one_order_explains_what_everybody_saw_in_memory", 10), &Backend::Memory);
}

#[test]
fn one_order_explains_what_everybody_saw_on_redb() {
    explore(Trial::new("one_order_explains_what_everybody_saw_on_redb", 4), &Backend::Redb);
}

#[test]
fn one_order_explains_what_everybody_saw_on_sled() {
    explore(Trial::new("one_order_explains_what_everybody_saw_on_sled", 4), &Backend::Sled);
}

#[test]
#[cfg(feature = "etcd-tests")]
fn one_order_explains_what_everybody_saw_on_etcd() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let member = runtime.block_on(copyseg_torture::EtcdMember::start());
    let trial = Trial::new("one_order_explains_what_everybody_saw_on_etcd", 2);
    explore(trial, &Backend::Etcd(Arc::new(member)));
}

fn explore(mut trial: Trial, backend: &Backend) {
    while let Some(mut round) = trial.round() {
        // A job of many tasks takes one batch, or several.
        let limits = [LARGE, TINY][round.seed() as usize % 2];
        let storage = Storage::new(backend, limits);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
        let history = runtime.block_on(record(&storage, Rng::with_seed(round.seed())));
        drop(runtime);
        if let Err(violation) = check(&history) {
            let lines = history.transactions.iter().map(|it| format!("{it:?}\n"));
            let lines = lines.chain(history.reads.iter().map(|it| format!("{it:?}\n")));
            let lines = lines.chain(history.subscriptions.iter().map(|it| format!("{it:?}\n")));
            panic!("{}{violation:?}", lines.collect::<String>());
        }
        let outcomes =
            |outcome| history.transactions.iter().filter(|it| it.outcome == outcome).count() as u64;
        round.count("histories", 1);
        round.count("acknowledged", outcomes(Outcome::Acknowledged));
        round.count("refused", outcomes(Outcome::Refused));
        round.count("unknown", outcomes(Outcome::Unknown));
        round.count("reads", history.reads.len() as u64);
        round.count("revisions", history.last_revision);
        let told: usize = history.subscriptions.iter().map(|it| it.told.len()).sum();
        round.count("changes told", told as u64);
    }
    assert!(trial.counted("acknowledged") > 0);
}

/// Managers that follow one another on one store, each with callers at work when it ends.
async fn record(storage: &Storage, mut random: Rng) -> History {
    let recorder = Recorder::default();
    let mut process = Instance::new(storage).await;
    let mut closed = None;
    let mut alive = Vec::new();
    for _ in 0..LIVES {
        let (life, manager) = start(&recorder, &process, &mut random, closed.take()).await;
        plan_faults(&process.faults, &mut random, 8);
        // Before the callers start: they may be done before this thread has its next turn.
        let target = recorder.stamps() + random.u32(0..CLIENTS as u32 * STEPS / 2);
        let callers = callers(&recorder, &manager, life, &mut random);
        // Subscribers, behind the clients, end with the manager.
        let is_idle = || callers.iter().take(CLIENTS).all(JoinHandle::is_finished);
        while recorder.stamps() < target && !is_idle() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let end = random.u32(0..4);
        alive.push((manager.clone(), callers));
        match end {
            // The next manager takes the store from this one, whose callers go on until they notice.
            0 => {
                process.faults.heal();
                continue;
            }
            1 => process.crash.crash().await.unwrap(),
            2 => {}
            _ => {
                process.faults.heal();
                manager.close().await.unwrap();
                closed = Some(life);
            }
        }
        end_all(&mut alive).await;
        process = Instance::new(storage).await;
    }
    let (_, manager) = start(&recorder, &process, &mut random, closed.take()).await;
    let last = manager.snapshot().unwrap();
    alive.push((manager, Vec::new()));
    end_all(&mut alive).await;
    recorder.finish(&last)
}

/// After a crash, a manager that does not know what became of a commit would ask for ever.
async fn end_all(alive: &mut Vec<(MetaManager, Vec<JoinHandle<()>>)>) {
    for (manager, callers) in alive.drain(..) {
        // The storage may have failed, or be closed already.
        let _ = manager.close().await;
        for caller in callers {
            caller.await.unwrap();
        }
    }
}

/// Opens a manager; `closed` is the one before, if it was closed with nothing left to settle.
async fn start(
    recorder: &Recorder,
    process: &Instance,
    random: &mut Rng,
    closed: Option<usize>,
) -> (usize, MetaManager) {
    let life = recorder.open();
    let options = ManagerOptions {
        lag_max: [2, 1024][random.usize(0..2)],
        queue_max: [3, 4096][random.usize(0..2)],
        head_check: Duration::from_millis(20),
        ..ManagerOptions::default()
    };
    // A slow commit lets many transactions gather behind it.
    let delay = Duration::from_millis(random.u64(0..3));
    let catalog = SlowCatalog::with_delay(Arc::clone(&process.faults) as Arc<dyn Catalog>, delay);
    let manager = MetaManager::open(Arc::new(catalog), options).await.unwrap();
    let first = recorder.read_all(&manager, life).unwrap();
    if let Some(closed) = closed {
        recorder.closed(closed, first.revision().0);
    }
    (life, manager)
}

fn callers(recorder: &Recorder, manager: &MetaManager, life: usize, random: &mut Rng) -> Vec<JoinHandle<()>> {
    let clients = (0..CLIENTS).map(|_| {
        let (recorder, manager) = (recorder.clone(), manager.clone());
        tokio::spawn(Client { recorder, manager, life, random: random.fork() }.run(STEPS))
    });
    let subscribers = (0..2).map(|_| {
        let (recorder, manager) = (recorder.clone(), manager.clone());
        tokio::spawn(async move { recorder.follow(manager, life).await })
    });
    clients.chain(subscribers).collect()
}
