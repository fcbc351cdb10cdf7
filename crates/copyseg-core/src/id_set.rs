//! A persistent set of ids.

use std::marker::PhantomData;

use crate::id::Id;
use crate::id_map::IdMap;

/// Ids in order. A clone costs the same at any size, a change as much as one of an [`IdMap`].
///
/// It holds ids and nothing that they lead to, so that copying a leaf of it counts no references. Ids that follow each
/// other, as those of a counter do, share words; where none does, a word takes as much as an id and a pointer would.
#[derive(Debug, Clone)]
pub(crate) struct IdSet<I> {
    /// The ids by all their bits but the last six, which say which bit of a word is theirs. A word without ids is not kept.
    words: IdMap<i64, u64>,
    len: usize,
    ids: PhantomData<I>,
}

/// How many bits say which bit of a word is that of an id.
const BITS: u32 = u64::BITS.ilog2();

impl<I: Id> IdSet<I> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn insert(&mut self, id: I) {
        let bit = bit_of(id);
        let is_new = self.words.change(word_of(id), |word| {
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        });
        self.len += usize::from(is_new);
    }

    pub(crate) fn remove(&mut self, id: I) {
        // What is not there must not copy a path.
        if self.words.get(word_of(id)).is_none_or(|word| word & bit_of(id) == 0) {
            return;
        }
        self.len -= 1;
        let is_last = self.words.change(word_of(id), |word| {
            *word &= !bit_of(id);
            *word == 0
        });
        if is_last {
            self.words.remove(word_of(id));
        }
    }

    /// The ids behind `after`, or all of them.
    pub(crate) fn iter_after(&self, after: Option<I>) -> impl Iterator<Item = I> {
        let first = I::first_after(after);
        let mut words = first.map(|first| self.words.iter_from(word_of(first)));
        let (mut number, mut left) = (0, 0u64);
        // Not of nested iterators, which ask each other for every id.
        std::iter::from_fn(move || {
            while left == 0 {
                let (next, word) = words.as_mut()?.next()?;
                let before =
                    first.filter(|first| word_of(*first) == next).map_or(0, |first| bit_of(first) - 1);
                (number, left) = (next, word & !before);
            }
            let bit = left.trailing_zeros();
            left &= left - 1;
            Some(I::from_number(number << BITS | i64::from(bit)))
        })
    }
}

impl<I> Default for IdSet<I> {
    fn default() -> Self {
        Self { words: IdMap::default(), len: 0, ids: PhantomData }
    }
}

/// Of ids in their order.
impl<I: Id> FromIterator<I> for IdSet<I> {
    fn from_iter<T: IntoIterator<Item = I>>(ids: T) -> Self {
        let mut words: Vec<(i64, u64)> = Vec::new();
        for id in ids {
            match words.last_mut() {
                Some((number, word)) if *number == word_of(id) => *word |= bit_of(id),
                _ => words.push((word_of(id), bit_of(id))),
            }
        }
        let len = words.iter().map(|(_, word)| word.count_ones() as usize).sum();
        Self { words: words.into_iter().collect(), len, ids: PhantomData }
    }
}

fn word_of(id: impl Id) -> i64 {
    id.number() >> BITS
}

fn bit_of(id: impl Id) -> u64 {
    1 << (id.number() & (i64::from(u64::BITS) - 1))
}

#[cfg(test)]
mod tests;
