//! A live copy of a store that another process writes: every query, and no way to change anything.

mod replica;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::warn;

use self::replica::Replica;
use crate::catalog::follow::{Follow, Following};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::Snapshot;

/// How long to wait before following again after the connection was lost.
const RETRY: Duration = Duration::from_millis(500);

/// A read-only view of a store that stays up to date while another process writes to it.
///
/// What it shows is committed, and may be a little behind. It never acquires the store. It lives as long as any
/// clone of it.
#[derive(Clone)]
pub struct Follower {
    state: watch::Receiver<Snapshot>,
    _task: Arc<Stop>,
}

struct Stop(AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    /// Loads the store and follows it from there. A connection that is lost later is made again by itself;
    /// meanwhile the view stays as it was.
    ///
    /// # Errors
    /// Those of [`Snapshot::load`].
    pub async fn open(catalog: Arc<dyn Follow>) -> Result<Self> {
        let (replica, following) = start(&*catalog).await?;
        let (sender, state) = watch::channel(replica.snapshot().clone());
        let task = tokio::spawn(run(catalog, replica, following, sender));
        Ok(Self { state, _task: Arc::new(Stop(task.abort_handle())) })
    }

    /// The newest state that was seen.
    pub fn snapshot(&self) -> Snapshot {
        self.state.borrow().clone()
    }

    /// Waits until there is a newer state than the one this was last asked for, and returns it. What changed
    /// several times in between is seen once, in its last state.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the store can no longer be followed, for instance because a newer
    /// version wrote to it.
    pub async fn changed(&mut self) -> Result<Snapshot> {
        let ended = |_| Error::new(ErrorKind::Closed, "the store can no longer be followed: open it again");
        self.state.changed().await.map_err(ended)?;
        Ok(self.state.borrow_and_update().clone())
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("revision", &self.snapshot().revision()).finish_non_exhaustive()
    }
}

async fn start(catalog: &dyn Follow) -> Result<(Replica, Following)> {
    let mut following = catalog.follow().await?;
    let mut replica = Replica::new(following.loaded.head);
    while let Some(page) = following.loaded.pages.try_next().await? {
        for record in &page {
            replica.put(record)?;
        }
    }
    replica.check_counts()?;
    Ok((replica, following))
}

async fn run(
    catalog: Arc<dyn Follow>,
    mut replica: Replica,
    mut following: Following,
    sender: watch::Sender<Snapshot>,
) {
    loop {
        let lost = loop {
            match following.commits.try_next().await {
                Ok(Some(committed)) => {
                    if let Err(error) = replica.apply(&committed) {
                        break error;
                    }
                    sender.send_replace(replica.snapshot().clone());
                }
                Ok(None) => break Error::new(ErrorKind::Unavailable, "the changes of the store ended"),
                Err(error) => break error,
            }
        };
        warn!("following the store was cut short, beginning anew: {}", lost.chain());
        (replica, following) = loop {
            match start(&*catalog).await {
                Ok(started) => break started,
                Err(error) if error.kind() == ErrorKind::Unavailable => tokio::time::sleep(RETRY).await,
                Err(error) => return warn!("the store can no longer be followed: {}", error.chain()),
            }
        };
        sender.send_replace(replica.snapshot().clone());
    }
}
