//! The engine: one run of a restore, from the request to its outcome.
//!
//! ```text
//! prepare   what is there already? plan, record the job, take the target   -> engine/prepare.rs, target.rs
//! dispatch  claim tasks, retry, watch heartbeats, deadline, stop           -> engine/dispatch.rs, attempt.rs, group.rs
//! publish   check the target, decide the outcome at its one key            -> engine/publish.rs
//! ```
//! All the while `engine/watchdog.rs` looks whether the catalog answers, and whose the target is.
//!
//! Every step may be cut short at any point, by a crash or by dropping it; the next run goes on from what the
//! catalog and the target say.

mod attempt;
mod dispatch;
mod group;
mod patience;
mod prepare;
mod publish;
mod target;
mod watchdog;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{Error, ErrorKind, Job, JobState, MetaManager, Result};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::dispatch::Halt;
use self::prepare::Prepared;
use crate::copy::CopyWorker;
use crate::layout;
use crate::location::Location;
use crate::options;
use crate::owner::Owner;
use crate::plan::Plan;
use crate::request::{Outcome, Phase, RestoreProgress, RestoreRequest};
use crate::storage::Storage;
use crate::worker::Worker;

/// How long a stopped run waits for its last attempts to give back their tasks, and for its sweep.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long the sweep of a restore that has ended may take: its target may be why it failed.
const CLEAN_UP_MAX: Duration = Duration::from_secs(60);

/// Carries out a restore, or goes on with it, and says how it ended.
///
/// `catalog_url` names the store behind `manager`, without secrets: it is written into the target, so that a
/// restore from another catalog is refused. `progress` is kept up to date throughout. When `stop` is
/// cancelled, the run gives back its tasks and returns [`Outcome::Stopped`] within five seconds.
///
/// The same request always has the same meaning: one that was completed is not repeated, even if the job was
/// removed since; one that is unfinished goes on with its stored plan; one that failed or was cancelled is
/// cleared away and begins anew.
///
/// ```
/// # use std::sync::Arc;
/// # use copyseg_core::{ManagerOptions, MemoryCatalog, MetaManager};
/// # use copyseg_restore::{CancellationToken, Manifest, Outcome, RestoreProgress, RestoreRequest, restore};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let (source, target) = (folder.path().join("nightly"), folder.path().join("restored"));
/// # std::fs::create_dir_all(source.join("7"))?;
/// # std::fs::write(source.join("7/vectors.npy"), "content")?;
/// let manager = MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await?;
/// let request = RestoreRequest::new(source.to_str().unwrap(), target.to_str().unwrap())?;
/// let progress = tokio::sync::watch::Sender::new(RestoreProgress::default());
/// let outcome = restore(&manager, "memory:", &request, &progress, &CancellationToken::new()).await?;
/// assert!(matches!(outcome, Outcome::Completed { segments: 1, already: false, .. }));
/// let manifest = Manifest::read(&request.target).await?.expect("it was completed");
/// assert!(target.join(manifest.segments[0].target.to_string()).join("vectors.npy").exists());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`AlreadyExists`](ErrorKind::AlreadyExists) if the target belongs to another restore, which the message names;
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for a source that is no snapshot, a target that holds
/// something else, locations inside one another, and options that are out of range or differ from those of the
/// unfinished restore: nothing was copied. [`Unavailable`](ErrorKind::Unavailable) if storage needs attention,
/// such as a full disk: the message says what to do, and the same request goes on.
/// [`Held`](ErrorKind::Held) if this process is restoring into the target already.
/// [`Fenced`](ErrorKind::Fenced) once another process has the catalog, whatever went wrong besides: let it finish.
/// [`SetAside`](ErrorKind::SetAside) if records of the job are damaged. And what the manager reports.
pub async fn restore(
    manager: &MetaManager,
    catalog_url: &str,
    request: &RestoreRequest,
    progress: &watch::Sender<RestoreProgress>,
    stop: &CancellationToken,
) -> Result<Outcome> {
    let worker = Arc::new(CopyWorker::new(&request.source, &request.target));
    restore_with(manager, catalog_url, request, worker, progress, stop).await
}

/// Refuses a request that cannot be carried out, so that a caller need not create the catalog `catalog_url` first.
/// Nothing is written. It lists the whole source, unless the target is one of a restore: then a catalog that is there
/// has to say.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) as from [`restore`], and for a catalog in the snapshot or in the
/// target, which would change it; [`AlreadyExists`](ErrorKind::AlreadyExists) if the target belongs to another restore;
/// and what storage reports.
pub async fn check(request: &RestoreRequest, catalog_url: &str) -> Result<()> {
    options::check(&request.options)?;
    request.source.check_apart(&request.target)?;
    let catalog = Location::of_local_catalog(catalog_url)?;
    if let Some(catalog) = &catalog {
        request.source.check_without_catalog(catalog, "snapshot")?;
        request.target.check_without_catalog(catalog, "target")?;
    }
    let (source, target) = (request.source.storage(), request.target.storage());
    let is_new = catalog.and_then(|it| it.local_path().map(|path| !path.exists())).unwrap_or(false);
    if let Some(owner) = Owner::read(&*target).await? {
        return if is_new { target::check_may_take_anew(request, catalog_url, &owner).await } else { Ok(()) };
    }
    if !is_new && target::has_plan(&*target).await? {
        return Ok(());
    }
    target::check_vacant(&request.target).await?;
    Plan::of_snapshot(&*source).await?.check_names(&*target)
}

/// Does the same as [`restore`], copying through a worker of the caller's.
///
/// # Errors
/// Those of [`restore`].
pub async fn restore_with(
    manager: &MetaManager,
    catalog_url: &str,
    request: &RestoreRequest,
    worker: Arc<dyn Worker>,
    progress: &watch::Sender<RestoreProgress>,
    stop: &CancellationToken,
) -> Result<Outcome> {
    options::check(&request.options)?;
    request.source.check_apart(&request.target)?;
    let _turn = Turn::take(catalog_url, request.target.as_str())?;
    progress.send_replace(RestoreProgress::default());
    let run = Run {
        name: random_name()?,
        begun: Mutex::default(),
        manager,
        catalog_url,
        request,
        source: request.source.storage(),
        target: request.target.storage(),
        worker,
        progress,
        stop,
    };
    let outcome = run.outcome().await;
    progress.send_modify(|progress| progress.phase = Phase::Ended);
    outcome
}

/// One run of a restore.
struct Run<'a> {
    /// A random name, which no other run has.
    name: String,
    /// The restores for which this run has opened a staging folder.
    begun: Mutex<Vec<String>>,
    manager: &'a MetaManager,
    catalog_url: &'a str,
    request: &'a RestoreRequest,
    source: Arc<dyn Storage>,
    target: Arc<dyn Storage>,
    worker: Arc<dyn Worker>,
    progress: &'a watch::Sender<RestoreProgress>,
    stop: &'a CancellationToken,
}

impl Run<'_> {
    async fn outcome(&self) -> Result<Outcome> {
        let outcome = tokio::select! {
            biased;
            outcome = self.prepare_and_run() => outcome,
            error = self.lost_catalog() => Err(error),
        };
        let outcome = outcome.map_err(|error| self.fenced_or(error));
        let has_ended = matches!(
            outcome,
            Ok(Outcome::Completed { .. } | Outcome::Failed { .. } | Outcome::Cancelled { .. })
        );
        self.clean_up(has_ended).await;
        outcome
    }

    /// Once another process has the catalog it goes on with the job, whatever this run met last, such as a change that was
    /// on its way and may have been made or not: this run is fenced.
    fn fenced_or(&self, error: Error) -> Error {
        match self.manager.snapshot() {
            Err(fenced) if fenced.kind() == ErrorKind::Fenced => {
                tracing::debug!(error = error.chain(), "what was under way when another process took over");
                fenced
            }
            _ => error,
        }
    }

    async fn prepare_and_run(&self) -> Result<Outcome> {
        let prepared = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Outcome::Stopped { job: self.progress.borrow().job }),
            prepared = self.prepare() => prepared?,
        };
        match prepared {
            Prepared::Already(outcome) => Ok(outcome),
            Prepared::Job(job) => self.run(&job).await,
        }
    }

    async fn run(&self, job: &Arc<Job>) -> Result<Outcome> {
        if job.state != JobState::Publishing {
            match self.dispatch(job).await? {
                Halt::Copied => {}
                Halt::Stopped => return Ok(Outcome::Stopped { job: Some(job.id) }),
                Halt::Ended(job) => return self.acknowledge(&job).await,
                Halt::Failed(reason) => return self.abort(job, JobState::Failed, &reason).await,
                Halt::Late(reason) => return self.give_up(job, &reason).await,
                Halt::Blocked(error) => return self.wait_for_help(job, error).await,
            }
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(Outcome::Stopped { job: Some(job.id) }),
            // The manifest may be there or on its way: the one key decides, and without its answer the job does not end.
            late = self.deadline_has_passed(job.id) => self.abort(job, JobState::Failed, &late?).await,
            outcome = self.publish(job) => outcome,
        }
    }

    /// Leaves the job as it is, with a word on why it waits, unless it is in other hands.
    async fn wait_for_help(&self, job: &Job, error: Error) -> Result<Outcome> {
        match self.lost_target(job).await {
            Ok(Some(reason)) => return self.yield_target(job, JobState::Failed, &reason).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(error = error.chain(), "whose the target is could not be asked"),
        }
        let reason = copyseg_core::JobAction::Reason(short(format!("waits: {}", error.chain())));
        if let Err(error) = self.manager.update_job(job.id, [reason]).await {
            tracing::warn!(job = %job.id, %error, "the reason why the job waits could not be recorded");
        }
        Err(error)
    }

    /// The folder of this run for what is unfinished.
    fn staging(&self, restore: &str) -> String {
        format!("{}/{}", layout::staging(restore), self.name)
    }

    /// Removes what this run left unfinished, after which nothing that is still on its way can appear; and when the
    /// restore has ended, its plan.
    async fn clean_up(&self, has_ended: bool) {
        let begun = std::mem::take(&mut *self.begun.lock());
        let clean_up = async {
            for restore in &begun {
                self.target.sweep(layout::STAGING, &self.staging(restore)).await?;
                if has_ended {
                    self.target.remove(&layout::plan(restore)).await?;
                }
            }
            Ok(())
        };
        let patience = if has_ended { CLEAN_UP_MAX } else { STOP_GRACE };
        let late = |_| Err(Error::new(ErrorKind::Unavailable, "it took too long; the next run does it"));
        let cleaned: Result<()> = timeout(patience, clean_up).await.unwrap_or_else(late);
        if let Err(error) = cleaned {
            tracing::warn!(error = error.chain(), "unfinished files could not be removed");
        }
    }

    /// Removes what any run of a completed restore left. The next run does it again.
    async fn sweep(&self, restore: &str) {
        let sweep = async {
            self.target.sweep(layout::STAGING, &layout::staging(restore)).await?;
            self.target.remove(&layout::plan(restore)).await
        };
        if let Err(failure) = sweep.await {
            tracing::warn!(restore, error = failure.error.chain(), "unfinished files could not be removed");
        }
    }
}

/// The only run of this process for one catalog into one target. Other processes are kept off by the catalog,
/// and other catalogs by the owner of the target.
struct Turn((String, String));

static TURNS: Mutex<Option<HashSet<(String, String)>>> = Mutex::new(None);

impl Turn {
    fn take(catalog_url: &str, target: &str) -> Result<Self> {
        let turn = (catalog_url.to_owned(), target.to_owned());
        if TURNS.lock().get_or_insert_default().insert(turn.clone()) {
            return Ok(Self(turn));
        }
        Err(Error::new(
            ErrorKind::Held,
            format!("this process is already restoring into {target}: wait until it has ended"),
        ))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.lock().get_or_insert_default().remove(&self.0);
    }
}

/// A reason that fits into a record, however long a server's answer was.
fn short(mut reason: String) -> String {
    // A record that is nearly full has at least so much room for a reason.
    const REASON_BYTES_MAX: usize = 1000;
    if reason.len() > REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push_str("...");
    }
    reason
}

/// 64 random bits, in hexadecimal digits.
fn random_name() -> Result<String> {
    Ok(format!("{:016x}", random()?))
}

fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| {
        let message = "the operating system supplied no random number";
        Error::with_source(ErrorKind::Unavailable, message, error.to_string())
    })
}
