//! Three etcd members, killed at random and started again.

use std::sync::Arc;
use std::time::Duration;

use copyseg_etcd::EtcdOptions;
use copyseg_torture::EtcdMember;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::ground::{Ground, Stage};

/// A busy machine may hold a member up for seconds; without a cause that would show, the others must not take it for dead.
const PATIENT: [&str; 3] =
    ["--heartbeat-interval=300", "--election-timeout=3000", "--quota-backend-bytes=4294967296"];

pub(crate) async fn members() -> (Arc<Mutex<Vec<EtcdMember>>>, EtcdOptions) {
    let members = EtcdMember::cluster(3, &PATIENT).await;
    let endpoints = members.iter().map(EtcdMember::endpoint);
    let options = EtcdOptions::new(endpoints).timeout(Duration::from_secs(30));
    (Arc::new(Mutex::new(members)), options)
}

/// Kills one, two or all of the members, up to three times in a row, and then lets it be quiet for long enough that what
/// warns then has no excuse.
pub(crate) async fn kill(ground: Arc<Ground>, members: Arc<Mutex<Vec<EtcdMember>>>) {
    let mut random = ground.random();
    let mut members = members.lock().await;
    let mut quiet = Duration::from_secs(3);
    loop {
        let start = Instant::now();
        while start.elapsed() < quiet {
            if ground.stage() != Stage::Busy {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        ground.faults.begin();
        for _ in 0..random.u8(1..=3) {
            let count = random.choice([1, 1, 1, 1, 2, 2, 3]).unwrap();
            let first = random.usize(..3);
            let victims: Vec<usize> = (first..first + count).map(|index| index % 3).collect();
            victims.iter().for_each(|victim| members[*victim].kill());
            (0..count).for_each(|_| ground.count("members killed"));
            sleep(Duration::from_millis(random.u64(500..5000))).await;
            victims.iter().for_each(|victim| members[*victim].restart());
            for victim in victims {
                members[victim].answers().await;
            }
        }
        ground.faults.end();
        quiet = Duration::from_secs(random.u64(25..40));
    }
}
