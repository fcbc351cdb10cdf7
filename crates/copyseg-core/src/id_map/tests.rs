//! The map equals a plain one, keeps its shape, and leaves what was cloned before as it was.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use proptest::prelude::*;
use rstest::rstest;

use super::*;

type Map = IdMap<i64, u32>;
type Model = BTreeMap<i64, u32>;

/// Ids in a row, around zero and in the middle of nowhere, with gaps, and at both ends.
fn any_id() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -40..100i64,
        2 => 450_000_000_000_000_000..450_000_000_000_000_100i64,
        2 => (0..60i64).prop_map(|number| number * 1_000),
        2 => (0..64u32, 0..4i64).prop_map(|(bit, low)| (1 << bit) ^ low),
        1 => (0..9i64).prop_map(|number| i64::MIN + number),
        1 => (0..9i64).prop_map(|number| i64::MAX - number),
        1 => any::<i64>(),
    ]
}

#[derive(Debug, Clone)]
enum Change {
    Insert(i64, u32),
    Add(i64),
    Remove(i64),
    RemoveEvery(usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (any_id(), any::<u32>()).prop_map(|(id, value)| Change::Insert(id, value)),
        2 => any_id().prop_map(Change::Add),
        4 => any_id().prop_map(Change::Remove),
        1 => (1..4usize).prop_map(Change::RemoveEvery),
    ]
}

fn apply(change: &Change, map: &mut Map, model: &mut Model) {
    match *change {
        Change::Insert(id, value) => assert_eq!(map.insert(id, value), model.insert(id, value)),
        Change::Add(id) => {
            let value = model.entry(id).or_default();
            *value = value.wrapping_add(1);
            let changed = map.change(id, |value| {
                *value = value.wrapping_add(1);
                *value
            });
            assert_eq!(changed, *value);
        }
        Change::Remove(id) => assert_eq!(map.remove(id), model.remove(&id)),
        Change::RemoveEvery(step) => {
            for id in model.keys().copied().step_by(step).collect::<Vec<_>>() {
                assert_eq!(map.remove(id), model.remove(&id));
            }
        }
    }
}

fn check(map: &Map, model: &Model) {
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model.iter().map(|(id, value)| (*id, value))));
    match &map.root {
        Some(root) => assert_eq!(entries_of(root), model.len()),
        None => assert!(model.is_empty()),
    }
}

/// How many entries are below a node of the right shape: each where its id leads, in a leaf that is not too large, and no
/// branch that a smaller node should stand for.
fn entries_of(node: &Node<i64, u32>) -> usize {
    match node {
        Node::Branch(branch) => {
            assert!(branch.children().count() >= 2, "a branch with a single child");
            assert!(ids_of(node).len() > LEAF_MAX / 2, "a leaf would do");
            let places = (0..WIDTH).map(|place| match &branch.below.children[place] {
                Some(child) => {
                    for id in ids_of(child) {
                        assert!(branch.covers(bits(id)));
                        assert_eq!(place_of(bits(id), branch.shift), place);
                    }
                    entries_of(child)
                }
                None => 0,
            });
            places.sum()
        }
        Node::Leaf(leaf) => {
            assert!((1..=LEAF_MAX).contains(&leaf.len()), "{}", leaf.len());
            assert!(leaf.is_sorted_by_key(|entry| entry.0));
            leaf.len()
        }
    }
}

fn ids_of(node: &Node<i64, u32>) -> Vec<i64> {
    match node {
        Node::Branch(branch) => branch.children().flat_map(ids_of).collect(),
        Node::Leaf(leaf) => leaf.iter().map(|entry| entry.0).collect(),
    }
}

fn leaves(node: &Node<i64, u32>) -> usize {
    match node {
        Node::Branch(branch) => branch.children().map(leaves).sum(),
        Node::Leaf(_) => 1,
    }
}

fn rows(count: i64) -> Map {
    (0..count).map(|id| (id, 0)).collect()
}

proptest! {
    #[test]
    fn it_equals_a_plain_map_and_so_does_every_clone(
        first in proptest::collection::btree_map(any_id(), any::<u32>(), 0..120),
        changes in proptest::collection::vec(any_change(), 0..60),
    ) {
        let (mut map, mut model): (Map, Model) = (first.clone().into_iter().collect(), first);
        check(&map, &model);
        for change in &changes {
            let (held, held_model) = (map.clone(), model.clone());
            apply(change, &mut map, &mut model);
            check(&map, &model);
            check(&held, &held_model);
        }
    }

    #[test]
    fn what_is_looked_up_alone_together_or_behind_a_cursor_is_what_a_plain_map_has(
        model in proptest::collection::btree_map(any_id(), any::<u32>(), 0..200),
        ids in proptest::collection::vec(any_id(), 0..100),
    ) {
        let map: Map = model.clone().into_iter().collect();
        for id in &ids {
            prop_assert_eq!(map.get(*id), model.get(id));
            let behind = model.range((Excluded(*id), Unbounded)).map(|(id, value)| (*id, value));
            prop_assert!(map.iter_after(Some(*id)).eq(behind));
            let from = model.range(id..).map(|(id, value)| (*id, value));
            prop_assert!(map.iter_from(*id).eq(from));
        }
        let found = map.get_each(ids.iter().copied());
        prop_assert!(found.eq(ids.iter().filter_map(|id| model.get(id))));
    }
}

#[rstest]
#[case::in_a_row(1)]
#[case::with_gaps(1_000)]
#[case::far_apart(1 << 50)]
fn what_lost_all_its_entries_is_as_small_as_a_new_one(#[case] step: i64) {
    let mut map = Map::default();
    for id in 0..3_000 {
        map.insert(id * step, 0);
    }
    for id in 0..3_000 {
        assert_eq!(map.remove(id * step), Some(0));
    }
    assert!(map.root.is_none());
    assert_eq!(map.len(), 0);
}

#[test]
fn leaves_of_ids_in_a_row_are_full_however_they_came() {
    let at_once = rows(4_096);
    let mut one_by_one = Map::default();
    for id in (0..4_096).rev() {
        one_by_one.insert(id, 0);
    }
    for map in [at_once, one_by_one] {
        assert_eq!(map.root.as_ref().map(leaves), Some(4_096 / LEAF_MAX));
    }
}

#[test]
fn a_leaf_is_split_when_it_is_full_and_not_made_of_its_parts_again_at_once() {
    let full = LEAF_MAX as i64;
    let mut map = rows(full);
    assert_eq!(map.root.as_ref().map(leaves), Some(1));
    map.insert(full, 0);
    assert_eq!(map.root.as_ref().map(leaves), Some(2));
    map.remove(0);
    assert_eq!(map.root.as_ref().map(leaves), Some(2));
    assert!((1..full - 3).all(|id| map.remove(id).is_some()));
    assert_eq!(map.root.as_ref().map(leaves), Some(1), "{:?}", map.root.as_ref().map(ids_of));
}

#[test]
fn looking_for_what_is_not_there_copies_nothing() {
    let mut map = rows(1_000);
    let held = map.clone();
    assert_eq!(map.remove(-1), None);
    assert_eq!(map.remove(1_000), None);
    assert!(map.get_each([-1, 1_000].into_iter()).next().is_none());
    let (Some(Node::Branch(branch)), Some(Node::Branch(of_held))) = (&map.root, &held.root) else {
        panic!("a thousand entries are below a branch")
    };
    assert!(Arc::ptr_eq(&branch.below, &of_held.below));
}

#[test]
fn a_change_copies_one_path_and_leaves_the_rest_shared() {
    let mut map = rows(1_000);
    let held = map.clone();
    map.insert(500, 7);
    assert_eq!(shared_leaves(map.root.as_ref(), held.root.as_ref()), 1_000 / LEAF_MAX - 1);
    assert_eq!(held.get(500), Some(&0));
}

fn shared_leaves(one: Option<&Node<i64, u32>>, other: Option<&Node<i64, u32>>) -> usize {
    match (one, other) {
        (Some(Node::Leaf(one)), Some(Node::Leaf(other))) => usize::from(Arc::ptr_eq(one, other)),
        (Some(Node::Branch(one)), Some(Node::Branch(other))) => {
            let children = |place: usize| (&one.below.children[place], &other.below.children[place]);
            let shared =
                (0..WIDTH).map(children).map(|(one, other)| shared_leaves(one.as_ref(), other.as_ref()));
            shared.sum()
        }
        _ => 0,
    }
}
