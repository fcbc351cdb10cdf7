//! The keys of the one tree. They are part of the stored format.

use copyseg_core::{RecordKey, RecordKind};

/// Where the tree holds the head, as written by `Head::to_bytes`: after every record.
pub(crate) const HEAD: &[u8] = b"head";

/// Before the first record.
pub(crate) const FIRST: &[u8] = &[];

/// After the last record, and before [`HEAD`].
pub(crate) const END: &[u8] = &[RecordKind::ALL.len() as u8];

/// The key of a record: its kind, then its id with the sign bit flipped, big-endian, so that bytes sort as ids do and
/// records load by kind.
pub(crate) fn record(key: RecordKey) -> [u8; 9] {
    let [a, b, c, d, e, f, g, h] = (key.id as u64 ^ SIGN).to_be_bytes();
    [key.kind as u8, a, b, c, d, e, f, g, h]
}

/// The record that a key names, if it is one of ours.
pub(crate) fn parse(key: &[u8]) -> Option<RecordKey> {
    let (kind, id) = key.split_first()?;
    let id = u64::from_be_bytes(id.try_into().ok()?) ^ SIGN;
    Some(RecordKey { kind: RecordKind::from_number(*kind)?, id: id as i64 })
}

const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_kind_and_id_before_the_head_and_come_back() {
        let ids = [i64::MIN, -2, -1, 0, 1, 255, 256, i64::MAX];
        let keys = RecordKind::ALL.into_iter().flat_map(|kind| ids.map(|id| RecordKey { kind, id }));
        let bytes: Vec<_> = keys.clone().map(record).collect();
        assert!(bytes.is_sorted_by(|first, second| first < second));
        assert!(bytes.iter().all(|key| FIRST < key.as_slice() && key.as_slice() < END && END < HEAD));
        assert!(bytes.iter().map(|key| parse(key)).eq(keys.map(Some)));
    }

    #[test]
    fn a_key_of_another_form_is_no_record() {
        for key in [HEAD, &[], &[1], &[3, 0, 0, 0, 0, 0, 0, 0, 0], &[1; 10]] {
            assert_eq!(parse(key), None);
        }
    }
}
