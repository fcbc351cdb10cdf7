//! A manager on three members, of which the leader, a minority and all are killed and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use copyseg_core::{JobAction, ManagerOptions, MetaManager, NewJob, Snapshot};
use copyseg_etcd::{EtcdCatalog, EtcdOptions};
use tokio::time::sleep;

use crate::member::Member;

/// How long members stay away.
const AWAY: Duration = Duration::from_secs(10);

/// Which of the members leads the cluster.
async fn leader(members: &[Member]) -> usize {
    loop {
        if let Some(index) = members.iter().position(|member| member.leads()) {
            return index;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_whichever_members_are_killed_and_writes_resume() {
    let mut members = Member::cluster(3, &[]);
    members.iter_mut().for_each(|member| member.serves());
    let endpoints: Vec<_> = members.iter().map(|member| member.endpoint.clone()).collect();
    let options = EtcdOptions::new(endpoints).timeout(Duration::from_secs(5));
    let catalog = Arc::new(EtcdCatalog::open(options.clone()).await.unwrap());
    let manager = MetaManager::open(catalog, ManagerOptions::default()).await.unwrap();
    let job = manager.add_job(NewJob::default(), vec![]).await.unwrap();

    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn({
        let (manager, stop, acknowledged) = (manager.clone(), Arc::clone(&stop), Arc::clone(&acknowledged));
        async move {
            for rows in 1.. {
                // What was certainly refused is asked for again, as its kind advises.
                while let Err(error) = manager.update_job(job, [JobAction::Rows(rows)]).await {
                    assert_eq!(error.kind(), copyseg_core::ErrorKind::Unavailable, "{error:?}");
                    sleep(Duration::from_millis(100)).await;
                }
                acknowledged.store(rows, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    });
    let resumed = async |after: u64| {
        while acknowledged.load(Ordering::SeqCst) <= after {
            assert!(!writer.is_finished(), "writes go on");
            sleep(Duration::from_millis(20)).await;
        }
    };
    resumed(10).await;

    let first = leader(&members).await;
    for victims in [vec![first], vec![(first + 1) % 3], vec![0, 1, 2]] {
        victims.iter().for_each(|victim| members[*victim].kill());
        if victims.len() == 1 {
            // A majority is there, so that writes go on without the one that was killed.
            resumed(acknowledged.load(Ordering::SeqCst) + 5).await;
        }
        sleep(AWAY).await;
        let before = acknowledged.load(Ordering::SeqCst);
        victims.iter().for_each(|victim| members[*victim].restart());
        resumed(before + 5).await;
        let rows = manager.get_job(job).unwrap().unwrap().rows;
        assert!(rows >= Some(before), "what was acknowledged is what readers see");
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let written = acknowledged.load(Ordering::SeqCst);
    manager.close().await.unwrap();
    let stored = Snapshot::load(&EtcdCatalog::open(options).await.unwrap()).await.unwrap();
    assert_eq!(stored.job(job).unwrap().rows, Some(written));
}
