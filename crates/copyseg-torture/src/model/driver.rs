//! A change done by the manager itself, alone or in a transaction.

use copyseg_core::{Claim, JobId, MetaManager, NodeId, Result, Snapshot, TaskId, Txn};

use super::Model;
use super::change::{Change, Planned, Report, new_job};
use super::rules::{Answer, Chosen};

pub(super) const LOST: &str = "the node is lost";

/// Does the change by the manager's own operation of that name.
pub(super) async fn call(manager: &MetaManager, change: &Change, claim: Option<Claim>) -> Result<Answer> {
    Ok(match change {
        Change::AddJob { id, collection, tasks, room } => {
            let (job, tasks) = (job_to_add(*id, *collection, tasks, *room), new_tasks(tasks));
            Answer::Job(manager.add_job(job, tasks).await?)
        }
        Change::UpdateJob(id, actions) => job_now(manager.update_job(*id, actions.clone()).await?.id),
        Change::CancelJob(id) => job_now(manager.cancel_job(*id, "cancelled by hand").await?.id),
        Change::FailJob(id) => job_now(manager.fail_job(*id, "failed by hand").await?.id),
        Change::RemoveJob(id) => Answer::There(manager.remove_job(*id).await?),
        Change::AddTask(job, task) => Answer::Task(manager.add_task(*job, task.new_task()).await?),
        Change::UpdateTask(id, actions) => {
            let task = manager.update_task(*id, actions.clone()).await?;
            assert_eq!(Some(&task), manager.get_task(*id)?.as_ref(), "it answers with what is there now");
            Answer::TaskNow(task.id)
        }
        Change::RemoveTask(id) => Answer::There(manager.remove_task(*id).await?),
        Change::Claim(task, node) => attempt(manager.claim_task(*task, *node).await?),
        Change::Report { report, .. } => {
            match (claim, *report) {
                (None, _) => {}
                (Some(claim), Report::Complete) => manager.complete_task(claim).await?,
                (Some(claim), Report::Fail(reason)) => manager.fail_task(claim, reason).await?,
                (Some(claim), Report::Release(reason)) => manager.release_task(claim, reason).await?,
            }
            Answer::Nothing
        }
        Change::Reassign(node) => Answer::Count(manager.reassign_node(*node, LOST).await?),
        Change::Allocate(count) => Answer::Ids(manager.allocate_ids(*count).await?),
        Change::DropSetAside(key) => Answer::There(manager.drop_set_aside(*key).await?),
    })
}

/// Does the change as a part of a transaction.
pub(super) fn call_in(txn: &mut Txn<'_>, change: &Change, claim: Option<Claim>) -> Result<Answer> {
    Ok(match change {
        Change::AddJob { id, collection, tasks, room } => {
            let job = job_to_add(*id, *collection, tasks, *room);
            Answer::Job(txn.add_job(job, new_tasks(tasks))?)
        }
        Change::UpdateJob(id, actions) => job_now(txn.update_job(*id, actions.clone())?.id),
        Change::CancelJob(id) => job_now(txn.cancel_job(*id, "cancelled by hand")?.id),
        Change::FailJob(id) => job_now(txn.fail_job(*id, "failed by hand")?.id),
        Change::RemoveJob(id) => Answer::There(txn.remove_job(*id)?),
        Change::AddTask(job, task) => Answer::Task(txn.add_task(*job, task.new_task())?),
        Change::UpdateTask(id, actions) => {
            let task = txn.update_task(*id, actions.clone())?;
            assert_eq!(Some(&task), txn.task(*id), "it answers with what is there now");
            Answer::TaskNow(task.id)
        }
        Change::RemoveTask(id) => Answer::There(txn.remove_task(*id)?),
        Change::Claim(task, node) => attempt(txn.claim_task(*task, *node)?),
        Change::Report { report, .. } => {
            match (claim, *report) {
                (None, _) => {}
                (Some(claim), Report::Complete) => txn.complete_task(claim)?,
                (Some(claim), Report::Fail(reason)) => txn.fail_task(claim, reason)?,
                (Some(claim), Report::Release(reason)) => txn.release_task(claim, reason)?,
            }
            Answer::Nothing
        }
        Change::Reassign(node) => Answer::Count(reassign_in(txn, *node)?),
        Change::Allocate(count) => Answer::Ids(txn.allocate_ids(*count)?),
        Change::DropSetAside(key) => Answer::There(txn.drop_set_aside(*key)),
    })
}

fn reassign_in(txn: &mut Txn<'_>, node: NodeId) -> Result<usize> {
    let of_node = copyseg_core::TaskFilter::new().node(node);
    let claims: Vec<Claim> = txn.snapshot().tasks(&of_node).filter_map(|task| task.claim()).collect();
    claims.iter().try_for_each(|claim| txn.release_task(*claim, LOST))?;
    Ok(claims.len())
}

/// The ids that the manager chose for this change: what the state after it has beyond the model before it.
pub(super) fn chosen(model: &Model, after: &Snapshot, change: &Change, answer: Option<&Answer>) -> Chosen {
    let mut chosen = Chosen::default();
    if let Some(Answer::Ids(ids)) = answer {
        chosen.ids = ids.clone();
    }
    let job = match change {
        Change::AddJob { id: Some(id), .. } | Change::AddTask(id, _) => Some(*id),
        Change::AddJob { id: None, .. } => after
            .jobs(&copyseg_core::JobFilter::new())
            .map(|job| job.id)
            .find(|id| !model.jobs.contains_key(id)),
        _ => None,
    };
    let brought = |task: TaskId| match change {
        Change::AddJob { tasks, .. } => tasks.iter().any(|planned| planned.id == Some(task)),
        _ => model.tasks.contains_key(&task),
    };
    chosen.job = job;
    chosen.tasks = job.map_or(Vec::new(), |job| {
        after.tasks_of_job(job).map(|task| task.id).filter(|id| !brought(*id)).collect()
    });
    chosen
}

fn job_to_add(
    id: Option<JobId>,
    collection: i64,
    tasks: &[Planned],
    room: Option<i64>,
) -> copyseg_core::NewJob {
    let held: usize = tasks.iter().map(|task| task.pairs().len()).sum();
    new_job(id, collection, room.map(|room| (held as u64).saturating_add_signed(room)))
}

fn new_tasks(tasks: &[Planned]) -> Vec<copyseg_core::NewTask> {
    tasks.iter().map(Planned::new_task).collect()
}

fn job_now(id: JobId) -> Answer {
    Answer::JobNow(id)
}

fn attempt(claim: Claim) -> Answer {
    Answer::Attempt(claim.task, claim.attempt)
}
