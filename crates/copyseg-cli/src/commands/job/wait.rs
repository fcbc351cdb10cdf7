//! `copyseg job wait`: ends when a job does.

use std::time::Duration;

use copyseg::{JobId, Snapshot};
use tokio::time::{Instant, timeout_at};

use super::observer::{Look, Observer};
use super::{JobView, ended, find, job_text};
use crate::exit::Failure;
use crate::output::Output;
use crate::signals;

/// How long the catalog has for the first answer, however short the wait: whether there is anything to wait for is known
/// only then. Less than the 9 s after which a connection to etcd that is silent is given up, so that who waits in vain
/// is always answered the same.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(8);

/// Waits until a job has ended, and ends as it did.
pub(super) async fn run(
    url: &str,
    output: Output,
    id: JobId,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let start = Instant::now();
    let deadline = timeout.and_then(|timeout| start.checked_add(timeout));
    let first_look = deadline.map(|deadline| deadline.max(start + FIRST_LOOK_MAX));
    let wait = Wait { url, output, id, deadline: first_look, told: "the catalog does not answer".into() };
    signals::until_stopped(async |stop| {
        let observer = wait.in_time(Observer::open(url, stop)).await??;
        wait.run(observer, deadline).await
    })
    .await
}

struct Wait<'a> {
    url: &'a str,
    output: Output,
    id: JobId,
    deadline: Option<Instant>,
    /// What people were told last, or will be told if nothing else is known when the time is over.
    told: String,
}

impl Wait<'_> {
    async fn run(mut self, mut observer: Observer<'_>, deadline: Option<Instant>) -> Result<(), Failure> {
        loop {
            match self.in_time(observer.look()).await?? {
                Look::Snapshot(snapshot, is_held) if self.has_completed(&snapshot, is_held)? => return Ok(()),
                Look::Snapshot(..) => {}
                Look::Held(error) => self.tell(error.to_string()),
            }
            self.deadline = deadline;
            self.in_time(observer.pause()).await??;
        }
    }

    /// Whether the job has completed; an error if it has ended otherwise.
    fn has_completed(&mut self, snapshot: &Snapshot, is_held: bool) -> Result<bool, Failure> {
        let id = self.id;
        let view = JobView::new(self.url, snapshot, find(snapshot, id)?, is_held);
        let state = view.job.state;
        if !state.is_terminal() {
            let why = view.waiting.map(|why| format!(": {why}")).unwrap_or_default();
            self.tell(format!("job {id} is {state}{why}"));
            return Ok(false);
        }
        self.output.one(&view, job_text)?;
        ended(view.job).map(|()| true)
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
