//! The trie equals a map, keeps its shape, and leaves what was cloned before as it was.

use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hasher};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::samples;

/// Hashes to the id itself, shifted: ids in a row share all but the last of the bits that are used.
#[derive(Default)]
struct Last(u64);

impl Hasher for Last {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("an id is hashed as an i64");
    }

    fn write_i64(&mut self, id: i64) {
        self.0 = id as u64;
    }
}

/// Hashes every id to the same.
#[derive(Default)]
struct Same;

impl Hasher for Same {
    fn finish(&self) -> u64 {
        0xABCD << 40
    }

    fn write(&mut self, _: &[u8]) {}
}

type Model = BTreeMap<TaskId, Arc<Task>>;

const IDS: Range<i64> = 0..400;

#[derive(Debug, Clone)]
enum Change {
    Insert(Range<i64>),
    Remove(Range<i64>),
}

fn any_change() -> impl Strategy<Value = Change> {
    let ids = || (IDS, 1..60i64).prop_map(|(first, count)| first..(first + count).min(IDS.end));
    prop_oneof![ids().prop_map(Change::Insert), ids().prop_map(Change::Remove)]
}

fn apply<S: BuildHasher>(change: Change, round: i64, tasks: &mut ById<S>, model: &mut Model) {
    match change {
        Change::Insert(ids) => {
            for id in ids {
                let task = Arc::new(samples::task(id, round));
                assert_eq!(tasks.insert(Arc::clone(&task)), model.insert(task.id, task));
            }
        }
        Change::Remove(ids) => {
            for id in ids.map(TaskId) {
                assert_eq!(tasks.remove(id), model.remove(&id));
            }
        }
    }
}

fn check<S: BuildHasher>(tasks: &ById<S>, model: &Model) {
    assert_eq!(tasks.len(), model.len());
    for id in IDS.map(TaskId) {
        assert_eq!(tasks.get(id), model.get(&id));
    }
    let mut found = 0;
    check_shape(&tasks.root, 0, 0, &tasks.hasher, &mut found);
    assert_eq!(found, model.len());
}

/// That every task is where its hash leads, in a leaf at one aligned run, no leaf larger than it may be, and no branch
/// kept that a leaf could do for.
fn check_shape(branch: &Branch, used: u32, prefix: u64, hasher: &impl BuildHasher, found: &mut usize) {
    let mut next = 0;
    while next < WIDTH {
        let places = run(branch, next);
        assert!(places.len().is_power_of_two());
        assert_eq!(places, aligned(next, places.len()));
        match &branch[next] {
            Node::Branch(below) => {
                assert!(used + BITS < u64::BITS);
                assert!(run(below, 0).len() < WIDTH, "a branch of a single leaf");
                let prefix = prefix | (next as u64) << (u64::BITS - used - BITS);
                check_shape(below, used + BITS, prefix, hasher, found);
            }
            Node::Leaf(leaf) => {
                assert!(leaf.len() <= LEAF_MAX || used + BITS == u64::BITS, "{}", leaf.len());
                for (id, task) in &**leaf {
                    let hash = hasher.hash_one(*id);
                    assert_eq!(*id, task.id);
                    assert!(places.contains(&place(hash, used)));
                    assert!(used == 0 || hash >> (u64::BITS - used) == prefix >> (u64::BITS - used));
                }
                *found += leaf.len();
            }
        }
        next = places.end;
    }
}

fn follow<S: BuildHasher + Default + Clone>(first: Range<i64>, changes: &[Change]) {
    let mut model: Model = first.map(|id| (TaskId(id), Arc::new(samples::task(id, -1)))).collect();
    let mut tasks: ById<S> = model.values().cloned().collect();
    check(&tasks, &model);
    for (round, change) in (0..).zip(changes) {
        let (held, held_model) = (tasks.clone(), model.clone());
        apply(change.clone(), round, &mut tasks, &mut model);
        check(&tasks, &model);
        check(&held, &held_model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_equals_a_map_and_so_does_every_clone(
        first in IDS.prop_map(|count| 0..count),
        changes in proptest::collection::vec(any_change(), 0..12),
    ) {
        follow::<RandomState>(first.clone(), &changes);
        follow::<BuildHasherDefault<Last>>(first.clone(), &changes);
        follow::<BuildHasherDefault<Same>>(first, &changes);
    }
}

#[rstest]
#[case::that_differ(ById::<RandomState>::default())]
#[case::that_differ_in_their_last_bits_alone(ById::<BuildHasherDefault<Last>>::default())]
#[case::that_are_the_same(ById::<BuildHasherDefault<Same>>::default())]
fn what_lost_all_its_tasks_is_as_small_as_a_new_one<S: BuildHasher>(#[case] mut tasks: ById<S>) {
    for id in 0..3_000 {
        tasks.insert(Arc::new(samples::task(id, 0)));
    }
    for id in (0..3_000).map(TaskId) {
        assert!(tasks.remove(id).is_some());
    }
    assert_eq!(run(&tasks.root, 0), 0..WIDTH, "more than one leaf is left");
    assert_eq!(tasks.len(), 0);
}

#[test]
fn leaves_are_more_than_half_full_on_average() {
    let tasks: ById = (0..100_000).map(|id| Arc::new(samples::task(id, 0))).collect();
    let leaves = leaves(&tasks.root);
    assert!(100_000 / leaves > LEAF_MAX / 2, "{leaves} leaves");
}

fn leaves(branch: &Branch) -> usize {
    let starts = (0..WIDTH).filter(|place| run(branch, *place).start == *place);
    let leaves = starts.map(|place| match &branch[place] {
        Node::Branch(below) => leaves(below),
        Node::Leaf(_) => 1,
    });
    leaves.sum()
}
