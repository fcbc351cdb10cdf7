//! Mixed load for as long as it takes, on redb and on etcd members that are killed: memory stays flat, no task is stuck,
//! nothing warns without a cause, and in the end memory equals storage.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "soak/ground.rs"]
mod ground;
#[path = "soak/traffic.rs"]
mod traffic;
#[path = "soak/witnesses.rs"]
mod witnesses;
#[path = "soak/warnings.rs"]
mod warnings;
#[path = "soak/memory.rs"]
mod memory;
#[cfg(feature = "etcd-tests")]
#[path = "soak/killing.rs"]
mod killing;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::Catalog;
use copyseg_redb::{RedbCatalog, RedbOptions};
use copyseg_torture::Trial;
use parking_lot::Mutex;

use ground::Faults;

/// The memory and the warnings that are looked at are those of the process, so that one trial runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs one long round on a runtime of its own, and reports what happened in it.
fn soak<F>(name: &'static str, shortest: Duration, on: impl Fn(u64, Duration) -> F)
where
    F: Future<Output = ground::Report>,
{
    let _alone = ALONE.lock();
    let mut trial = Trial::new(name, 1);
    // To repeat a round by its seed allows it no time.
    let time = trial.time_or(shortest).max(shortest);
    while let Some(mut round) = trial.round() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        for (what, count) in runtime.block_on(on(round.seed(), time)) {
            round.count(what, count);
        }
    }
}

#[test]
fn soak_on_redb() {
    soak("soak_on_redb", Duration::from_secs(5), |seed, time| async move {
        let folder = tempfile::tempdir().unwrap();
        let open = async || {
            let catalog = RedbCatalog::open(folder.path().join("redb"), RedbOptions::default()).await;
            Arc::new(catalog.unwrap()) as Arc<dyn Catalog>
        };
        ground::run(seed, time, Faults::default(), open, |_, _| {}).await
    });
}

#[test]
#[cfg(feature = "etcd-tests")]
fn soak_on_three_members_of_etcd() {
    use copyseg_core::Follow;
    use copyseg_etcd::EtcdCatalog;

    soak("soak_on_three_members_of_etcd", Duration::from_secs(30), |seed, time| async move {
        let (members, options) = killing::members().await;
        let open = async || Arc::new(EtcdCatalog::open(options.clone()).await.unwrap()) as Arc<dyn Catalog>;
        let followed: Arc<dyn Follow> = Arc::new(EtcdCatalog::open(options.clone()).await.unwrap());
        let more = |ground: &Arc<ground::Ground>, actors: &mut ground::Actors| {
            actors.spawn(killing::kill(Arc::clone(ground), Arc::clone(&members)));
            actors.spawn(witnesses::follow_all_along(Arc::clone(ground), Arc::clone(&followed)));
            actors.spawn(witnesses::follow_now_and_then(Arc::clone(ground), followed));
        };
        ground::run(seed, time, Faults::default(), open, more).await
    });
}
