//! One operation, failed at one point.

use std::collections::BTreeMap;

use copyseg_conformance::Fault;
use copyseg_core::{Event, Job, JobId, MetaManager, Result, Revision, Subscription, Task, TaskId};
use copyseg_torture::{Backend, Instance, Storage, Visible, or_dead};
use futures::FutureExt;

use super::operations::Operation;
use super::seed::{LAST_BROUGHT_ID, kept, options, seeded};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It fails, and the process goes on.
    Fault(Fault),
    /// The process dies before it.
    Crash,
    /// The process dies after it, before anybody is answered.
    CrashAfter,
}

impl Failure {
    pub(crate) const ALL: [Self; 6] = [
        Self::Fault(Fault::Before),
        Self::Fault(Fault::After),
        Self::Fault(Fault::Lost),
        Self::Fault(Fault::Late),
        Self::Crash,
        Self::CrashAfter,
    ];
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) call: u64,
    pub(crate) failure: Failure,
}

impl Plan {
    pub(crate) fn set(self, instance: &Instance) {
        match self.failure {
            Failure::Fault(fault) => instance.faults.fail_nth(self.call, fault),
            Failure::Crash => instance.crash.crash_after(self.call),
            Failure::CrashAfter => {
                instance.faults.fail_nth(self.call, Fault::After);
                instance.crash.crash_after(self.call + 1);
            }
        }
    }
}

/// What an operation does when nothing fails.
pub(crate) struct Reference {
    before: Shape,
    after: Shape,
    /// After it was called again.
    after_again: Shape,
}

impl Reference {
    pub(crate) async fn take(backend: &Backend, operation: &Operation) -> Self {
        let storage = seeded(backend, operation.on_damage).await;
        let (instance, manager) = open(&storage).await;
        let before = shape(&instance.memory_equals_storage(&manager).await);
        assert_eq!(said(&(operation.run)(&manager).await), operation.answers[0], "{}", operation.name);
        drop(manager);
        instance.end().await;
        let (instance, manager) = open(&storage).await;
        let after = shape(&instance.memory_equals_storage(&manager).await);
        assert_eq!(said(&(operation.run)(&manager).await), operation.answers[1], "{} again", operation.name);
        drop(manager);
        instance.end().await;
        let (instance, manager) = open(&storage).await;
        let after_again = shape(&instance.memory_equals_storage(&manager).await);
        instance.end().await;
        Self { before, after, after_again }
    }

    /// Runs the operation on a fresh store with these failures, and says how many of them came to pass.
    pub(crate) async fn try_point(&self, backend: &Backend, operation: &Operation, plan: &[Plan]) -> u64 {
        let place = format!("{} with {plan:?}", operation.name);
        let storage = seeded(backend, operation.on_damage).await;
        let (instance, manager) = open(&storage).await;
        let mut subscription = manager.subscribe().unwrap();
        let mut told = Visible::of(subscription.snapshot());
        let ids_before = manager.allocate_ids(1).await.unwrap();
        plan.iter().for_each(|plan| plan.set(&instance));

        let answer = operation.call(&instance, &manager).await;
        if !instance.crash.crashed() {
            self.check_survivor(&instance, &manager, operation, answer.clone(), &place).await;
            catch_up(&mut subscription, &mut told);
        }
        let failures = instance.faults.faults_injected() + u64::from(instance.crash.crashed());
        let seen = manager.snapshot().ok().map(|snapshot| Visible::of(&snapshot));
        let crashed = instance.crash.crashed();
        if let Some(seen) = seen.as_ref().filter(|_| !crashed) {
            assert_eq!(
                (&told.jobs, &told.tasks),
                (&seen.jobs, &seen.tasks),
                "{place}: subscribers were told"
            );
        }
        drop(manager);
        instance.end().await;

        let (instance, manager) = open(&storage).await;
        let found = instance.memory_equals_storage(&manager).await;
        let found_shape = shape(&found);
        if let Some(seen) = seen.filter(|_| !crashed) {
            assert_eq!(found, seen, "{place}: what was seen is what a restart loads");
        }
        self.check_all_or_nothing(&found_shape, operation, &place);
        if answer.as_deref() == Some(operation.answers[0]) {
            assert_eq!(found_shape, self.after, "{place}: Ok means durable");
        }
        let ids = manager.allocate_ids(1).await.unwrap();
        assert!(ids.start > ids_before.start, "{place}: no id is given out twice");
        let (expected, after) = match found_shape == self.after && self.after != self.before {
            true => (operation.answers[1], &self.after_again),
            false => (operation.answers[0], &self.after),
        };
        let again = said(&(operation.run)(&manager).await);
        assert!(
            again == expected || !operation.whole,
            "{place}: called again it says {again}, not {expected}"
        );
        if manager.snapshot().is_ok() {
            assert_eq!(shape(&instance.memory_equals_storage(&manager).await), *after, "{place}: again");
        }
        instance.end().await;
        failures
    }

    /// What holds for whoever goes on with the manager that met the failure.
    async fn check_survivor(
        &self,
        instance: &Instance,
        manager: &MetaManager,
        operation: &Operation,
        mut answer: Option<String>,
        place: &str,
    ) {
        // What is kept when the store is opened is kept until it is opened again.
        let kept = if operation.on_damage { 4 } else { 0 };
        loop {
            let Some(said) = answer else { panic!("{place}: no answer") };
            if manager.snapshot().is_ok() {
                let seen = shape(&instance.memory_equals_storage(manager).await);
                self.check_all_or_nothing(&seen, operation, place);
                assert!(
                    said != UNAVAILABLE || seen == self.before || !operation.whole,
                    "{place}: nothing was changed"
                );
                assert!(said == UNAVAILABLE || seen == self.after, "{place}: done in the end");
                instance.swept(kept).await;
            }
            if said != UNAVAILABLE {
                let is_closed = said == "Closed" && operation.name.contains("close");
                assert!(said == operation.answers[0] || is_closed, "{place}: it says {said}");
                return;
            }
            answer = operation.call(instance, manager).await;
            if instance.crash.crashed() {
                return;
            }
        }
    }

    fn check_all_or_nothing(&self, found: &Shape, operation: &Operation, place: &str) {
        if operation.whole {
            assert!(*found == self.before || *found == self.after, "{place}: a part was done: {found:#?}");
        }
    }
}

/// Opens a manager, and waits until what was left over is swept.
async fn open(storage: &Storage) -> (Instance, MetaManager) {
    let instance = Instance::new(storage).await;
    let manager = instance.manager(options()).await.unwrap();
    let stored = Visible::stored(&*instance.storage).await;
    instance.swept(kept(&stored)).await;
    (instance, manager)
}

fn catch_up(subscription: &mut Subscription, told: &mut Visible) {
    while let Some(Ok(event)) = subscription.next().now_or_never() {
        match event {
            Event::Changes(changes) => {
                assert!(changes.revision > told.revision, "revisions come in order");
                told.apply(&changes);
            }
            Event::Lagged(_) => panic!("nobody lags here"),
        }
    }
}

impl Operation {
    /// What it answers; `None` if the process died under it.
    async fn call(&self, instance: &Instance, manager: &MetaManager) -> Option<String> {
        or_dead(instance, (self.run)(manager)).await.map(|outcome| said(&outcome))
    }
}

fn said(outcome: &Result<String>) -> String {
    match outcome {
        Ok(answer) => answer.clone(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// What an operation answers if nothing was changed and it can be tried again.
const UNAVAILABLE: &str = "Unavailable";

/// What does not differ from one run to the next.
type Shape = (BTreeMap<JobId, Job>, Vec<Task>, Vec<copyseg_core::RecordKey>);

fn shape(state: &Visible) -> Shape {
    let job_id = |id: JobId| if id.0 > LAST_BROUGHT_ID { JobId(-1) } else { id };
    let jobs = state.jobs.values().map(|job| {
        let mut job = Job::clone(job);
        (job.id, job.incarnation, job.revision) = (job_id(job.id), 0, Revision(0));
        (job.id, job)
    });
    let tasks = state.tasks.values().map(|task| {
        let mut task = Task::clone(task);
        (task.job, task.incarnation, task.revision) = (job_id(task.job), 0, Revision(0));
        task.id = if task.id.0 > LAST_BROUGHT_ID { TaskId(-1) } else { task.id };
        task
    });
    (jobs.collect(), tasks.collect(), state.set_aside.iter().copied().collect())
}
