//! Persistent indexes: under each key, or in each state, the ids that it leads to.

use std::array;
use std::collections::HashMap;
use std::hash::Hash;

use crate::id::Id;
use crate::id_map::IdMap;
use crate::id_set::IdSet;

/// Which ids are found under a key. A key that leads to none is not kept.
#[derive(Debug, Clone)]
pub(crate) struct Index<K, I>(IdMap<K, IdSet<I>>);

impl<K: Id, I: Id> Index<K, I> {
    /// The ids under `key`, unless there are none.
    pub(crate) fn get(&self, key: K) -> Option<&IdSet<I>> {
        self.0.get(key)
    }

    /// How many ids are under `key`.
    pub(crate) fn count(&self, key: K) -> usize {
        self.get(key).map_or(0, IdSet::len)
    }

    /// Takes `id` away from its old key, if it had one, and puts it under its new one, if it has one.
    pub(crate) fn replace(&mut self, id: I, old: Option<K>, new: Option<K>) {
        if old == new {
            return;
        }
        if let Some(key) = old.filter(|key| self.0.get(*key).is_some()) {
            let is_empty = self.0.change(key, |ids| {
                ids.remove(id);
                ids.is_empty()
            });
            if is_empty {
                self.0.remove(key);
            }
        }
        if let Some(key) = new {
            self.0.change(key, |ids| ids.insert(id));
        }
    }
}

impl<K, I> Default for Index<K, I> {
    fn default() -> Self {
        Self(IdMap::default())
    }
}

/// The entries come in the order of their ids.
impl<K: Id + Hash, I: Id> FromIterator<(K, I)> for Index<K, I> {
    fn from_iter<T: IntoIterator<Item = (K, I)>>(entries: T) -> Self {
        let mut ids: HashMap<K, Vec<I>> = HashMap::new();
        for (key, id) in entries {
            ids.entry(key).or_default().push(id);
        }
        let mut sets: Vec<_> = ids.into_iter().map(|(key, ids)| (key, ids.into_iter().collect())).collect();
        sets.sort_by_key(|(key, _)| *key);
        Self(sets.into_iter().collect())
    }
}

/// Which ids are in each of `N` states, which go by their numbers.
#[derive(Debug, Clone)]
pub(crate) struct ByState<I, const N: usize>([IdSet<I>; N]);

impl<I: Id, const N: usize> ByState<I, N> {
    /// The ids in one state.
    pub(crate) fn get(&self, state: usize) -> &IdSet<I> {
        &self.0[state]
    }

    /// Takes `id` out of its old state, if it had one, and puts it into its new one, if it has one.
    pub(crate) fn replace(&mut self, id: I, old: Option<usize>, new: Option<usize>) {
        if old == new {
            return;
        }
        if let Some(state) = old {
            self.0[state].remove(id);
        }
        if let Some(state) = new {
            self.0[state].insert(id);
        }
    }
}

impl<I, const N: usize> Default for ByState<I, N> {
    fn default() -> Self {
        Self(array::from_fn(|_| IdSet::default()))
    }
}

/// The entries come in the order of their ids.
impl<I: Id, const N: usize> FromIterator<(usize, I)> for ByState<I, N> {
    fn from_iter<T: IntoIterator<Item = (usize, I)>>(entries: T) -> Self {
        let mut ids: [Vec<I>; N] = array::from_fn(|_| Vec::new());
        for (state, id) in entries {
            ids[state].push(id);
        }
        Self(ids.map(IdSet::from_iter))
    }
}
