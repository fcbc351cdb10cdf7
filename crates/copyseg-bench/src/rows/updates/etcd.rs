//! P13: durable changes on etcd.

use std::sync::Arc;
use std::time::Instant;

use copyseg_core::Operation;
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use etcd_client::{Client, Compare, CompareOp, KvClient, Txn, TxnOp};
use tokio::runtime::Handle;

use super::{LENGTH, Setting};
use crate::Result;
use crate::prepared::Prepared;
use crate::reference::{Reference, Store};
use crate::rows::Context;
use crate::table::Row;
use crate::workload::Workload;

/// As many as the original was measured with on etcd.
const WORKLOAD: Workload = Workload { tasks: 100_000, jobs: 1_000 };

pub(in crate::rows) fn on_etcd(context: &Context) -> Result<Vec<Row>> {
    let Some(endpoints) = &context.etcd else {
        let workload = "durable changes on etcd: not measured, there is no etcd".into();
        return Ok(vec![Row { id: "P13", workload, ..Row::default() }]);
    };
    let prepared = context.runtime.block_on(Prepared::new(WORKLOAD))?;
    let catalog = context.runtime.block_on(async {
        let options = EtcdOptions::new(endpoints.split(',')).prefix("bench/updates");
        let catalog = EtcdCatalog::open(options).await?;
        prepared.fill(&catalog).await?;
        crate::Result::Ok(catalog)
    })?;
    let client = context.runtime.block_on(client(endpoints))?;
    let store = EtcdStore { client: client.clone(), runtime: context.runtime.handle().clone() };
    let reference = Reference::of(WORKLOAD, Box::new(store));
    let setting = Setting::new(context, Arc::new(catalog), &prepared, WORKLOAD)?;
    let mut rows = Vec::new();
    for (writers, times) in [(64, 12.0), (256, 20.0)] {
        let measured = setting.measure(writers, &reference, &|records, size| {
            context.runtime.block_on(commit_loop(&client, records, size))
        })?;
        rows.push(Row {
            target: format!("≥ {times:.0}, and ≥ 0.8 of the loop"),
            met: Some(measured.by_reference() >= times && measured.by_loop() >= 0.8),
            ..measured.row("P13", format!("durable changes on etcd, 100 k tasks, {writers} writers"))
        });
    }
    setting.close()?;
    Ok(rows)
}

/// A connection to the first member.
pub(in crate::rows) async fn client(endpoints: &str) -> Result<KvClient> {
    Ok(Client::connect(endpoints.split(',').collect::<Vec<_>>(), None).await?.kv_client())
}

/// Transactions of so many records each on a head that is compared, one after the other: records a second.
async fn commit_loop(client: &KvClient, records: &[Operation], size: usize) -> Result<f64> {
    const HEAD: &str = "/bench/bare/head";
    client.clone().put(HEAD, 0u64.to_be_bytes(), None).await?;
    let (start, mut written, mut batch) = (Instant::now(), 0, 0u64);
    let mut chunks = records.chunks_exact(size).cycle();
    while start.elapsed() < LENGTH {
        let puts = chunks.next().unwrap_or_default().iter().filter_map(|record| match record {
            Operation::Put(key, bytes) => {
                Some(TxnOp::put(format!("/bench/bare/{}", key.id), bytes.to_vec(), None))
            }
            Operation::Delete(_) => None,
        });
        let next = TxnOp::put(HEAD, (batch + 1).to_be_bytes(), None);
        let unmoved = Compare::value(HEAD, CompareOp::Equal, batch.to_be_bytes());
        let txn = Txn::new().when([unmoved]).and_then(puts.chain([next]).collect::<Vec<_>>());
        if !client.clone().txn(txn).await?.succeeded() {
            return Err("the head of the bare loop has moved".into());
        }
        batch += 1;
        written += size;
    }
    Ok(written as f64 / start.elapsed().as_secs_f64())
}

/// One put for each record, as the reference has it.
struct EtcdStore {
    client: KvClient,
    runtime: Handle,
}

impl Store for EtcdStore {
    fn save(&self, key: i64, record: &[u8]) -> Result<()> {
        let key = format!("/bench/reference/{key}");
        self.runtime.block_on(self.client.clone().put(key, record, None))?;
        Ok(())
    }
}
