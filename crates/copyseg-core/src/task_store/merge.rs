//! Merging the sorted buckets of an index into one sorted sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The values of all `sources`, each of which is sorted by a key that no other has, in the order of the keys.
pub(crate) fn merge<'a, K, V, S>(sources: impl Iterator<Item = S>) -> impl Iterator<Item = &'a V>
where
    K: Ord + Copy + 'a,
    V: 'a,
    S: Iterator<Item = (&'a K, &'a V)>,
{
    let (mut heads, mut rests) = (BinaryHeap::new(), Vec::new());
    for mut source in sources {
        if let Some((key, value)) = source.next() {
            heads.push(Reverse((*key, rests.len())));
            rests.push((value, source));
        }
    }
    std::iter::from_fn(move || {
        let mut smallest = heads.peek_mut()?;
        let Reverse((_, position)) = *smallest;
        let (value, rest) = rests.get_mut(position)?;
        let result = *value;
        match rest.next() {
            Some((key, next)) => {
                *smallest = Reverse((*key, position));
                *value = next;
            }
            None => drop(PeekMut::pop(smallest)),
        }
        Some(result)
    })
}
