//! Power cuts: at every step of a workload, with what was synced and any part of what was not.

use std::hash::{DefaultHasher, Hash, Hasher};

use copyseg_core::{Batch, Catalog, Head, Operation, RecordKey, RecordKind, Revision};
use futures::TryStreamExt;

use crate::storage::{Step, Storage, replay};

const COMMITS: u64 = 6;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What the disk is left with of the steps after the last sync.
#[derive(Debug, Clone, Copy)]
enum Remains {
    Nothing,
    Everything,
    /// Each step whole, in part or not at all, as this number has it.
    Some(u64),
}

#[tokio::test]
async fn after_a_power_cut_at_any_step_the_store_is_at_a_whole_commit_and_none_acknowledged_is_lost() {
    let storage = Storage::default();
    let catalog = crate::open(&storage).await.unwrap();
    let mut head = catalog.acquire().await.unwrap();
    let mut acknowledged = vec![(storage.steps().len(), 0)];
    for revision in 1..=COMMITS {
        let next = Head { batch: revision, revision: Revision(revision), ..head };
        catalog.commit(&head, &next, &batch(revision)).await.unwrap();
        acknowledged.push((storage.steps().len(), revision));
        head = next;
    }
    let steps = storage.steps();
    let mut cuts = 0;
    for cut in acknowledged[0].0..=steps.len() {
        let durable =
            acknowledged.iter().filter(|(steps, _)| *steps <= cut).map(|(_, revision)| *revision).max();
        let durable = durable.unwrap_or_default();
        for remains in
            [Remains::Nothing, Remains::Everything, Remains::Some(1), Remains::Some(2), Remains::Some(3)]
        {
            let revision = revision_found(disk_after(&steps[..cut], remains)).await;
            assert!(
                (durable..=durable + 1).contains(&revision),
                "revision {revision} after a cut at step {cut} with {remains:?}; {durable} was acknowledged"
            );
            cuts += 1;
        }
    }
    assert!(cuts > 5 * 4 * COMMITS, "a commit has several steps, and {cuts} cuts tried them all");
}

/// Adds twenty tasks and removes ten of the batch before: rows come and go, and the tree grows.
fn batch(revision: u64) -> Batch {
    let key = |revision: u64, index| RecordKey { kind: RecordKind::Task, id: revision as i64 * 100 + index };
    let puts = (0..20).map(|index| Operation::Put(key(revision, index), bytes(revision)));
    puts.chain((0..10).map(|index| Operation::Delete(key(revision - 1, index)))).collect()
}

fn bytes(revision: u64) -> std::sync::Arc<[u8]> {
    vec![revision as u8; 100 * revision as usize].into()
}

fn disk_after(steps: &[Step], remains: Remains) -> Vec<u8> {
    let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).map_or(0, |last| last + 1);
    let mut disk = Vec::new();
    steps[..synced].iter().for_each(|step| replay(&mut disk, step));
    for (index, step) in steps[synced..].iter().enumerate() {
        match (remains, step) {
            (Remains::Nothing, _) => {}
            (Remains::Everything, step) => replay(&mut disk, step),
            (Remains::Some(seed), step) => match (choice(seed, index), step) {
                (0, _) => {}
                (1, Step::Write(offset, data)) => {
                    replay(
                        &mut disk,
                        &Step::Write(*offset, data[..data.len() / 2 / SECTOR * SECTOR].to_vec()),
                    );
                }
                (_, step) => replay(&mut disk, step),
            },
        }
    }
    disk
}

/// A number below 3, the same in every run.
fn choice(seed: u64, index: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, index).hash(&mut hasher);
    hasher.finish() % 3
}

/// Opens what is left, and asserts that it is exactly what the revision in its head wrote.
async fn revision_found(disk: Vec<u8>) -> u64 {
    let catalog = crate::open(&Storage::of(disk)).await.unwrap();
    let loaded = catalog.load().await.unwrap();
    let revision = loaded.head.revision.0;
    let pages: Vec<_> = loaded.pages.try_collect().await.unwrap();
    let found: Vec<_> =
        pages.into_iter().flatten().map(|record| (record.key.id, record.bytes.into())).collect();
    let ids = |written: u64| {
        let first = if written == revision { 0 } else { 10 };
        (first..20).map(move |index| (written as i64 * 100 + index, bytes(written).to_vec()))
    };
    assert!(found == (1..=revision).flat_map(ids).collect::<Vec<_>>(), "the records of revision {revision}");
    revision
}
