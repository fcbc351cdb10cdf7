//! The manager and a simple model of what is documented, side by side through random runs: operations, transactions,
//! claims by stale and live workers, faults, crashes, damage, time that jumps.

use copyseg_torture::{Backend, Trial, follow, program};

fn follow_rounds(name: &'static str, short_rounds: u64, backend: &Backend, steps_max: usize) {
    let mut trial = Trial::new(name, short_rounds);
    while let Some(mut round) = trial.round() {
        follow(&mut round, backend, program(steps_max));
    }
    assert!(trial.counted("queries") > 0);
}

#[test]
fn the_manager_follows_the_model_in_memory() {
    follow_rounds("the_manager_follows_the_model_in_memory", 60, &Backend::Memory, 80);
}

#[test]
fn the_manager_follows_the_model_on_redb() {
    follow_rounds("the_manager_follows_the_model_on_redb", 3, &Backend::Redb, 40);
}

#[test]
fn the_manager_follows_the_model_on_sled() {
    follow_rounds("the_manager_follows_the_model_on_sled", 3, &Backend::Sled, 40);
}

#[test]
#[cfg(feature = "etcd-tests")]
fn the_manager_follows_the_model_on_etcd() {
    let member = copyseg_torture::run(false, copyseg_torture::EtcdMember::start());
    let backend = Backend::Etcd(std::sync::Arc::new(member));
    follow_rounds("the_manager_follows_the_model_on_etcd", 3, &backend, 40);
}
