//! `copyseg job wait`: follows the catalog where it can be read beside its holder, and looks again and again elsewhere.

use std::time::Duration;

use copyseg::{ErrorKind, Follower, JobId, JobState, Snapshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::{JobView, find, job_text};
use crate::catalog;
use crate::exit::Failure;
use crate::output::Output;

/// How often to look. Each look holds the catalog for a moment, in which a restore cannot start.
const INTERVAL: Duration = Duration::from_secs(1);

/// Waits until a job has ended, and ends as it did.
pub(super) async fn run(
    url: &str,
    output: Output,
    id: JobId,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let wait = Wait { output, id, deadline, told: String::new() };
    match copyseg::open_follower(url).await {
        Ok(follower) => wait.follow(follower).await,
        Err(error) if error.kind() == ErrorKind::Unsupported => wait.poll(url).await,
        Err(error) => Err(error.into()),
    }
}

struct Wait {
    output: Output,
    id: JobId,
    deadline: Option<Instant>,
    /// What people were told last.
    told: String,
}

impl Wait {
    async fn follow(mut self, mut follower: Follower) -> Result<(), Failure> {
        let mut snapshot = follower.snapshot();
        while !self.has_completed(&snapshot, true)? {
            snapshot = self.in_time(follower.changed()).await??;
        }
        Ok(())
    }

    async fn poll(mut self, url: &str) -> Result<(), Failure> {
        loop {
            match catalog::read(url).await {
                Ok(snapshot) if self.has_completed(&snapshot, false)? => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Held => self.tell(error.to_string()),
                Err(error) => return Err(error.into()),
            }
            self.in_time(sleep(INTERVAL)).await?;
        }
    }

    /// Whether the job has completed; an error if it has ended otherwise.
    fn has_completed(&mut self, snapshot: &Snapshot, is_held: bool) -> Result<bool, Failure> {
        let id = self.id;
        let view = JobView::new(snapshot, find(snapshot, id)?, is_held);
        let state = view.job.state;
        if !state.is_terminal() {
            let why = view.waiting.map(|why| format!(": {why}")).unwrap_or_default();
            self.tell(format!("job {id} is {state}{why}"));
            return Ok(false);
        }
        self.output.one(&view, job_text)?;
        match state {
            JobState::Completed => Ok(true),
            _ => Err(Failure::JobEnded(state, format!("job {id} was {state}: {}", view.job.reason))),
        }
    }

    fn tell(&mut self, reason: String) {
        if reason != self.told {
            self.output.note(&format!("waiting: {reason}"));
            self.told = reason;
        }
    }

    /// What comes of waiting, unless the time is over before.
    async fn in_time<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Failure> {
        let Some(deadline) = self.deadline else { return Ok(waiting.await) };
        timeout_at(deadline, waiting)
            .await
            .map_err(|_| Failure::TimedOut(format!("job {} has not ended in time: {}", self.id, self.told)))
    }
}
