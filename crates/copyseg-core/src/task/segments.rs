//! What a task copies: segment pairs, packed, because they are most of what a task weighs in memory.

mod packing;

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use self::packing::{Check, Unpack, pack_integer, pack_pair};
use crate::id::{PartitionId, SegmentId};

/// One segment to copy, and what the plan saw of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct SegmentPair {
    /// The segment in the snapshot.
    pub source: SegmentId,
    /// The segment it becomes in the target.
    pub target: SegmentId,
    /// The target partition, where there is one.
    pub partition: Option<PartitionId>,
    /// How many files it had when the job was planned; 0 where unknown.
    pub files: u32,
    /// How many bytes it had when the job was planned; 0 where unknown.
    pub bytes: u64,
    /// A hash of its files' names, sizes and etags or times when the job was planned; 0 where unknown. A string in
    /// JSON, like an id.
    #[serde(serialize_with = "as_text")]
    pub fingerprint: u64,
}

impl SegmentPair {
    /// A pair of which nothing but the ids is known.
    pub const fn new(source: SegmentId, target: SegmentId) -> Self {
        Self { source, target, partition: None, files: 0, bytes: 0, fingerprint: 0 }
    }
}

/// The segment pairs of one task: immutable, cheap to clone, and packed.
///
/// A pair takes 3 bytes where only its ids are known and follow those of the pair before, and about 16 with everything
/// that a plan sees; an array would take 56 for each.
///
/// ```
/// # use copyseg_core::{SegmentId, SegmentPair, Segments};
/// let pairs = [(1, 101), (2, 102)].map(|(source, target)| SegmentPair::new(SegmentId(source), SegmentId(target)));
/// let segments: Segments = pairs.into_iter().collect();
/// assert_eq!(segments.len(), 2);
/// assert!(segments.iter().eq(pairs));
/// ```
// The number of pairs, the sum of their bytes, then the pairs, as `packing` has them. Frozen: schema 2 of a task's record
// holds these bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Segments(Arc<[u8]>);

const ZERO: SegmentPair = SegmentPair::new(SegmentId(0), SegmentId(0));

/// What stands before the pairs takes no more: two integers of 64 bits, seven in a byte.
const HEAD_BYTES_MAX: usize = 20;

/// How many bytes a pair takes, about, with everything that a plan sees.
const PAIR_BYTES: usize = 16;

/// For how many pairs room is made at once, at most: damaged bytes may say how many are to come.
const ROOM_PAIRS_MAX: usize = 256;

impl Segments {
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.parts().0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs, in the order they were given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SegmentPair> + '_ {
        let (length, _, mut packed) = self.parts();
        let mut previous = ZERO;
        (0..length).map(move |_| {
            previous = packed.pair(&previous);
            previous
        })
    }

    /// The planned bytes of all pairs, added up when they were packed.
    pub fn bytes(&self) -> u64 {
        self.parts().1
    }

    /// What [`from_packed`](Self::from_packed) takes.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.0
    }

    /// Pairs as they were [`packed`](Self::packed), or `None` if these bytes never were: each number may be any, but all
    /// are there, nothing follows them, and each is written in the one way in which it is packed.
    pub(crate) fn from_packed(packed: &[u8]) -> Option<Self> {
        let mut rest = Check(packed);
        let (length, bytes) = (rest.integer()?, rest.integer()?);
        let mut sum = 0u64;
        for _ in 0..length {
            sum = sum.saturating_add(rest.pair()?);
        }
        (rest.0.is_empty() && sum == bytes).then(|| Self(packed.into()))
    }

    fn parts(&self) -> (usize, u64, Unpack<'_>) {
        let mut packed = Unpack(&self.0);
        (packed.integer() as usize, packed.integer(), packed)
    }
}

impl FromIterator<SegmentPair> for Segments {
    fn from_iter<I: IntoIterator<Item = SegmentPair>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let room = pairs.size_hint().1.unwrap_or_default().min(ROOM_PAIRS_MAX) * PAIR_BYTES;
        let mut packed = Vec::with_capacity(HEAD_BYTES_MAX + room);
        packed.resize(HEAD_BYTES_MAX, 0);
        let (mut length, mut bytes, mut previous) = (0, 0u64, ZERO);
        for pair in pairs {
            length += 1;
            bytes = bytes.saturating_add(pair.bytes);
            pack_pair(&mut packed, &previous, &pair);
            previous = pair;
        }
        let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
        pack_integer(&mut head, length);
        pack_integer(&mut head, bytes);
        let begin = HEAD_BYTES_MAX - head.len();
        packed[begin..HEAD_BYTES_MAX].copy_from_slice(&head);
        Self(packed[begin..].into())
    }
}

fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Segments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::packing::HAS_FILES;
    use super::*;

    /// Ids from everywhere, and ids close together, as the counter gives them out.
    fn any_id() -> impl Strategy<Value = i64> {
        prop_oneof![
            any::<i64>(),
            450_000_000_000_000_000..450_000_000_000_000_300i64,
            Just(i64::MIN),
            Just(i64::MAX)
        ]
    }

    fn any_pair() -> impl Strategy<Value = SegmentPair> {
        let number = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0..300u64];
        let partition = proptest::option::of(any_id().prop_map(PartitionId));
        (any_id(), any_id(), partition, any::<u32>(), number(), number()).prop_map(
            |(source, target, partition, files, bytes, fingerprint)| SegmentPair {
                source: SegmentId(source),
                target: SegmentId(target),
                partition,
                files,
                bytes,
                fingerprint,
            },
        )
    }

    proptest! {
        #[test]
        fn pairs_come_back_as_they_were_given(pairs in proptest::collection::vec(any_pair(), 0..20)) {
            let segments: Segments = pairs.iter().copied().collect();
            prop_assert_eq!(segments.len(), pairs.len());
            prop_assert_eq!(segments.is_empty(), pairs.is_empty());
            prop_assert_eq!(segments.iter().len(), pairs.len());
            prop_assert_eq!(segments.bytes(), pairs.iter().fold(0, |sum: u64, pair| sum.saturating_add(pair.bytes)));
            prop_assert_eq!(segments.iter().collect::<Vec<_>>(), pairs);
            prop_assert_eq!(Segments::from_packed(segments.packed()), Some(segments));
        }

        /// So that equal pairs are equal bytes, wherever they come from.
        #[test]
        fn bytes_are_taken_only_if_their_pairs_are_packed_like_that(
            pairs in proptest::collection::vec(any_pair(), 0..6),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3), length in 0..90usize,
        ) {
            let mut bytes = pairs.iter().copied().collect::<Segments>().0.to_vec();
            bytes.truncate(length.max(1));
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = *byte);
            if let Some(segments) = Segments::from_packed(&bytes) {
                prop_assert_eq!(segments.iter().collect::<Segments>(), segments);
            }
        }
    }

    /// Two pairs with everything, from the front: their number, the sum of their bytes, and the first of them.
    #[rstest]
    #[case::a_pair_less_than_they_say(0, &[3])]
    #[case::a_pair_more_than_they_say(0, &[1, 3])]
    #[case::another_sum(1, &[8])]
    #[case::an_unknown_flag(2, &[0x1f])]
    #[case::a_number_that_could_be_shorter(2, &[0, 0x82, 0])]
    #[case::no_files(6, &[0])]
    #[case::no_bytes(1, &[3, 0x0f, 2, 4, 6, 4, 0])]
    #[case::no_fingerprint(8, &[0; 8])]
    fn bytes_that_were_never_packed_are_refused(#[case] at: usize, #[case] change: &[u8]) {
        let pair = SegmentPair {
            partition: Some(PartitionId(3)),
            files: 4,
            bytes: 3,
            fingerprint: 6,
            ..SegmentPair::new(SegmentId(1), SegmentId(2))
        };
        let mut bytes = [pair, pair].into_iter().collect::<Segments>().0.to_vec();
        assert_eq!(bytes[..16], [2, 6, 0x0f, 2, 4, 6, 4, 3, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert!(Segments::from_packed(&bytes).is_some());
        bytes[at..at + change.len()].copy_from_slice(change);
        assert_eq!(Segments::from_packed(&bytes), None);
    }

    /// One pair with nothing but a number of files.
    #[rstest]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0x0f], Some(u32::MAX))]
    #[case(&[0x80, 0x80, 0x80, 0x80, 0x10], None)]
    fn a_number_of_files_has_32_bits(#[case] files: &[u8], #[case] expected: Option<u32>) {
        let segments = Segments::from_packed(&[&[1, 0, HAS_FILES, 0, 0], files].concat());
        assert_eq!(segments.map(|segments| segments.iter().next().unwrap().files), expected);
    }

    #[test]
    fn a_fingerprint_is_a_string_in_json() {
        let pair = SegmentPair { fingerprint: u64::MAX, ..ZERO };
        let json = serde_json::to_value(pair).unwrap();
        assert_eq!(json["fingerprint"], "18446744073709551615");
    }

    #[test]
    fn pairs_whose_ids_follow_each_other_are_small() {
        let pair = |id: i64| SegmentPair::new(SegmentId((1i64 << 60) + id), SegmentId((1i64 << 61) + id));
        let segments: Segments = (0..1_000).map(pair).collect();
        assert!(segments.0.len() < 3 * 1_000 + 40, "{} bytes", segments.0.len());
    }
}
