//! The set equals a plain one.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use proptest::prelude::*;

use super::*;

fn any_id() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -70..200i64,
        1 => (0..3i64).prop_map(|number| i64::MIN + 63 * number),
        1 => (0..3i64).prop_map(|number| i64::MAX - 63 * number),
        1 => any::<i64>(),
    ]
}

fn check(set: &IdSet<i64>, model: &BTreeSet<i64>) {
    assert_eq!(set.len(), model.len());
    assert_eq!(set.is_empty(), model.is_empty());
    assert!(set.iter_after(None).eq(model.iter().copied()));
    assert!(set.words.iter().all(|(_, word)| *word != 0), "a word without ids is kept");
}

proptest! {
    #[test]
    fn it_equals_a_plain_set_and_so_does_every_clone(
        first in proptest::collection::btree_set(any_id(), 0..80),
        changes in proptest::collection::vec((any::<bool>(), any_id()), 0..80),
        cursors in proptest::collection::vec(any_id(), 0..20),
    ) {
        let (mut set, mut model): (IdSet<i64>, _) = (first.iter().copied().collect(), first);
        check(&set, &model);
        for (adds, id) in changes {
            let (held, held_model) = (set.clone(), model.clone());
            if adds {
                set.insert(id);
                model.insert(id);
            } else {
                set.remove(id);
                model.remove(&id);
            }
            check(&set, &model);
            check(&held, &held_model);
        }
        for after in cursors.into_iter().chain(model.iter().copied()) {
            let behind = model.range((Excluded(after), Unbounded)).copied();
            prop_assert!(set.iter_after(Some(after)).eq(behind));
        }
    }
}
