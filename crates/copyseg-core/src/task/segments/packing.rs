//! How a pair is packed, in variable-length integers: an id is the difference to that of the pair before; a field that is zero
//! or absent is a bit of the first byte instead. Frozen, as `Segments` says.

use super::SegmentPair;
use crate::id::{PartitionId, SegmentId};

const HAS_PARTITION: u8 = 1;
pub(super) const HAS_FILES: u8 = 2;
const HAS_BYTES: u8 = 4;
const HAS_FINGERPRINT: u8 = 8;

pub(super) fn pack_pair(packed: &mut Vec<u8>, previous: &SegmentPair, pair: &SegmentPair) {
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
pub(super) fn pack_integer(packed: &mut Vec<u8>, mut integer: u64) {
    while integer >= 0x80 {
        packed.push(integer as u8 | 0x80);
        integer >>= 7;
    }
    packed.push(integer as u8);
}

/// Looks whether bytes from elsewhere are what this module packs, from the front. Once, so that [`Unpack`] needs no errors.
pub(super) struct Check<'a>(pub(super) &'a [u8]);

impl Check<'_> {
    /// Its planned bytes.
    pub(super) fn pair(&mut self) -> Option<u64> {
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

    pub(super) fn integer(&mut self) -> Option<u64> {
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
pub(super) struct Unpack<'a>(pub(super) &'a [u8]);

impl Unpack<'_> {
    pub(super) fn pair(&mut self, previous: &SegmentPair) -> SegmentPair {
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

    pub(super) fn integer(&mut self) -> u64 {
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
    use rstest::rstest;

    use super::*;

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
}
