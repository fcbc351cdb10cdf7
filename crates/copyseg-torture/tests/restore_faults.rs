//! Every point at which the catalog or the file system can fail a restore, or its process can be killed: run again, it
//! is whole, nothing is left over, and memory equals storage.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "restore_faults/damage.rs"]
mod damage;
#[path = "restore_faults/disk.rs"]
mod disk;
#[path = "restore_faults/power.rs"]
mod power;
#[path = "restore_faults/scene.rs"]
mod scene;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use copyseg_conformance::{CrashCatalog, Fault, FaultyCatalog};
use copyseg_core::{Error, ErrorKind, Result};
use copyseg_restore::Outcome;
use copyseg_torture::{Trial, run};

use disk::{DiskFault, FaultyDisk};
use power::{Acknowledging, Power};
use scene::{Scene, Step, completed};

/// No single fault of storage fails a job: the run completes it, or ends and leaves it to the next one.
fn assert_only_interrupted(outcome: &Result<Outcome>, may_be: &[ErrorKind]) {
    let interrupted = |error: &Error| may_be.contains(&error.kind());
    assert!(completed(outcome) || outcome.as_ref().is_err_and(interrupted), "{outcome:?}");
}

/// Names the point in what is printed when a check fails there.
fn at_point<T>(point: String, work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(panic) => {
            eprintln!("at {point}");
            resume_unwind(panic)
        }
    }
}

/// Fails one call to the catalog; says whether it came to that.
async fn fail_catalog(step: Step, call: u64, fault: Fault) -> bool {
    let scene = Scene::at(step).await;
    let catalog = Arc::new(FaultyCatalog::new(scene.storage()));
    catalog.fail_nth(call, fault);
    let outcome = scene.run(catalog.clone(), None).await;
    // A request to become the owner that arrives late fences whoever was faster.
    assert_only_interrupted(
        &outcome,
        &[ErrorKind::Unavailable, ErrorKind::OutcomeUnknown, ErrorKind::Fenced],
    );
    catalog.heal();
    scene.complete(catalog.clone()).await;
    catalog.faults_injected() > 0
}

/// Fails one call to the file system, of the source or the target; says whether it came to that.
fn fail_disk(step: Step, call: u64, fault: DiskFault) -> bool {
    let scene = run(true, Scene::at(step));
    let disk = FaultyDisk::new(call, fault);
    // The next run has a runtime of its own, because a runtime ends after the calls to the disk that are under way on its
    // threads: whoever was killed makes none later.
    run(true, async {
        if fault == DiskFault::Kill {
            let catalog = Arc::new(CrashCatalog::new(scene.storage()));
            tokio::select! {
                biased;
                () = disk.kill.notified() => {}
                outcome = scene.run(catalog.clone(), Some(disk.hook())) => assert!(completed(&outcome), "{outcome:?}"),
            }
            catalog.crash().await.unwrap();
        } else {
            let outcome = scene.run(scene.storage(), Some(disk.hook())).await;
            assert_only_interrupted(&outcome, &[ErrorKind::Unavailable]);
        }
    });
    run(true, scene.complete(scene.storage()));
    disk.reached()
}

#[test]
fn every_fault_point_of_a_restore_in_its_catalog() {
    let mut trial = Trial::new("every_fault_point_of_a_restore_in_its_catalog", 1);
    while let Some(mut round) = trial.round() {
        for (step, fault) in Step::ALL.into_iter().flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
            for call in 0.. {
                let point = format!("call {call} to the catalog, {fault:?}, in the step {step:?}");
                if !at_point(point, || run(true, fail_catalog(step, call, fault))) {
                    break;
                }
                round.count("fault points", 1);
            }
        }
    }
}

/// Each round tries one step with one kind of failure, at every call; as many rounds as there are pairs try them all.
#[test]
fn every_fault_point_of_a_restore_on_its_disk() {
    let mut trial = Trial::new("every_fault_point_of_a_restore_on_its_disk", 4);
    let pairs: Vec<_> =
        Step::ALL.into_iter().flat_map(|step| DiskFault::ALL.map(|fault| (step, fault))).collect();
    while let Some(mut round) = trial.round() {
        // Neighbours in the list are in different steps and fail differently.
        let (step, fault) = pairs[(round.seed() * 5 % pairs.len() as u64) as usize];
        for call in 0.. {
            let point = format!("call {call} to the disk, {fault:?}, in the step {step:?}");
            if !at_point(point, || fail_disk(step, call, fault)) {
                break;
            }
            round.count("fault points", 1);
        }
    }
}

/// Restores with calls of the name `skipped` left out of account; returns how many files were acknowledged, and which of
/// them would not survive.
async fn lose_power(step: Step, skipped: &'static str) -> (u64, Vec<String>) {
    let scene = Scene::at(step).await;
    let power = Power::new(scene.target(), skipped);
    let catalog = Acknowledging::new(&power, scene.storage());
    let outcome = scene.run(catalog.clone(), Some(power.hook())).await;
    assert!(completed(&outcome), "{outcome:?}");
    let mut lost: Vec<_> =
        catalog.lost.lock().unwrap().iter().map(|file| file.display().to_string()).collect();
    lost.sort();
    (catalog.files.lock().unwrap().len() as u64, lost)
}

#[test]
fn what_a_restore_has_acknowledged_survives_the_loss_of_power() {
    let mut trial = Trial::new("what_a_restore_has_acknowledged_survives_the_loss_of_power", 5);
    while let Some(mut round) = trial.round() {
        let (files, lost) = run(true, lose_power(Step::Begin, "nothing"));
        assert_eq!((files, lost), (7, Vec::<String>::new()), "five files and two records");
        round.count("acknowledged files", files);
    }
}

#[test]
fn a_restore_that_leaves_out_a_sync_is_found_out() {
    for skipped in ["sync", "sync folder"] {
        let (files, lost) = run(true, lose_power(Step::Begin, skipped));
        assert_eq!(
            lost.len() as u64,
            files,
            "without `{skipped}` nothing that was acknowledged survives: {lost:?}"
        );
    }
}
