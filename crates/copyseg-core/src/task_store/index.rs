//! A persistent index: for each key the ids found under it, in order.

use imbl::{OrdMap, OrdSet};

/// The ids found under each key. A key without ids is not kept.
#[derive(Debug, Clone)]
pub(crate) struct Index<K: Ord, I: Ord> {
    buckets: OrdMap<K, OrdSet<I>>,
}

impl<K: Ord, I: Ord> Default for Index<K, I> {
    fn default() -> Self {
        Self { buckets: OrdMap::new() }
    }
}

impl<K: Ord + Copy, I: Ord + Copy> Index<K, I> {
    /// The ids under `key`.
    pub(crate) fn get(&self, key: &K) -> Option<&OrdSet<I>> {
        self.buckets.get(key)
    }

    /// How many ids are under `key`.
    pub(crate) fn count(&self, key: &K) -> usize {
        self.buckets.get(key).map_or(0, OrdSet::len)
    }

    /// Moves `id` from the keys of its old record to those of its new one; keys that stay are not touched.
    pub(crate) fn replace<const N: usize>(&mut self, id: I, old: [Option<K>; N], new: [Option<K>; N]) {
        for (old, new) in old.into_iter().zip(new).filter(|(old, new)| old != new) {
            if let Some(key) = old {
                self.remove(key, id);
            }
            if let Some(key) = new {
                self.buckets.entry(key).or_default().insert(id);
            }
        }
    }

    fn remove(&mut self, key: K, id: I) {
        let emptied = self.buckets.get_mut(&key).is_some_and(|ids| {
            ids.remove(&id);
            ids.is_empty()
        });
        if emptied {
            self.buckets.remove(&key);
        }
    }
}
