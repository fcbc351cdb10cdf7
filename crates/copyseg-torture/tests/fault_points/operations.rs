//! Every operation of the meta manager, each so that it changes something in the seeded store if it can.

use std::time::Duration;

use copyseg_core::{
    Claim, Error, ErrorKind, JobAction, JobFilter, JobId, JobState, MetaManager, NewJob, NewTask, NodeId,
    PartitionId, Result, SegmentId, SegmentPair, TaskAction, TaskFilter, TaskId, TaskState, Timestamp, Txn,
};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::seed::{first_claim, job, job_key, task, task_key};

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// What it says the first time, and what it says when it is called again.
    pub(crate) answers: [&'static str; 2],
    /// Whether it is done as a whole or not at all. Otherwise a part may be left when it fails, and repeating it does
    /// the rest.
    pub(crate) whole: bool,
    /// Whether it needs the store in which the record of job 98 is damaged.
    pub(crate) on_damage: bool,
    pub(crate) run: fn(&MetaManager) -> BoxFuture<'_, Result<String>>,
}

macro_rules! operations {
    ($($name:literal: $first:literal, $again:literal => |$meta:ident| $run:expr;)*) => {
        vec![$(Operation {
            name: $name,
            answers: [$first, $again],
            whole: true,
            on_damage: false,
            run: |$meta| async move { $run }.boxed(),
        }),*]
    };
}

/// Every operation.
pub(crate) fn operations() -> Vec<Operation> {
    let mut all = jobs();
    all.extend(tasks());
    all.extend(dispatch());
    all.extend(transactions());
    all.extend(the_rest());
    all.extend(on_damage().into_iter().map(|operation| Operation { on_damage: true, ..operation }));
    all.extend(in_parts().into_iter().map(|operation| Operation { whole: false, ..operation }));
    all
}

fn in_parts() -> Vec<Operation> {
    operations! {
        "reassign a node with many tasks": "()", "()" =>
            |meta| meta.reassign_node(NodeId(6), "lost").await.map(|_| "()".into());
    }
}

fn on_damage() -> Vec<Operation> {
    operations! {
        "add a large job under a damaged id": "SetAside", "SetAside" =>
            |meta| meta.add_job(job(98), (600..622).map(task).collect()).await.map(|id| format!("job {id}"));
        "drop a damaged job": "true", "false" =>
            |meta| meta.drop_set_aside(job_key(98)).await.map(|there| there.to_string());
    }
}

fn jobs() -> Vec<Operation> {
    operations! {
        "add a job": "job 50", "AlreadyExists { identical: true }" =>
            |meta| meta.add_job(job(50), vec![task(51), task(52)]).await.map(|id| format!("job {id}"));
        "add a job with fresh ids": "a job", "a job" => |meta| {
            let tasks = [501, 502].map(|n| NewTask { id: None, ..task(n) });
            meta.add_job(NewJob { id: None, ..job(0) }, tasks.into()).await.map(|_| "a job".into())
        };
        "add a job of several batches": "job 60", "AlreadyExists { identical: true }" =>
            |meta| meta.add_job(job(60), (600..622).map(task).collect()).await.map(|id| format!("job {id}"));
        "add a job of several batches with fresh ids": "job 65", "AlreadyExists { identical: true }" => |meta| {
            let tasks = (650..659).map(|n| NewTask { id: None, ..task(n) });
            meta.add_job(job(65), tasks.collect()).await.map(|id| format!("job {id}"))
        };
        "add a job of few tasks and many bytes": "job 66", "AlreadyExists { identical: true }" =>
            |meta| meta.add_job(job(66), (0..4).map(wide_task).collect()).await.map(|id| format!("job {id}"));
        "add a large job with an id in use": "AlreadyExists { identical: false }", "AlreadyExists { identical: false }" =>
            |meta| meta.add_job(job(67), (10..19).map(task).collect()).await.map(|id| format!("job {id}"));
        "update a job": "rows Some(9)", "rows Some(9)" =>
            |meta| meta.update_job(JobId(2), [JobAction::Rows(9)]).await.map(|job| format!("rows {:?}", job.rows));
        "update a job in every way": "executing", "IllegalTransition" => |meta| {
            let actions = [
                JobAction::State(JobState::Executing),
                JobAction::Reason("by hand".into()),
                JobAction::Deadline(Some(Timestamp::from_millis(1))),
                JobAction::Option("verify".into(), "size".into()),
            ];
            meta.update_job(JobId(8), actions).await.map(|job| job.state.to_string())
        };
        "update a job that has ended": "IllegalTransition", "IllegalTransition" =>
            |meta| meta.update_job(JobId(5), [JobAction::Rows(9)]).await.map(|_| String::new());
        "publish a job": "publishing", "IllegalTransition" => |meta| {
            let publish = [JobAction::State(JobState::Publishing)];
            meta.update_job(JobId(3), publish).await.map(|job| job.state.to_string())
        };
        "complete a job": "completed", "IllegalTransition" => |meta| {
            let complete = [JobAction::State(JobState::Completed)];
            meta.update_job(JobId(4), complete).await.map(|job| job.state.to_string())
        };
        "cancel a job": "cancelled", "cancelled" =>
            |meta| meta.cancel_job(JobId(1), "stop").await.map(|job| job.state.to_string());
        "fail a job": "failed", "failed" =>
            |meta| meta.fail_job(JobId(1), "broken").await.map(|job| job.state.to_string());
        "fail a publishing job": "failed", "failed" =>
            |meta| meta.fail_job(JobId(4), "broken").await.map(|job| job.state.to_string());
        "remove a job": "true", "false" =>
            |meta| meta.remove_job(JobId(6)).await.map(|there| there.to_string());
        "remove a job of several batches": "true", "false" =>
            |meta| meta.remove_job(JobId(1)).await.map(|there| there.to_string());
    }
}

fn tasks() -> Vec<Operation> {
    operations! {
        "add a task": "task 21", "AlreadyExists { identical: true }" =>
            |meta| meta.add_task(JobId(2), task(21)).await.map(|id| format!("task {id}"));
        "add a task with a fresh id": "a task", "a task" => |meta| {
            let task = NewTask { id: None, ..task(22) };
            meta.add_task(JobId(2), task).await.map(|_| "a task".into())
        };
        "update a task": "9 slots", "9 slots" => |meta| {
            let actions = [TaskAction::Slots(9), TaskAction::Reason("slow".into())];
            meta.update_task(TaskId(11), actions).await.map(|task| format!("{} slots", task.slots))
        };
        "cancel a pending task": "cancelled", "IllegalTransition" => |meta| {
            let cancel = [TaskAction::State(TaskState::Cancelled)];
            meta.update_task(TaskId(11), cancel).await.map(|task| task.state.to_string())
        };
        "remove a task": "true", "false" =>
            |meta| meta.remove_task(TaskId(11)).await.map(|there| there.to_string());
        "remove a task that is worked on": "IllegalTransition", "IllegalTransition" =>
            |meta| meta.remove_task(TaskId(12)).await.map(|there| there.to_string());
    }
}

fn dispatch() -> Vec<Operation> {
    operations! {
        "claim a task": "attempt 1", "IllegalTransition" =>
            |meta| meta.claim_task(TaskId(11), NodeId(6)).await.map(|claim| format!("attempt {}", claim.attempt));
        "claim a task that was given back": "attempt 2", "IllegalTransition" =>
            |meta| meta.claim_task(TaskId(14), NodeId(6)).await.map(|claim| format!("attempt {}", claim.attempt));
        "claim the first task of a job": "attempt 1", "IllegalTransition" =>
            |meta| meta.claim_task(TaskId(81), NodeId(6)).await.map(|claim| format!("attempt {}", claim.attempt));
        "complete a task": "()", "()" =>
            |meta| meta.complete_task(first_claim(meta, 12)).await.map(|()| "()".into());
        "complete a task for a stale worker": "StaleClaim", "StaleClaim" => |meta| {
            let claim = Claim { attempt: 7, ..first_claim(meta, 12) };
            meta.complete_task(claim).await.map(|()| "()".into())
        };
        "fail a task": "()", "()" =>
            |meta| meta.fail_task(first_claim(meta, 12), "gone").await.map(|()| "()".into());
        "release a task": "()", "()" =>
            |meta| meta.release_task(first_claim(meta, 12), "later").await.map(|()| "()".into());
        "reassign a node": "2", "0" =>
            |meta| meta.reassign_node(NodeId(5), "lost").await.map(|count| count.to_string());
        "read, and say that a worker lives": "9 tasks", "9 tasks" => |meta| {
            meta.heartbeat(first_claim(meta, 12))?;
            meta.silent_claims(Duration::ZERO)?;
            meta.subscribe()?;
            meta.list_jobs(&JobFilter::new())?;
            meta.count_tasks(&TaskFilter::new())?;
            assert!(meta.downgrade().upgrade().is_some());
            Ok(format!("{} tasks", meta.tasks_of_job(JobId(1))?.len()))
        };
    }
}

fn transactions() -> Vec<Operation> {
    operations! {
        "replace a job": "()", "()" => |meta| {
            let replace = |txn: &mut Txn<'_>| {
                txn.remove_job(JobId(1))?;
                txn.add_job(job(1), vec![task(11), task(12)]).map(|_| "()".into())
            };
            meta.transact(replace).await
        };
        "move a task to another job": "()", "IllegalTransition" => |meta| {
            let several = |txn: &mut Txn<'_>| {
                txn.cancel_job(JobId(1), "stop")?;
                txn.remove_task(TaskId(11))?;
                txn.add_task(JobId(2), task(11))?;
                txn.claim_task(TaskId(11), NodeId(9)).map(|_| "()".into())
            };
            meta.transact(several).await
        };
        "give a job up halfway": "QuotaExceeded", "QuotaExceeded" => |meta| {
            let given_up = |txn: &mut Txn<'_>| {
                txn.remove_job(JobId(1))?;
                Err(Error::new(ErrorKind::QuotaExceeded, "the caller thought better of it"))
            };
            meta.transact(given_up).await
        };
        "a transaction beyond the limits": "TooLarge", "TooLarge" => |meta| {
            let large = |txn: &mut Txn<'_>| txn.add_job(job(50), (500..507).map(task).collect());
            meta.transact(large).await.map(|id| format!("job {id}"))
        };
        "a transaction that only reads": "9", "9" =>
            |meta| meta.transact(|txn| Ok(txn.snapshot().tasks_of_job(JobId(1)).count().to_string())).await;
    }
}

fn the_rest() -> Vec<Operation> {
    operations! {
        "allocate ids": "10 ids", "10 ids" =>
            |meta| meta.allocate_ids(10).await.map(|ids| format!("{} ids", ids.end - ids.start));
        "allocate the id of a job": "an id", "an id" =>
            |meta| meta.transact(|txn| txn.allocate_job_id()).await.map(|_| "an id".into());
        "drop a damaged task": "true", "false" =>
            |meta| meta.drop_set_aside(task_key(99)).await.map(|there| there.to_string());
        "close": "()", "()" => |meta| meta.close().await.map(|()| "()".into());
        "update and close": "()", "()" => |meta| {
            meta.update_job(JobId(2), [JobAction::Rows(9)]).await?;
            meta.close().await.map(|()| "()".into())
        };
    }
}

/// A task whose record takes 45 KB.
fn wide_task(n: i64) -> NewTask {
    let pair = |m: i64| SegmentPair {
        partition: Some(PartitionId(m << 32)),
        files: u32::MAX,
        bytes: u64::MAX / 10_000,
        fingerprint: u64::MAX - m as u64,
        ..SegmentPair::new(SegmentId((n << 40) + m * m), SegmentId((n << 41) + m * m))
    };
    NewTask { id: Some(TaskId(660 + n)), ..NewTask::new((0..900).map(pair)) }
}
