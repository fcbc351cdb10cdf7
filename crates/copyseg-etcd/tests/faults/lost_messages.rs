//! A network that loses requests, and replies to requests that were carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use copyseg_core::{
    JobFilter, ManagerOptions, MetaManager, NewJob, NewTask, NodeId, SegmentId, SegmentPair, Snapshot,
    TaskFilter,
};
use copyseg_etcd::EtcdCatalog;
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::member::Member;

const PASS: u8 = 0;
const LOSE_REQUEST: u8 = 1;
const LOSE_REPLY: u8 = 2;

/// Forwards connections to a member, until it is told to lose the next message.
struct Proxy {
    endpoint: String,
    next: Arc<AtomicU8>,
    lost: Arc<AtomicU32>,
}

impl Proxy {
    async fn start(member: &Member) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            endpoint: listener.local_addr().unwrap().to_string(),
            next: Arc::default(),
            lost: Arc::default(),
        };
        let (target, next, lost) = (member.endpoint.clone(), proxy.next.clone(), proxy.lost.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&target).await {
                    tokio::spawn(forward(client, server, next.clone(), lost.clone()));
                }
            }
        });
        proxy
    }
}

/// Returns, and so breaks the connection, when either side does, or after losing a message.
async fn forward(mut client: TcpStream, mut server: TcpStream, next: Arc<AtomicU8>, lost: Arc<AtomicU32>) {
    let (mut requests, mut replies) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut requests) => {
                let Ok(length @ 1..) = read else { return };
                let fate = next.swap(PASS, Ordering::SeqCst);
                lost.fetch_add(u32::from(fate != PASS), Ordering::SeqCst);
                if fate == LOSE_REQUEST || server.write_all(&requests[..length]).await.is_err() {
                    return;
                }
                if fate == LOSE_REPLY {
                    // Time for the member to carry it out; what it says meanwhile goes nowhere.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    return;
                }
            }
            read = server.read(&mut replies) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&replies[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_equals_storage_whatever_message_is_lost(
    #[values(LOSE_REQUEST, LOSE_REPLY)] fate: u8,
    #[values(1, 2, 3, 7)] every: u32,
) {
    let member = Member::start(&[]);
    let direct = member.catalog().await;
    let proxy = Proxy::start(&member).await;
    let mut options = member.options();
    options.endpoints = vec![proxy.endpoint.clone()];
    let catalog = Arc::new(EtcdCatalog::open(options).await.unwrap());
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.unwrap();

    let mut revision = manager.snapshot().unwrap().revision();
    let mut planned = 0;
    for step in 0..21_u32 {
        if step % every == 0 {
            proxy.next.store(fate, Ordering::SeqCst);
            planned += 1;
        }
        let open = manager.list_jobs(&JobFilter::new()).unwrap().last().map(|job| job.id);
        match (step % 3, open) {
            (1, Some(job)) => {
                let task = manager.tasks_of_job(job).unwrap()[0].id;
                let claim = manager.claim_task(task, NodeId(1)).await.unwrap();
                manager.complete_task(claim).await.unwrap();
            }
            (2, Some(job)) => drop(manager.cancel_job(job, "enough").await.unwrap()),
            _ => {
                let segments = (0..5).map(|id| SegmentPair::new(SegmentId(id), SegmentId(-id)));
                manager
                    .add_job(NewJob::default(), segments.map(|pair| NewTask::new([pair])).collect())
                    .await
                    .unwrap();
            }
        }
        let memory = manager.snapshot().unwrap();
        assert!(memory.revision() > revision);
        revision = memory.revision();
        same(&memory, &direct).await;
    }
    assert_eq!(proxy.lost.load(Ordering::SeqCst), planned, "every fault that was planned has happened");
    assert_eq!(manager.count_jobs(&JobFilter::new()).unwrap(), 7, "each was added once");
    manager.close().await.unwrap();
}

/// Asserts that the store holds what is in memory; the manager may still be writing down what a cancelled job's tasks
/// already show.
async fn same(memory: &Snapshot, direct: &EtcdCatalog) {
    let stored = Snapshot::load(direct).await.unwrap();
    assert!(stored.jobs(&JobFilter::new()).eq(memory.jobs(&JobFilter::new())));
    let every = TaskFilter::new();
    let (stored_tasks, tasks) = (stored.tasks(&every), memory.tasks(&every));
    assert!(stored_tasks.map(|task| (task.id, task.state)).eq(tasks.map(|task| (task.id, task.state))));
}
