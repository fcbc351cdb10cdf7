//! Merging the sorted buckets of an index into one sorted sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The entries of all `sources`, each of which is sorted by a key that no other has, in the order of the keys.
pub(crate) fn merge<'a, K, V, S>(sources: impl Iterator<Item = S>) -> impl Iterator<Item = (&'a K, &'a V)>
where
    K: Ord + Copy + 'a,
    V: 'a,
    S: Iterator<Item = (&'a K, &'a V)>,
{
    let (mut heads, mut rests) = (BinaryHeap::new(), Vec::new());
    for mut source in sources {
        if let Some(entry) = source.next() {
            heads.push(Reverse((*entry.0, rests.len())));
            rests.push((entry, source));
        }
    }
    std::iter::from_fn(move || {
        let mut smallest = heads.peek_mut()?;
        let Reverse((_, position)) = *smallest;
        let (entry, rest) = rests.get_mut(position)?;
        let result = *entry;
        match rest.next() {
            Some(next) => {
                *smallest = Reverse((*next.0, position));
                *entry = next;
            }
            None => drop(PeekMut::pop(smallest)),
        }
        Some(result)
    })
}
