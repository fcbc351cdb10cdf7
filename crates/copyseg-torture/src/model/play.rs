//! Playing a run: the same steps on a manager and on the model, compared after each.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    Claim, Error, ErrorKind, Event, JobAction, JobId, ManagerOptions, ManualClock, MetaManager, NodeId,
    Operation, RecordKind, Snapshot, Subscription, TaskId, TaskState, Timestamp,
};
use futures::FutureExt;
use proptest::sample::Index;

use super::change::{Change, Report};
use super::driver::{call, call_in, chosen};
use super::program::{Ending, Program, Reopening, START, Step};
use super::queries::Queries;
use super::rules::{ACTIVE_JOBS_MAX, Answer, Outcome, Speaker};
use super::{JobRecord, Model, TaskRecord};
use crate::instance::{Instance, or_dead};
use crate::storage::{Backend, Storage, TINY};
use crate::visible::{Visible, records, tamper};

/// Plays a run on a new storage and on the model, and returns how many questions were asked. Panics where they differ.
pub(super) async fn play(backend: &Backend, program: &Program) -> u64 {
    let mut world = World::new(backend).await;
    let mut asked = 0;
    for step in &program.steps {
        world.step(step).await;
        asked += world.check(&program.queries).await;
    }
    world.step(&Step::Reopen(Reopening::Closed)).await;
    asked + world.check(&program.queries).await
}

/// The manager and the model of one run.
struct World {
    storage: Storage,
    clock: ManualClock,
    instance: Instance,
    manager: MetaManager,
    subscription: Subscription,
    /// What a subscriber knows.
    told: Visible,
    /// What was visible after the step before.
    last: Visible,
    model: Model,
    /// Every claim that was given out, with the generation of its job.
    claims: Vec<(Claim, u64)>,
}

impl World {
    async fn new(backend: &Backend) -> Self {
        let storage = Storage::new(backend, TINY);
        let clock = ManualClock::at(START);
        let (instance, manager) = open(&storage, &clock).await;
        let subscription = manager.subscribe().unwrap();
        let told = Visible::of(subscription.snapshot());
        let (model, claims) = (Model::default(), Vec::new());
        Self { storage, clock, instance, manager, subscription, last: told.clone(), told, model, claims }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Do(change) => self.change(change).await,
            Step::Work(job, tasks, then) => {
                self.work(*job, *tasks).await;
                if !then.is_empty() {
                    let actions = then.iter().copied().map(JobAction::State).collect();
                    self.change(&Change::UpdateJob(*job, actions)).await;
                }
            }
            Step::Transact(changes, ending) => self.transact(changes, *ending).await,
            Step::Beat(back, forged) => self.beat(*back, *forged),
            Step::Silent(seconds) => self.silent(Duration::from_secs(*seconds)),
            Step::Advance(seconds) => self.clock.advance(Duration::from_secs(*seconds)),
            Step::JumpClock(seconds) => {
                let now = copyseg_core::Clock::now(&self.clock).as_millis();
                self.clock.set(Timestamp::from_millis(now.saturating_add_signed(seconds * 1_000)));
            }
            Step::Fail(calls, fault, change) => {
                self.instance.faults.fail_nth(*calls, *fault);
                self.change(change).await;
                self.instance.faults.heal();
            }
            Step::Crash(calls, change) => self.crash(*calls, change).await,
            Step::Reopen(reopening) => self.reopen(*reopening).await,
            Step::Damage(index) => self.damage(*index).await,
        }
    }

    fn now(&self) -> Timestamp {
        copyseg_core::Clock::now(&self.clock)
    }

    fn monotonic(&self) -> Duration {
        copyseg_core::Clock::monotonic(&self.clock)
    }

    fn speaker(&self, change: &Change) -> Option<(Claim, Speaker)> {
        let Change::Report { back, forged, .. } = change else { return None };
        self.claim(*back, *forged)
    }

    fn claim(&self, back: usize, forged: bool) -> Option<(Claim, Speaker)> {
        let (claim, generation) = *self.claims.iter().rev().nth(back)?;
        let claim = Claim { attempt: claim.attempt + u32::from(forged), ..claim };
        Some((claim, Speaker { task: claim.task, generation, attempt: claim.attempt }))
    }

    /// Keeps the claim that was given out, as its worker does.
    fn keep_claim(claims: &mut Vec<(Claim, u64)>, model: &Model, after: &Snapshot, outcome: &Outcome) {
        if let Ok(Answer::Attempt(id, attempt)) = outcome {
            let task = after.task(*id).unwrap();
            let claim = Claim { task: *id, incarnation: task.incarnation, attempt: *attempt };
            claims.push((claim, model.jobs[&task.job].generation));
        }
    }

    async fn change(&mut self, change: &Change) {
        let speaker = self.speaker(change);
        let mut released = 0;
        let answer = loop {
            let failed_before = self.instance.faults.faults_injected();
            let answer = call(&self.manager, change, speaker.map(|(claim, _)| claim)).await;
            match &answer {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    assert!(self.instance.faults.faults_injected() > failed_before, "{}", error.chain());
                    if !matches!(change, Change::Reassign(_)) {
                        // Nothing was changed, which the check after this step sees.
                        return;
                    }
                    // Some may have been given back: repeat it.
                    released += 1;
                }
                _ => break answer,
            }
        };
        let before = self.model.clone();
        let after = self.manager.snapshot().unwrap();
        let chosen = chosen(&self.model, &after, change, answer.as_ref().ok());
        self.model.begin();
        let expected = self.model.apply(change, speaker.map(|(_, speaker)| speaker), &chosen, self.now());
        if released == 0 {
            assert_answer(change, &answer, &expected);
        }
        Self::keep_claim(&mut self.claims, &self.model, &after, &expected);
        self.model.hear_claims(&before, self.monotonic());
    }

    async fn work(&mut self, job: JobId, tasks: usize) {
        let pending = self.model.tasks_of(job).filter(|(_, task)| task.state == TaskState::Pending);
        let pending: Vec<TaskId> = pending.map(|(id, _)| *id).take(tasks).collect();
        for id in pending {
            let claims = self.claims.len();
            self.change(&Change::Claim(id, NodeId(1))).await;
            if self.claims.len() > claims {
                self.change(&Change::Report { back: 0, forged: false, report: Report::Complete }).await;
            }
        }
    }

    async fn transact(&mut self, changes: &[Change], ending: Ending) {
        struct Planned;
        let speakers: Vec<_> = changes.iter().map(|change| self.speaker(change)).collect();
        let mut model = self.model.clone();
        let mut claims = self.claims.clone();
        let now = self.now();
        model.begin();
        let transacting = self.manager.transact(|txn| {
            for (change, speaker) in changes.iter().zip(&speakers) {
                let answer = call_in(txn, change, speaker.map(|(claim, _)| claim));
                let chosen = chosen(&model, txn.snapshot(), change, answer.as_ref().ok());
                let expected = model.apply(change, speaker.map(|(_, speaker)| speaker), &chosen, now);
                assert_answer(change, &answer, &expected);
                Self::keep_claim(&mut claims, &model, txn.snapshot(), &expected);
                model.assert_is_shown(txn.snapshot());
            }
            match ending {
                Ending::Commit => Ok(()),
                Ending::GiveUp => Err(Error::new(ErrorKind::Held, "the caller thought better of it")),
                Ending::Panic => resume_unwind(Box::new(Planned)),
            }
        });
        let outcome = AssertUnwindSafe(transacting).catch_unwind().await;
        self.claims = claims;
        let outcome = outcome.map_err(|panic| match panic.downcast::<Planned>() {
            Ok(_) => "panic".to_owned(),
            Err(panic) => resume_unwind(panic),
        });
        let said = match outcome {
            Ok(Ok(())) => "ok".to_owned(),
            Ok(Err(error)) => format!("{:?}", error.kind()),
            Err(panic) => panic,
        };
        let too_large = model.is_too_large(TINY.operations_max);
        match ending {
            Ending::Commit if said == "TooLarge" => assert_ne!(too_large, Some(false), "it is too large"),
            Ending::Commit => {
                assert_eq!(said, "ok", "{changes:?}");
                assert_ne!(too_large, Some(true), "it is too large");
                model.hear_claims(&self.model, self.monotonic());
                self.model = model;
                return;
            }
            Ending::GiveUp => assert_eq!(said, "Held"),
            Ending::Panic => assert_eq!(said, "panic"),
        }
        // What was dropped may have been given out inside, and is not to be taken for something later.
        self.model.jobs_added = model.jobs_added;
    }

    fn beat(&mut self, back: usize, forged: bool) {
        let Some((claim, speaker)) = self.claim(back, forged) else { return };
        let heard = self.manager.heartbeat(claim).map_err(|error| error.kind());
        assert_eq!(heard, self.model.hears(speaker), "heartbeat of {claim}");
        if heard.is_ok() {
            self.model.heard.insert(claim.task, self.monotonic());
        }
    }

    fn silent(&self, timeout: Duration) {
        let found = self.manager.silent_claims(timeout).unwrap();
        let found: Vec<TaskId> = found.iter().map(|claim| claim.task).collect();
        assert_eq!(found, self.model.silent(self.monotonic(), timeout), "not heard of for {timeout:?}");
    }

    async fn crash(&mut self, calls: u64, change: &Change) {
        if matches!(change, Change::Reassign(_)) {
            // Its parts are tried elsewhere, call by call.
            return self.change(change).await;
        }
        let speaker = self.speaker(change);
        self.instance.crash.crash_after(calls);
        let answer =
            or_dead(&self.instance, call(&self.manager, change, speaker.map(|(claim, _)| claim))).await;
        self.reopen(Reopening::Killed).await;
        let found = self.manager.snapshot().unwrap();
        let was = self.model.clone();
        if !matches!(change, Change::Allocate(_)) && !was.is_shown(&found) {
            let chosen = chosen(&was, &found, change, None);
            self.model.begin();
            let applied = self.model.apply(change, speaker.map(|(_, speaker)| speaker), &chosen, self.now());
            assert!(applied.is_ok(), "{change:?} changed something: it was to be refused with {applied:?}");
            self.model.assert_is_shown(&found);
        } else if let Some(Ok(answer)) = answer {
            // It changed nothing that can be seen, or it would be seen.
            let chosen = chosen(&was, &found, change, Some(&answer));
            self.model.begin();
            let applied = self.model.apply(change, speaker.map(|(_, speaker)| speaker), &chosen, self.now());
            assert_eq!(applied, Ok(answer), "{change:?}: Ok means durable");
            self.model.assert_is_shown(&found);
        }
    }

    async fn reopen(&mut self, reopening: Reopening) {
        let taken_over = reopening == Reopening::TakenOver && self.storage.can_be_taken_over();
        if taken_over {
            let before = self.manager.clone();
            self.open().await;
            let fenced = before.allocate_ids(1).await.unwrap_err();
            assert_eq!(fenced.kind(), ErrorKind::Fenced, "the one before can no longer write");
        } else {
            if reopening == Reopening::Closed {
                self.manager.close().await.unwrap();
            } else {
                self.instance.crash.crash().await.unwrap();
            }
            self.open().await;
        }
    }

    /// A new life of the manager, and what the model and the subscriber begin it with.
    async fn open(&mut self) {
        (self.instance, self.manager) = open(&self.storage, &self.clock).await;
        let shown = self.instance.memory_equals_storage(&self.manager).await;
        let stored = records(&*self.instance.storage).await.into_keys();
        let tasks = stored.filter(|key| key.kind == RecordKind::Task && !shown.set_aside.contains(key));
        let unclaimed = tasks.map(|key| TaskId(key.id)).filter(|id| !shown.tasks.contains_key(id));
        let lacks_a_job = shown.set_aside.iter().any(|key| key.kind == RecordKind::Job);
        let kept = if lacks_a_job { unclaimed.collect() } else { BTreeSet::new() };
        self.model.reopen(self.monotonic(), kept, lacks_a_job);
        self.subscription = self.manager.subscribe().unwrap();
        self.told = shown;
    }

    async fn damage(&mut self, index: Index) {
        let keys = self.model.keys();
        if keys.is_empty() {
            return;
        }
        let key = *index.get(&keys);
        self.manager.close().await.unwrap();
        let catalog = self.storage.open().await;
        tamper(&*catalog, [Operation::Put(key, Arc::from([0xC5_u8; 9]))]).await;
        catalog.close().await.unwrap();
        self.model.damage(key);
        self.open().await;
    }

    /// Compares the manager, its storage, its subscriber and the model.
    async fn check(&mut self, queries: &Queries) -> u64 {
        let seen = self.instance.memory_equals_storage(&self.manager).await;
        self.instance.swept(self.model.invisible.len()).await;
        let snapshot = self.manager.snapshot().unwrap();
        self.model.assert_is_shown(&snapshot);
        while let Some(event) = self.subscription.next().now_or_never() {
            match event.unwrap() {
                Event::Changes(changes) => {
                    assert!(changes.revision > self.told.revision, "revisions come in order");
                    self.told.apply(&changes);
                }
                Event::Lagged(_) => panic!("nobody lags here"),
            }
        }
        assert_eq!((&self.told.jobs, &self.told.tasks), (&seen.jobs, &seen.tasks), "subscribers were told");
        self.check_revisions(&seen);
        self.last = seen;
        queries.check(&self.model, &snapshot)
    }

    /// Revisions only grow, and what changed carries one that came since.
    fn check_revisions(&self, seen: &Visible) {
        assert!(seen.revision >= self.last.revision, "revisions only grow");
        let since = |revision| revision > self.last.revision && revision <= seen.revision;
        for (id, job) in seen.jobs.iter().filter(|(id, job)| self.last.jobs.get(id) != Some(job)) {
            assert!(since(job.revision), "job {id} changed with revision {}", job.revision);
        }
        for (id, task) in seen.tasks.iter().filter(|(id, task)| self.last.tasks.get(id) != Some(task)) {
            assert!(since(task.revision), "task {id} changed with revision {}", task.revision);
        }
    }
}

impl Model {
    fn assert_is_shown(&self, snapshot: &Snapshot) {
        let (jobs, tasks) = shown(snapshot);
        let expected: Vec<_> =
            self.jobs.iter().map(|(id, job)| (*id, JobRecord { generation: 0, ..job.clone() })).collect();
        assert_eq!(jobs, expected, "jobs: the manager (left) and the model (right)");
        assert!(
            tasks.iter().map(|(id, task)| (id, task)).eq(&self.tasks),
            "tasks: {tasks:#?} and {:#?}",
            self.tasks
        );
        let set_aside = snapshot.set_aside().map(|record| record.key);
        assert!(set_aside.filter(|key| key.kind != RecordKind::Store).eq(self.set_aside.iter().copied()));
    }

    fn is_shown(&self, snapshot: &Snapshot) -> bool {
        let (jobs, tasks) = shown(snapshot);
        let expected = self.jobs.iter().map(|(id, job)| (*id, JobRecord { generation: 0, ..job.clone() }));
        let set_aside = snapshot.set_aside().map(|record| record.key);
        jobs.into_iter().eq(expected)
            && tasks.iter().map(|(id, task)| (id, task)).eq(&self.tasks)
            && set_aside.eq(self.set_aside.iter().copied())
    }

    /// The tasks whose worker was not heard of for `timeout`.
    fn silent(&self, now: Duration, timeout: Duration) -> Vec<TaskId> {
        let running = self.tasks.iter().filter(|(_, task)| task.state == TaskState::InProgress);
        let last = |id: &TaskId| self.heard.get(id).copied().unwrap_or(self.opened);
        running.map(|(id, _)| *id).filter(|id| now - last(id) >= timeout).collect()
    }
}

type Records<Id, T> = Vec<(Id, T)>;

fn shown(snapshot: &Snapshot) -> (Records<JobId, JobRecord>, Records<TaskId, TaskRecord>) {
    let visible = Visible::of(snapshot);
    let jobs = visible.jobs.iter().map(|(id, job)| (*id, JobRecord::of(job)));
    let tasks = visible.tasks.iter().map(|(id, task)| (*id, TaskRecord::of(task)));
    (jobs.collect(), tasks.collect())
}

fn assert_answer(change: &Change, answer: &copyseg_core::Result<Answer>, expected: &Outcome) {
    let fits = match (answer, expected) {
        (Ok(answer), Ok(expected)) => answer == expected,
        (Err(error), Err(kinds)) => kinds.contains(&error.kind()),
        _ => false,
    };
    assert!(fits, "{change:?}: it said {answer:?}, and {expected:?} was to be expected");
}

async fn open(storage: &Storage, clock: &ManualClock) -> (Instance, MetaManager) {
    let instance = Instance::new(storage).await;
    let options = ManagerOptions {
        clock: Arc::new(clock.clone()),
        active_jobs_max: Some(ACTIVE_JOBS_MAX),
        head_check: Duration::from_secs(3600),
        ..ManagerOptions::default()
    };
    let manager = instance.manager(options).await.unwrap();
    (instance, manager)
}
