//! The dispatcher: claims tasks ahead of the slots in which they are copied, and reacts to what changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use copyseg_core::{
    Error, ErrorKind, Event, Job, JobId, NodeId, Result, Snapshot, Task, TaskFilter, TaskId, TaskState,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

use super::attempt::{Attempts, Report};
use super::group::Group;
use super::patience::backoff;
use super::{Run, STOP_GRACE, random, short};
use crate::failure::{Failure, FailureKind};
use crate::options;
use crate::request::Phase;
use crate::worker::{Shared, Slots};

/// How much is claimed at once, by [`weight`], or one task for each slot if that is more. Tasks are claimed ahead of their
/// copying, so that small ones share commits and no slot waits for one.
const LOAD_MIN: u32 = 64;

/// For so many slots tasks are claimed ahead; who has more waits for commits.
const SLOTS_CLAIMED_FOR_MAX: u32 = 4096;

/// The bytes that weigh 1.
const BYTES_OF_WEIGHT: u64 = 64 << 10;

/// The segments that weigh 1, however small they are.
const SEGMENTS_OF_WEIGHT: usize = 16;

/// Whoever beats more often has no time for anything else.
const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Why the dispatcher came to an end.
pub(super) enum Halt {
    /// Every task is completed.
    Copied,
    /// The run was asked to stop.
    Stopped,
    /// Somebody else ended the job.
    Ended(Arc<Job>),
    /// The job cannot be completed.
    Failed(String),
    /// Its deadline has passed.
    Late(String),
    /// It takes help to go on.
    Blocked(Error),
}

struct Dispatcher<'a> {
    run: &'a Run<'a>,
    job: JobId,
    attempts: Attempts,
    /// Pending tasks that nothing keeps from being claimed, and their weights.
    ready: BTreeMap<TaskId, u32>,
    /// How much is claimed at once.
    load: u32,
    /// The largest weight of a task: however large tasks are, a load has one for each slot.
    weight_max: u32,
    /// How much more may be claimed ahead: while one load is begun, the next is claimed.
    ahead: Arc<Semaphore>,
    running: JoinSet<(TaskId, Report)>,
    handles: HashMap<TaskId, AbortHandle>,
    /// Failures in this run, and the waits that follow them.
    failures: HashMap<TaskId, (u32, ExponentialBackoff)>,
    delayed: HashSet<TaskId>,
    delays: FuturesUnordered<BoxFuture<'static, TaskId>>,
}

impl Run<'_> {
    /// Has every task of the job copied.
    pub(super) async fn dispatch(&self, job: &Arc<Job>) -> Result<Halt> {
        let options = &self.request.options;
        let slots_max = options.objects_in_flight;
        let shared = Shared {
            manager: self.manager.clone(),
            slots: Arc::new(Slots::new(slots_max)),
            slots_max,
            beat_interval: (options.heartbeat_timeout / 4).max(BEAT_INTERVAL_MIN),
            progress: self.progress.clone(),
            staging: self.staging(options::restore_of(job).unwrap_or_default()).into(),
        };
        let attempts = Attempts {
            job: Arc::clone(job),
            node: fresh_node()?,
            worker: Arc::clone(&self.worker),
            shared,
            options: options.clone(),
            group: Arc::new(Group::default()),
            halt: self.stop.child_token(),
        };
        let slots = u32::try_from(slots_max).unwrap_or(u32::MAX).clamp(1, SLOTS_CLAIMED_FOR_MAX);
        let load = slots.max(LOAD_MIN);
        let mut dispatcher = Dispatcher {
            run: self,
            job: job.id,
            attempts,
            ready: BTreeMap::new(),
            load,
            weight_max: load / slots,
            ahead: Arc::new(Semaphore::new(2 * load as usize)),
            running: JoinSet::new(),
            handles: HashMap::new(),
            failures: HashMap::new(),
            delayed: HashSet::new(),
            delays: FuturesUnordered::new(),
        };
        let halt = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(Halt::Stopped),
            late = self.deadline_has_passed(job.id) => late.map(Halt::Late),
            reason = self.target_is_lost(job) => Ok(Halt::Failed(reason)),
            halt = dispatcher.run_until_halt() => halt,
        };
        dispatcher.wind_down().await;
        dispatcher.end_progress();
        halt
    }

    /// Gives back the tasks of workers of earlier processes. This process owns the catalog, so they are gone.
    async fn release_lost_tasks(&self, job: JobId) -> Result<()> {
        let lost = TaskFilter::new().job(job).states([TaskState::InProgress]);
        let claims = self.manager.list_tasks(&lost)?.into_iter().filter_map(|task| task.claim());
        let releases = claims.map(|claim| async move {
            let reason = "the process of its worker ended";
            match self.record(|| self.manager.release_task(claim, reason)).await {
                Err(error) if error.kind() == ErrorKind::StaleClaim => Ok(()),
                released => released,
            }
        });
        futures::future::try_join_all(releases).await.map(drop)
    }
}

impl Dispatcher<'_> {
    async fn run_until_halt(&mut self) -> Result<Halt> {
        self.run.release_lost_tasks(self.job).await?;
        let mut subscription = self.run.manager.subscribe()?;
        let snapshot = subscription.snapshot().clone();
        self.begin_progress(&snapshot);
        if let Some(halt) = self.look_at(&snapshot)? {
            return Ok(halt);
        }
        let mut timer = timer(self.run.request.options.heartbeat_timeout);
        loop {
            let ahead = Arc::clone(&self.ahead);
            let halt = tokio::select! {
                biased;
                event = subscription.next() => self.react(event?)?,
                Some(joined) = self.running.join_next() => match joined {
                    Ok((task, report)) => self.take_report(task, report)?,
                    Err(aborted) if aborted.is_cancelled() => None,
                    Err(panic) => return Err(Error::with_source(
                        ErrorKind::Unavailable,
                        format!("a worker of job {} panicked: run the same restore again", self.job),
                        panic,
                    )),
                },
                Some(task) = self.delays.next() => {
                    self.delayed.remove(&task);
                    self.reconsider(task)?;
                    None
                }
                _ = timer.tick() => self.keep_time().await?,
                Ok(room) = ahead.acquire_many_owned(self.load), if !self.ready.is_empty() => {
                    self.begin(room);
                    None
                }
            };
            if let Some(halt) = halt {
                return Ok(halt);
            }
        }
    }

    /// Begins attempts at as many tasks as there is room for.
    fn begin(&mut self, mut room: OwnedSemaphorePermit) {
        while let Some(entry) = self.ready.first_entry() {
            let Some(ahead) = room.split(*entry.get() as usize) else { break };
            let task = entry.remove_entry().0;
            let attempt = self.attempts.clone().attempt(task, ahead);
            let handle = self.running.spawn(async move { (task, attempt.await) });
            self.handles.insert(task, handle);
        }
    }

    /// Lets the attempts under way give back their tasks; what does not end in time is left to the next run.
    async fn wind_down(&mut self) {
        self.attempts.halt.cancel();
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, all).await.is_err() {
            self.running.abort_all();
        }
    }

    fn react(&mut self, event: Event) -> Result<Option<Halt>> {
        let changes = match event {
            Event::Lagged(snapshot) => return self.look_at(&snapshot),
            Event::Changes(changes) => changes,
        };
        for (id, job) in &changes.jobs {
            if *id == self.job {
                match job {
                    Some(job) if job.state.is_terminal() => return Ok(Some(Halt::Ended(Arc::clone(job)))),
                    Some(_) => {}
                    None => return Err(removed(self.job)),
                }
            }
        }
        let mut completed = false;
        for (id, task) in &changes.tasks {
            let halt = match task {
                Some(task) if task.job != self.job => None,
                Some(task) => {
                    completed |= task.state == TaskState::Completed;
                    self.take_task(task)
                }
                None if self.is_open(*id) => Some(Halt::Failed(format!("task {id} was removed"))),
                None => None,
            };
            if halt.is_some() {
                return Ok(halt);
            }
        }
        Ok(if completed { self.halt_if_copied(&self.run.manager.snapshot()?) } else { None })
    }

    /// Starts over from a whole state.
    fn look_at(&mut self, snapshot: &Snapshot) -> Result<Option<Halt>> {
        match snapshot.job(self.job) {
            None => return Err(removed(self.job)),
            Some(job) if job.state.is_terminal() => return Ok(Some(Halt::Ended(Arc::clone(job)))),
            Some(_) => {}
        }
        let halts = snapshot.tasks_of_job(self.job).filter_map(|task| self.take_task(task)).next();
        Ok(halts.or_else(|| self.halt_if_copied(snapshot)))
    }

    fn take_task(&mut self, task: &Task) -> Option<Halt> {
        match task.state {
            TaskState::Pending
                if !self.handles.contains_key(&task.id) && !self.delayed.contains(&task.id) =>
            {
                self.ready.insert(task.id, weight(task).clamp(1, self.weight_max));
                None
            }
            TaskState::Failed => Some(Halt::Failed(task.reason.clone())),
            _ => None,
        }
    }

    fn is_open(&self, task: TaskId) -> bool {
        self.ready.contains_key(&task) || self.handles.contains_key(&task) || self.delayed.contains(&task)
    }

    fn reconsider(&mut self, task: TaskId) -> Result<()> {
        if let Some(task) = self.run.manager.get_task(task)? {
            // A failed one halts the run when its event comes.
            let _ = self.take_task(&task);
        }
        Ok(())
    }

    fn halt_if_copied(&self, snapshot: &Snapshot) -> Option<Halt> {
        let progress = snapshot.progress(self.job)?;
        self.run
            .progress
            .send_modify(|shown| shown.segments_copied = progress.segments.get(TaskState::Completed));
        (progress.tasks.get(TaskState::Completed) == progress.tasks.total()).then_some(Halt::Copied)
    }

    fn take_report(&mut self, task: TaskId, report: Report) -> Result<Option<Halt>> {
        self.handles.remove(&task);
        match report {
            Report::Completed => {
                self.run.progress.send_modify(|progress| progress.waiting.clear());
                Ok(None)
            }
            Report::Over => self.reconsider(task).map(|()| None),
            Report::Broken(error) => Err(error),
            Report::Failed(failure) => Ok(self.take_failure(task, failure)),
        }
    }

    fn take_failure(&mut self, task: TaskId, failure: Failure) -> Option<Halt> {
        let reason = short(failure.error.chain());
        match failure.kind {
            FailureKind::Permanent => return Some(Halt::Failed(reason)),
            FailureKind::Blocked => return Some(Halt::Blocked(failure.error)),
            FailureKind::Transient => {}
        }
        let options = &self.run.request.options;
        let (failures, delays) = self.failures.entry(task).or_insert_with(|| (0, backoff(options)));
        *failures += 1;
        if *failures >= options.attempts_max {
            return Some(Halt::Failed(short(format!("task {task} failed {failures} times; last: {reason}"))));
        }
        let delay = delays.next().unwrap_or(options.retry_delay_max);
        tracing::warn!(job = %self.job, %task, reason, delay_ms = delay.as_millis(), "a task waits for its next attempt");
        self.run.progress.send_modify(|progress| progress.waiting = reason);
        self.delayed.insert(task);
        self.delays.push(Box::pin(async move {
            tokio::time::sleep(delay).await;
            task
        }));
        None
    }

    /// Takes their tasks from silent workers.
    async fn keep_time(&mut self) -> Result<Option<Halt>> {
        let (manager, timeout) = (self.run.manager, self.run.request.options.heartbeat_timeout);
        for claim in manager.silent_claims(timeout)? {
            if manager.get_task(claim.task)?.is_none_or(|task| task.job != self.job) {
                continue;
            }
            // Others may have been heard of while one was released, as after the whole process was frozen.
            if !manager.silent_claims(timeout)?.contains(&claim) {
                continue;
            }
            if let Some(handle) = self.handles.remove(&claim.task) {
                handle.abort();
            }
            let reason = format!("its worker moved no byte for {timeout:?}");
            match self.attempts.record(|| manager.release_task(claim, &reason)).await {
                Ok(()) => {
                    if let Some(halt) = self.take_failure(claim.task, Failure::transient(reason)) {
                        return Ok(Some(halt));
                    }
                }
                // It was heard of, or the job ended, just now.
                Err(error)
                    if matches!(error.kind(), ErrorKind::StaleClaim | ErrorKind::IllegalTransition) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What was recorded while the last attempts ended counts as well, and nothing is waited for any more.
    fn end_progress(&self) {
        let copied = self.run.manager.snapshot().ok().and_then(|snapshot| snapshot.progress(self.job));
        self.run.progress.send_modify(|progress| {
            progress.waiting.clear();
            if let Some(copied) = copied {
                progress.segments_copied = copied.segments.get(TaskState::Completed);
            }
        });
    }

    fn begin_progress(&self, snapshot: &Snapshot) {
        let Some((job, copied)) = snapshot.job(self.job).zip(snapshot.progress(self.job)) else { return };
        self.run.progress.send_modify(|progress| {
            progress.phase = Phase::Copying;
            progress.segments = job.segments;
            progress.bytes = job.bytes;
            progress.segments_copied = copied.segments.get(TaskState::Completed);
            progress.bytes_copied = copied.bytes.get(TaskState::Completed);
            progress.bytes_before = progress.bytes_copied;
        });
    }
}

/// What a task weighs. Large tasks weigh more, so that few are claimed long before they are begun.
fn weight(task: &Task) -> u32 {
    let segments = task.segments.len() / SEGMENTS_OF_WEIGHT;
    let weight = (task.segments.bytes() / BYTES_OF_WEIGHT).max(segments as u64);
    u32::try_from(weight).unwrap_or(u32::MAX)
}

/// Fires at once, and then often enough for heartbeats.
fn timer(heartbeat_timeout: Duration) -> Interval {
    let period = (heartbeat_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut timer = tokio::time::interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// The worker of this start: a number that no other start has.
fn fresh_node() -> Result<NodeId> {
    Ok(NodeId(i64::try_from(random()? >> 1).unwrap_or(i64::MAX).max(1)))
}

fn removed(job: JobId) -> Error {
    Error::new(ErrorKind::NotFound, format!("job {job} was removed while it was restoring"))
}
