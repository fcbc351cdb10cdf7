//! Merging sequences that are in order into one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The items of all `sources`, each of which is sorted by a key that no other item has, in the order of the keys.
pub(crate) fn merge<T: Copy, K: Ord, S: Iterator<Item = T>>(
    sources: impl Iterator<Item = S>,
    key: impl Fn(T) -> K,
) -> impl Iterator<Item = T> {
    let mut sources = sources.fuse();
    let (first, second) = (sources.next(), sources.next());
    // Most filters lead to one source, which is in order by itself.
    let (mut only, several) = match second {
        None => (first, None),
        Some(second) => (None, first.map(|first| [first, second].into_iter().chain(sources))),
    };
    let mut several = merge_several(several.into_iter().flatten(), key);
    std::iter::from_fn(move || match &mut only {
        Some(only) => only.next(),
        None => several.next(),
    })
}

fn merge_several<T: Copy, K: Ord, S: Iterator<Item = T>>(
    sources: impl Iterator<Item = S>,
    key: impl Fn(T) -> K,
) -> impl Iterator<Item = T> {
    let (mut heads, mut rests) = (BinaryHeap::new(), Vec::new());
    for mut source in sources {
        if let Some(item) = source.next() {
            heads.push(Reverse((key(item), rests.len())));
            rests.push((item, source));
        }
    }
    std::iter::from_fn(move || {
        let mut smallest = heads.peek_mut()?;
        let Reverse((smallest_key, position)) = &mut *smallest;
        let (item, rest) = rests.get_mut(*position)?;
        let result = *item;
        match rest.next() {
            Some(next) => (*smallest_key, *item) = (key(next), next),
            None => drop(PeekMut::pop(smallest)),
        }
        Some(result)
    })
}
