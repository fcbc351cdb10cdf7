//! Keys and bytes come back as they were written.

use copyseg_core::RecordKind;

use crate::fixture::Fixture;
use crate::writer::{Writer, delete, job, key, put, task};

/// Any id of any kind can be written and removed, the least, the greatest and the negative ones too.
pub async fn any_id_of_any_kind_round_trips(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let ids = [i64::MIN, i64::MIN + 1, -256, -1, 0, 1, 255, 256, i64::MAX - 1, i64::MAX];
    for kind in RecordKind::ALL {
        writer.commit(ids.map(|id| put(key(kind, id), id.to_string()))).await;
    }
    writer.assert_stored().await;
    for kind in RecordKind::ALL {
        writer.commit([i64::MIN, -1, i64::MAX].map(|id| delete(key(kind, id)))).await;
    }
    writer.assert_durable().await;
}

/// Records of different kinds with one id are different records.
pub async fn kinds_do_not_share_ids(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    writer.commit(RecordKind::ALL.map(|kind| put(key(kind, 5), kind.as_str()))).await;
    writer.assert_stored().await;
    writer.commit([delete(job(5))]).await;
    writer.assert_stored().await;
    writer.commit([put(job(5), "again"), delete(task(5))]).await;
    writer.assert_durable().await;
}

/// Values from nothing to 64 KiB come back byte for byte, also when they shrink and grow.
pub async fn values_up_to_64_kib_round_trip(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let value = |length: usize| (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    let lengths = [0, 1, 255, 256, 4095, 4096, 4097, 65_535, 65_536];
    for (id, length) in (0..).zip(lengths) {
        writer.commit([put(task(id), value(length))]).await;
    }
    writer.assert_stored().await;
    for (id, length) in (0..).zip(lengths.into_iter().rev()) {
        writer.commit([put(task(id), value(length))]).await;
    }
    writer.assert_durable().await;
}

/// Bytes that core could not decode, so that it sets them aside, come back all the same; what they mean is not a
/// catalog's business.
pub async fn bytes_are_never_interpreted(fixture: &dyn Fixture) {
    let mut writer = Writer::acquire(fixture).await;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let values = [vec![0; 64], vec![0xff; 64], every_byte, b"null".to_vec(), "\u{fffd}\n\r\0".into()];
    for kind in RecordKind::ALL {
        writer.commit((0..).zip(&values).map(|(id, bytes)| put(key(kind, id), bytes))).await;
    }
    writer.assert_durable().await;
}
