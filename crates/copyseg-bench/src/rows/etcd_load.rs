//! E1: reading a million records from etcd, beside the fastest way there is to have them sent.

use std::sync::Arc;
use std::time::Instant;

use copyseg_core::{Catalog, RecordKind, Snapshot, TaskFilter};
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use etcd_client::{GetOptions, KvClient};
use futures::{StreamExt, TryStreamExt, stream};

use super::Context;
use super::updates::client;
use crate::Result;
use crate::measure::{Samples, Unit, alternate};
use crate::prepared::Prepared;
use crate::table::Row;

const PREFIX: &str = "bench/load";

/// What was the fastest of 16 ways on one member: more connections, ranges or records at once, and reads that are not
/// linearizable, gained nothing; fewer lost.
const CONNECTIONS: usize = 4;
const RECORDS_AT_ONCE: i64 = 10_000;

/// Tasks lie in this many shards, of which each range takes two: about 8,000 records.
const SHARDS: usize = 256;
const SHARDS_IN_A_RANGE: usize = 2;

pub(super) fn million(context: &Context) -> Result<Vec<Row>> {
    let Some(endpoints) = &context.etcd else {
        let workload = "load of 1 M records from etcd: not measured, there is no etcd".into();
        return Ok(vec![Row { id: "E1", workload, ..Row::default() }]);
    };
    let prepared = context.million()?;
    let catalog = context.runtime.block_on(filled(endpoints, prepared))?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = context.runtime.block_on(client(endpoints))?;
        clients.push(client.max_decoding_message_size(64 << 20));
    }
    let all = prepared.records.len();
    let tasks = prepared.records.iter().filter(|record| record.key.kind == RecordKind::Task).count();
    let timed = |count: usize, read: &dyn Fn() -> Result<usize>| {
        let start = Instant::now();
        match read()? {
            found if found == count => Ok(count as f64 / start.elapsed().as_secs_f64()),
            found => Err(format!("{found} records were found, not {count}").into()),
        }
    };
    let [pages, snapshot, raw] = alternate([
        &mut || timed(all, &|| context.runtime.block_on(pages(&*catalog))),
        &mut || timed(tasks, &|| context.runtime.block_on(snapshot(&*catalog))),
        &mut || timed(tasks, &|| context.runtime.block_on(raw(&clients))),
    ])?;
    context.runtime.block_on(catalog.close())?;
    let row = |what: &str, own: &Samples| {
        let slower = raw.over(own);
        Row {
            id: "E1",
            workload: format!("load of 1 M tasks from etcd, {what}"),
            copyseg: own.show(Unit::Rate),
            limit: format!("{} (ranges of {RECORDS_AT_ONCE}, nothing decoded)", raw.show(Unit::Rate)),
            ratios: format!("{} of its time", slower.show(Unit::Ratio)),
            target: "≤ 2".into(),
            met: Some(slower.median() <= 2.0),
            ..Row::default()
        }
    };
    let as_pages = row("as records", &pages);
    let as_snapshot = Row { met: None, target: String::new(), ..row("ready for queries", &snapshot) };
    Ok(vec![as_pages, as_snapshot])
}

async fn filled(endpoints: &str, prepared: &Prepared) -> Result<Arc<dyn Catalog>> {
    let options = || EtcdOptions::new(endpoints.split(',')).prefix(PREFIX);
    let writer = EtcdCatalog::open(options()).await?;
    prepared.fill(&writer).await?;
    writer.close().await?;
    Ok(Arc::new(EtcdCatalog::open(options()).await?))
}

async fn pages(catalog: &dyn Catalog) -> Result<usize> {
    let pages = catalog.load().await?.pages;
    Ok(pages.try_fold(0, async |count, page| Ok(count + page.len())).await?)
}

async fn snapshot(catalog: &dyn Catalog) -> Result<usize> {
    Ok(Snapshot::load(catalog).await?.count_tasks(&TaskFilter::new()))
}

/// As many ranges at once as there are connections, all at the revision of the first answer.
async fn raw(clients: &[KvClient]) -> Result<usize> {
    let head = clients[0].clone().get(format!("/{PREFIX}/v1/head"), None).await?;
    let revision = head.header().map_or(0, |header| header.revision());
    let bound = |shard: usize| match shard {
        SHARDS => format!("/{PREFIX}/v1/task/g"),
        shard => format!("/{PREFIX}/v1/task/{shard:02x}/"),
    };
    let ranges = (0..SHARDS).step_by(SHARDS_IN_A_RANGE).zip(clients.iter().cycle()).map(|(shard, client)| {
        let range = read_range(client.clone(), bound(shard), bound(shard + SHARDS_IN_A_RANGE), revision);
        async { tokio::spawn(range).await? }
    });
    stream::iter(ranges).buffer_unordered(clients.len()).try_fold(0, async |sum, read| Ok(sum + read)).await
}

async fn read_range(mut client: KvClient, mut start: String, end: String, revision: i64) -> Result<usize> {
    let mut count = 0;
    loop {
        let options =
            GetOptions::new().with_range(end.as_str()).with_revision(revision).with_limit(RECORDS_AT_ONCE);
        let answer = client.get(start, Some(options)).await?;
        count += answer.kvs().len();
        match answer.kvs().last() {
            Some(last) if answer.more() => start = format!("{}\0", last.key_str()?),
            _ => return Ok(count),
        }
    }
}
