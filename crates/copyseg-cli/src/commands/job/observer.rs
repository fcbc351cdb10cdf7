//! A catalog looked at again and again: followed where it can be read beside its holder, and elsewhere read whenever it
//! is free.

use std::time::Duration;

use copyseg::{Error, ErrorKind, Follower, Result, Snapshot};
use copyseg_restore::CancellationToken;
use tokio::time::{sleep, timeout};

use crate::catalog;
use crate::exit::Failure;

/// How often to read. Each reading holds the catalog for a moment, in which a restore cannot start.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// How soon after each other changes that are followed are looked at: those of a restore with many small tasks come by
/// the hundred.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// After how long without a change it is asked whether a process still holds what is followed.
const SILENCE: Duration = Duration::from_secs(5);

/// What a look finds.
pub(super) enum Look {
    /// What the catalog holds, and whether a process holds it.
    Snapshot(Snapshot, bool),
    /// It cannot be read beside the process that holds it.
    Held(Error),
}

/// Looks at one catalog, until it is told to stop.
pub(super) struct Observer<'a> {
    url: &'a str,
    stop: CancellationToken,
    /// `None` where the catalog is read anew each time.
    follower: Option<Follower>,
    is_held: bool,
}

impl<'a> Observer<'a> {
    /// An observer that has not looked yet.
    pub(super) async fn open(url: &'a str, stop: CancellationToken) -> Result<Self> {
        let (follower, is_held) = match copyseg::open_follower(url).await {
            Ok(follower) => (Some(follower), copyseg::holder(url).await?.is_some()),
            Err(error) if error.kind() == ErrorKind::Unsupported => (None, false),
            Err(error) => return Err(error),
        };
        Ok(Self { url, stop, follower, is_held })
    }

    /// Looks.
    pub(super) async fn look(&self) -> Result<Look> {
        if let Some(follower) = &self.follower {
            return Ok(Look::Snapshot(follower.snapshot(), self.is_held));
        }
        match catalog::read(self.url).await {
            Ok(snapshot) => Ok(Look::Snapshot(snapshot, false)),
            Err(error) if error.kind() == ErrorKind::Held => Ok(Look::Held(error)),
            Err(error) => Err(error),
        }
    }

    /// Waits until it is worth looking again; an error if it is told to stop.
    pub(super) async fn pause(&mut self) -> Result<(), Failure> {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => Err(Failure::Stopped(None, "stopped".into())),
            waited = self.until_worth_looking() => Ok(waited?),
        }
    }

    async fn until_worth_looking(&mut self) -> Result<()> {
        let Some(follower) = &mut self.follower else {
            sleep(READ_INTERVAL).await;
            return Ok(());
        };
        sleep(FOLLOW_INTERVAL).await;
        if let Ok(changed) = timeout(SILENCE, follower.changed()).await {
            self.is_held = true;
            return changed.map(drop);
        }
        // While the cluster cannot be asked, what was known last stands.
        if let Ok(holder) = copyseg::holder(self.url).await {
            self.is_held = holder.is_some();
        }
        Ok(())
    }
}
