//! The keys under which records lie. Their form is part of the stored format.

use std::fmt::Write as _;
use std::ops::Range;

use copyseg_core::{Head, RecordCounts, RecordKey, RecordKind};

/// Records are spread over this many shards, so that a load can read bounded ranges: reading on from one page of a
/// range to the next costs the server a walk over all that is left of the range.
const SHARDS: u64 = 256;

/// How many records a range should hold, so that it is read in one or two pages.
const RANGE_RECORDS: u64 = 8192;

/// Keys below one prefix: `PREFIX/v1/head`, and `PREFIX/v1/KIND/SHARD/ID` with two and sixteen hexadecimal digits.
#[derive(Debug, Clone)]
pub(crate) struct Keys(String);

impl Keys {
    /// The longest prefix, so that keys stay a small part of every request.
    pub(crate) const PREFIX_BYTES_MAX: usize = 256;

    /// Keys below `prefix`, which has no slash at its ends.
    pub(crate) fn new(prefix: &str) -> Self {
        Self(format!("/{prefix}/v1"))
    }

    /// Where the head lies; [`Head::default`] is its absence.
    pub(crate) fn head(&self) -> String {
        format!("{}/head", self.0)
    }

    /// Where the leader is named.
    pub(crate) fn leader(&self) -> String {
        format!("{}/leader", self.0)
    }

    /// Where requests to the leader lie, each under a name of its own.
    pub(crate) fn request(&self, name: &str) -> String {
        format!("{}/request/{name}", self.0)
    }

    /// Where the leader answers the request of this name.
    pub(crate) fn answer(&self, name: &str) -> String {
        format!("{}/answer/{name}", self.0)
    }

    /// What all keys begin with.
    pub(crate) fn everything(&self) -> String {
        format!("{}/", self.0)
    }

    /// Where a record lies.
    pub(crate) fn record(&self, key: RecordKey) -> String {
        let ordered = key.id as u64 ^ SIGN;
        // Room for the longest is made at once: a batch has many keys, and `format!` would make room for each several times.
        let mut record = String::with_capacity(self.0.len() + "/store/00/".len() + 16);
        // Writing to a string does not fail.
        let _ = write!(record, "{}/{}/{:02x}/{ordered:016x}", self.0, key.kind.as_str(), shard(key.id));
        record
    }

    /// The length of every record's key, at most.
    pub(crate) fn record_length(&self) -> usize {
        self.record(RecordKey { kind: RecordKind::Store, id: 0 }).len()
    }

    /// The record that lies at `key`; none if something else does.
    pub(crate) fn parse(&self, key: &[u8]) -> Option<RecordKey> {
        let path = key.strip_prefix(self.0.as_bytes())?.strip_prefix(b"/")?;
        let (kind, place) = RecordKind::ALL.into_iter().find_map(|kind| {
            let place = path.strip_prefix(kind.as_str().as_bytes())?.strip_prefix(b"/")?;
            Some((kind, place))
        })?;
        let (first, ordered) = place.split_at_checked("00/".len())?;
        let ordered: &[u8; 16] = ordered.try_into().ok()?;
        let id = (hexadecimal(ordered)? ^ SIGN) as i64;
        (first.ends_with(b"/") && hexadecimal(&first[..2])? == shard(id)).then_some(RecordKey { kind, id })
    }

    /// Ranges that hold all records of the kind, and about [`RANGE_RECORDS`] each.
    pub(crate) fn ranges(&self, kind: RecordKind, counts: &RecordCounts) -> Vec<Range<String>> {
        let count = counts.0.get(kind as usize).copied().unwrap_or_default();
        let ranges = count.div_ceil(RANGE_RECORDS).clamp(1, SHARDS);
        let bound = |index: u64| match index * SHARDS / ranges {
            // One more than the last hexadecimal digit.
            SHARDS => format!("{}/{}/g", self.0, kind.as_str()),
            shard => format!("{}/{}/{shard:02x}/", self.0, kind.as_str()),
        };
        (0..ranges).map(|index| bound(index)..bound(index + 1)).collect()
    }
}

/// Flipped, negative ids sort before positive ones.
const SIGN: u64 = 1 << 63;

/// So many ids that follow one another, as a power of two, lie side by side: they were mostly written together, and
/// the server reads what was written together faster.
const RUN_BITS: u32 = 6;

/// Spreads runs of ids evenly, by the golden ratio.
const fn shard(id: i64) -> u64 {
    (id as u64 >> RUN_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56
}

/// The number that these digits write, in the one form in which keys are written.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// What is stored for a head; nothing for the head of a store that nobody has acquired.
pub(crate) fn head_value(head: &Head) -> Option<Vec<u8>> {
    (*head != Head::default()).then(|| head.to_bytes())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const IDS: [i64; 7] = [i64::MIN, i64::MIN + 1, -1, 0, 1, 255, i64::MAX];

    #[rstest]
    #[case(RecordKind::Task, 7, "/a/b/v1/task/00/8000000000000007")]
    #[case(RecordKind::Job, 0, "/a/b/v1/job/00/8000000000000000")]
    #[case(RecordKind::Store, -1, "/a/b/v1/store/b5/7fffffffffffffff")]
    fn keys_keep_their_form(#[case] kind: RecordKind, #[case] id: i64, #[case] key: &str) {
        assert_eq!(Keys::new("a/b").record(RecordKey { kind, id }), key);
    }

    #[test]
    fn every_key_is_read_back_and_lies_in_one_range_of_its_kind() {
        let keys = Keys::new("a");
        for records in [0, 1, RANGE_RECORDS + 1, 1_000_000, u64::MAX] {
            let counts = RecordCounts([records; 3]);
            for kind in RecordKind::ALL {
                let ranges = keys.ranges(kind, &counts);
                assert!(ranges.is_sorted_by(|a, b| a.end == b.start));
                for id in IDS.into_iter().chain(0..1000) {
                    let key = keys.record(RecordKey { kind, id });
                    assert_eq!(keys.parse(key.as_bytes()), Some(RecordKey { kind, id }));
                    assert_eq!(ranges.iter().filter(|range| range.contains(&key)).count(), 1, "{key}");
                    assert!(key.len() <= keys.record_length());
                }
            }
        }
    }

    #[test]
    fn ids_that_follow_one_another_are_spread_evenly() {
        let mut sizes = [0; SHARDS as usize];
        (0..1_000_000).for_each(|id| sizes[shard(id) as usize] += 1);
        assert!(sizes.iter().all(|size| (3700..=4100).contains(size)), "{sizes:?}");
    }

    #[rstest]
    #[case("/a/v1/head")]
    #[case("/a/v1/task/01/8000000000000007")]
    #[case("/a/v1/task/00/+000000000000007")]
    #[case("/a/v1/task/00/800000000000000A")]
    #[case("/a/v1/other/00/8000000000000007")]
    #[case("/a/v2/task/00/8000000000000007")]
    #[case("/ab/v1/task/00/8000000000000007")]
    fn other_keys_are_not_taken_for_records(#[case] key: &str) {
        assert_eq!(Keys::new("a").parse(key.as_bytes()), None);
    }
}
