//! What fits into one batch, on servers with other limits than the default ones.

use copyseg_core::{Catalog, ErrorKind};
use copyseg_etcd::EtcdCatalog;
use rstest::rstest;

use crate::member::Member;
use crate::writer::Writer;

const SERVER: [&str; 2] = ["--max-txn-ops=1000", "--max-request-bytes=4000000"];

async fn catalog(member: &Member) -> EtcdCatalog {
    let options = member.options().max_txn_ops(1000).max_request_bytes(4_000_000);
    EtcdCatalog::open(options).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_as_large_as_the_servers_are_told_to_take() {
    let member = Member::start(&SERVER);
    let catalog = catalog(&member).await;
    let mut writer = Writer::acquire(&catalog).await;
    let limits = catalog.limits();
    writer.put(0..limits.operations_max as i64, 100).await.unwrap();
    writer.put(0..limits.bytes_max as i64 / 60_100, 60_000).await.unwrap();
    writer.assert_stored().await;
}

#[rstest]
#[case::more_operations(999, 100)]
#[case::more_bytes(30, 60_000)]
#[case::more_bytes_than_grpc_takes(60, 60_000)]
#[tokio::test]
async fn a_batch_that_the_servers_do_not_take_is_too_large_and_changes_nothing(
    #[case] records: i64,
    #[case] size: usize,
) {
    let member = Member::start(&[]);
    let catalog = catalog(&member).await;
    let mut writer = Writer::acquire(&catalog).await;
    let error = writer.put(0..records, size).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
    assert!(error.to_string().contains("`max_txn_ops`"), "{error}");
    writer.assert_stored().await;
    writer.put(0..100, 100).await.unwrap();
    writer.assert_stored().await;
}
