//! A process dies in the middle of a restore. The next one finds what was promised, and goes on from there.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::process::Command;

use copyseg::{
    ErrorKind, MetaManager, NewJob, NewTask, NodeId, Result, SegmentId, SegmentPair, TaskFilter, TaskState,
};

#[tokio::main]
async fn main() -> Result<()> {
    // Started by itself with a URL, this program is the process that dies.
    if let Some(url) = env::args().nth(1) {
        return work_and_die(&copyseg::open(&url).await?).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("redb:{}/restores.redb", folder.path().display());
    let program = env::current_exe().expect("the path of this program");
    let status = Command::new(program).arg(&url).status().expect("this program starts again");
    println!("the first process ended with {status}");
    assert!(!status.success());

    // What it was told is done is done; the task it was copying still bears its claim.
    let manager = copyseg::open(&url).await?;
    let completed = TaskFilter::new().states([TaskState::Completed]);
    println!("{} tasks are completed", manager.count_tasks(&completed)?);
    assert_eq!(manager.count_tasks(&completed)?, 2);
    let interrupted = manager.list_tasks(&TaskFilter::new().states([TaskState::InProgress]))?;
    let stale = interrupted.iter().find_map(|task| task.claim()).expect("the task that was interrupted");

    // Its node is lost: its tasks are pending again, and whoever comes back from the dead is not believed.
    manager.reassign_node(NodeId(1), "the process died").await?;
    let claim = manager.claim_task(stale.task, NodeId(2)).await?;
    let refused = manager.complete_task(stale).await.map_err(|error| error.kind());
    println!("{stale} reports too late: {refused:?}");
    assert_eq!(refused, Err(ErrorKind::StaleClaim));
    manager.complete_task(claim).await?;
    println!("{claim} is completed: {} tasks in all", manager.count_tasks(&completed)?);
    manager.close().await
}

async fn work_and_die(manager: &MetaManager) -> Result<()> {
    let task = |id| NewTask::new([SegmentPair::new(SegmentId(id), SegmentId(1000 + id))]);
    let job = manager.add_job(NewJob::default(), (1..=3).map(task).collect()).await?;
    for (done, task) in manager.tasks_of_job(job)?.iter().enumerate() {
        let claim = manager.claim_task(task.id, NodeId(1)).await?;
        if done == 2 {
            std::process::abort();
        }
        manager.complete_task(claim).await?;
    }
    Ok(())
}
