//! A persistent index: under each key a bucket of entries, in id order.

use std::collections::HashMap;
use std::hash::Hash;

use imbl::OrdMap;

use super::build::dense;

/// Buckets by key. An empty bucket is not kept.
#[derive(Debug, Clone)]
pub(crate) struct Index<K: Ord, I: Ord, V> {
    buckets: OrdMap<K, OrdMap<I, V>>,
}

impl<K: Ord, I: Ord, V> Default for Index<K, I, V> {
    fn default() -> Self {
        Self { buckets: OrdMap::new() }
    }
}

impl<K: Ord + Copy, I: Ord + Copy, V: Clone> Index<K, I, V> {
    /// The bucket of `key`, unless it is empty.
    pub(crate) fn get(&self, key: K) -> Option<&OrdMap<I, V>> {
        self.buckets.get(&key)
    }

    /// How many entries are under `key`.
    pub(crate) fn count(&self, key: K) -> usize {
        self.get(key).map_or(0, OrdMap::len)
    }

    /// Takes the entry `id` out of the bucket of its old key, if there is one, and puts it with `value` into
    /// that of its new key, if there is one.
    pub(crate) fn replace(&mut self, id: I, old: Option<K>, new: Option<K>, value: V) {
        if let Some(key) = old.filter(|_| old != new) {
            self.remove(key, id);
        }
        if let Some(key) = new {
            self.buckets.entry(key).or_default().insert(id, value);
        }
    }

    fn remove(&mut self, key: K, id: I) {
        let emptied = self.buckets.get_mut(&key).is_some_and(|bucket| {
            bucket.remove(&id);
            bucket.is_empty()
        });
        if emptied {
            self.buckets.remove(&key);
        }
    }
}

/// The entries come in the order of their ids.
impl<K: Ord + Copy + Hash, I: Ord + Copy, V: Clone> FromIterator<(K, I, V)> for Index<K, I, V> {
    fn from_iter<T: IntoIterator<Item = (K, I, V)>>(entries: T) -> Self {
        let mut buckets: HashMap<K, Vec<(I, V)>> = HashMap::new();
        for (key, id, value) in entries {
            buckets.entry(key).or_default().push((id, value));
        }
        Self { buckets: buckets.into_iter().map(|(key, bucket)| (key, dense(bucket.into_iter()))).collect() }
    }
}
