//! The trie equals a map, keeps its shape, and leaves what was cloned before as it was.

use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hasher};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::samples;

/// Hashes 32 ids in a row to the same, and all ids of a test to hashes that differ in their last bits alone: the last
/// branches have leaves beside each other that hold more tasks than a leaf should.
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
        self.0 = id as u64 / 32;
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

/// That every task is where its hash leads, in a leaf at one aligned run; that no leaf is larger than it may be, no two that
/// were one are so small that they should be one again, and no branch has only one leaf.
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
                let prefix = prefix | (next as u64) << (u64::BITS - BITS) >> used;
                check_shape(below, used + BITS, prefix, hasher, found);
            }
            Node::Leaf(leaf) => {
                assert!(leaf.len() <= LEAF_MAX || used + BITS >= u64::BITS, "{}", leaf.len());
                assert!(!is_mergeable(branch, &places), "two leaves that should be one");
                for (id, task) in &**leaf {
                    let hash = hasher.hash_one(*id);
                    assert_eq!(*id, task.id);
                    assert!(places.contains(&place_of(hash, used)));
                    assert!(used == 0 || hash >> (u64::BITS - used) == prefix >> (u64::BITS - used));
                }
                *found += leaf.len();
            }
        }
        next = places.end;
    }
}

fn is_mergeable(branch: &Branch, places: &Range<usize>) -> bool {
    let other = places.start ^ places.len();
    if places.len() == WIDTH || run(branch, other).len() != places.len() {
        return false;
    }
    match (&branch[places.start], &branch[other]) {
        (Node::Leaf(leaf), Node::Leaf(beside)) => leaf.len() + beside.len() <= LEAF_MAX / 2,
        _ => false,
    }
}

fn follow<S: BuildHasher + Default + Clone>(first: Range<i64>, changes: &[Change]) {
    let mut model: Model = first.map(|id| (TaskId(id), Arc::new(samples::task(id, -1)))).collect();
    let mut tasks = ById::<S>::of_distinct(model.values().cloned());
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

#[rstest]
#[case(1_000)]
#[case(10_000)]
#[case(70_000)]
#[case(100_000)]
fn leaves_are_more_than_half_full_on_average_however_many_tasks_there_are(#[case] count: usize) {
    let tasks = ById::<RandomState>::of_distinct(some(count));
    let leaves = leaves(&tasks.root);
    assert!(leaves * LEAF_MAX / 2 < count, "{leaves} leaves");
}

#[test]
fn a_leaf_is_split_when_it_is_full_and_not_merged_again_at_once() {
    let mut tasks = ById::<RandomState>::of_distinct(some(LEAF_MAX));
    assert_eq!(leaves(&tasks.root), 1);
    let last = Arc::new(samples::task(LEAF_MAX as i64, 0));
    tasks.insert(Arc::clone(&last));
    let split = leaves(&tasks.root);
    assert!(split > 1);
    tasks.remove(last.id);
    assert_eq!(leaves(&tasks.root), split);
}

#[test]
fn looking_for_what_is_not_there_copies_nothing() {
    let mut tasks = ById::<RandomState>::of_distinct(some(1_000));
    let held = tasks.clone();
    assert_eq!(tasks.remove(TaskId(-1)), None);
    assert!(Arc::ptr_eq(&tasks.root, &held.root));
}

fn some(count: usize) -> impl Iterator<Item = Arc<Task>> {
    (0..count).map(|id| Arc::new(samples::task(id as i64, 0)))
}

fn leaves(branch: &Branch) -> usize {
    let starts = (0..WIDTH).filter(|place| run(branch, *place).start == *place);
    let count = starts.map(|place| match &branch[place] {
        Node::Branch(below) => leaves(below),
        Node::Leaf(_) => 1,
    });
    count.sum()
}
