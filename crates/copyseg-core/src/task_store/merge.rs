//! Merging the few sorted buckets of an index into one sorted sequence.

/// The items of all `sources`, each of which is sorted, in order. Made for a handful of sources.
pub(crate) fn merge<T: Ord + Copy, S: Iterator<Item = T>>(
    sources: impl Iterator<Item = S>,
) -> impl Iterator<Item = T> {
    let mut sources: Vec<_> = sources
        .filter_map(|mut source| {
            let head = source.next()?;
            Some((head, source))
        })
        .collect();
    std::iter::from_fn(move || {
        let (position, _) = sources.iter().enumerate().min_by_key(|(_, (head, _))| *head)?;
        let (head, source) = sources.get_mut(position)?;
        let smallest = *head;
        match source.next() {
            Some(next) => *head = next,
            None => drop(sources.swap_remove(position)),
        }
        Some(smallest)
    })
}
