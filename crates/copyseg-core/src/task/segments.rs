//! What a task copies: segment pairs, packed, because they are most of what a task weighs in memory.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

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
// The number of pairs, the sum of their bytes, then the pairs, in variable-length integers. An id is the
// difference to that of the pair before; a field that is zero or absent is a bit of the first byte instead.
// Frozen: schema 2 of a task's record holds these bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Segments(Arc<[u8]>);

const ZERO: SegmentPair = SegmentPair::new(SegmentId(0), SegmentId(0));

/// What stands before the pairs takes no more: two integers of 64 bits, seven in a byte.
const HEAD_BYTES_MAX: usize = 20;

/// How many bytes a pair takes, about, with everything that a plan sees.
const PAIR_BYTES: usize = 16;

/// For how many pairs room is made at once, at most: damaged bytes may say how many are to come.
const ROOM_PAIRS_MAX: usize = 256;

const HAS_PARTITION: u8 = 1;
const HAS_FILES: u8 = 2;
const HAS_BYTES: u8 = 4;
const HAS_FINGERPRINT: u8 = 8;

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

fn pack_pair(packed: &mut Vec<u8>, previous: &SegmentPair, pair: &SegmentPair) {
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    packed.push(
        flag(pair.partition.is_some(), HAS_PARTITION)
            | flag(pair.files != 0, HAS_FILES)
            | flag(pair.bytes != 0, HAS_BYTES)
            | flag(pair.fingerprint != 0, HAS_FINGERPRINT),
    );
    pack_difference(packed, previous.source.0, pair.source.0);
    pack_difference(packed, previous.target.0, pair.target.0);
    if let Some(partition) = pair.partition {
        pack_difference(packed, previous.partition.unwrap_or_default().0, partition.0);
    }
    if pair.files != 0 {
        pack_integer(packed, pair.files.into());
    }
    if pair.bytes != 0 {
        pack_integer(packed, pair.bytes);
    }
    if pair.fingerprint != 0 {
        packed.extend(pair.fingerprint.to_le_bytes());
    }
}

/// Zigzag, so that a small difference is short in either direction.
fn pack_difference(packed: &mut Vec<u8>, from: i64, to: i64) {
    let difference = to.wrapping_sub(from);
    pack_integer(packed, (difference << 1 ^ difference >> 63).cast_unsigned());
}

/// LEB128: seven bits a byte, the lowest first; the high bit says that more follow.
fn pack_integer(packed: &mut Vec<u8>, mut integer: u64) {
    while integer >= 0x80 {
        packed.push(integer as u8 | 0x80);
        integer >>= 7;
    }
    packed.push(integer as u8);
}

/// Looks whether bytes from elsewhere are what this module packs, from the front. Once, so that [`Unpack`] needs no errors.
struct Check<'a>(&'a [u8]);

impl Check<'_> {
    /// Its planned bytes.
    fn pair(&mut self) -> Option<u64> {
        let flags = self.byte()?;
        let has = |flag: u8| flags & flag != 0;
        self.integer()?;
        self.integer()?;
        if has(HAS_PARTITION) {
            self.integer()?;
        }
        if has(HAS_FILES) {
            u32::try_from(self.integer()?).ok().filter(|files| *files != 0)?;
        }
        let bytes = if has(HAS_BYTES) { Some(self.integer()?).filter(|bytes| *bytes != 0)? } else { 0 };
        if has(HAS_FINGERPRINT) {
            self.0.split_off(..8).filter(|fingerprint| **fingerprint != [0; 8])?;
        }
        (flags <= HAS_PARTITION | HAS_FILES | HAS_BYTES | HAS_FINGERPRINT).then_some(bytes)
    }

    fn integer(&mut self) -> Option<u64> {
        let mut integer = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            integer |= bits << shift;
            if byte < 0x80 {
                let is_shortest = byte != 0 || shift == 0;
                return (is_shortest && integer >> shift == bits).then_some(integer);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }
}

/// Reads what was packed, from the front. It only ever sees what this module has packed, or [`Check`] has found to be that.
struct Unpack<'a>(&'a [u8]);

impl Unpack<'_> {
    fn pair(&mut self, previous: &SegmentPair) -> SegmentPair {
        let flags = self.byte();
        let has = |flag: u8| flags & flag != 0;
        SegmentPair {
            source: SegmentId(self.difference(previous.source.0)),
            target: SegmentId(self.difference(previous.target.0)),
            partition: has(HAS_PARTITION)
                .then(|| PartitionId(self.difference(previous.partition.unwrap_or_default().0))),
            files: if has(HAS_FILES) { self.integer() as u32 } else { 0 },
            bytes: if has(HAS_BYTES) { self.integer() } else { 0 },
            fingerprint: if has(HAS_FINGERPRINT) { self.word() } else { 0 },
        }
    }

    fn difference(&mut self, from: i64) -> i64 {
        let zigzag = self.integer();
        from.wrapping_add((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn integer(&mut self) -> u64 {
        let mut integer = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte();
            integer |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        integer
    }

    fn word(&mut self) -> u64 {
        (0..u64::BITS).step_by(8).fold(0, |word, shift| word | u64::from(self.byte()) << shift)
    }

    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

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

    /// Seven bits in each of nine bytes, and one in the tenth.
    #[rstest]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some(u64::MAX))]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], None)]
    #[case(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0], None)]
    #[case(&[0x80, 0], None)]
    #[case(&[0x80], None)]
    #[case(&[0], Some(0))]
    fn an_integer_is_taken_only_as_it_is_packed(#[case] bytes: &[u8], #[case] expected: Option<u64>) {
        assert_eq!(Check(bytes).integer(), expected);
        if let Some(integer) = expected {
            let mut packed = Vec::new();
            pack_integer(&mut packed, integer);
            assert_eq!(packed, bytes);
        }
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
