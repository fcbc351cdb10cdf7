//! The life of a restore: a job is added, its tasks are claimed and completed, and everybody can watch.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use copyseg::{
    CollectionId, Event, JobAction, JobState, NewJob, NewTask, NodeId, Result, SegmentId, SegmentPair,
    TaskFilter, TaskState,
};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manager = copyseg::open(&format!("redb:{}/restores.redb", folder.path().display())).await?;

    // One job of 12 segments in 4 tasks. It is durable, and visible as a whole, when the call returns.
    let targets = manager.allocate_ids(12).await?;
    let pairs: Vec<SegmentPair> = (1..)
        .zip(targets)
        .map(|(source, target)| SegmentPair::new(SegmentId(source), SegmentId(target)))
        .collect();
    let tasks = pairs.chunks(3).map(|pairs| NewTask::new(pairs.iter().copied())).collect();
    let job = NewJob { snapshot: "nightly".into(), collection: CollectionId(7), ..NewJob::default() };
    let job = manager.add_job(job, tasks).await?;
    let mut changes = manager.subscribe()?;

    // A worker: it claims what is pending, copies, and reports with the claim it was given.
    let pending = TaskFilter::new().job(job).states([TaskState::Pending]);
    for task in manager.list_tasks(&pending)? {
        let claim = manager.claim_task(task.id, NodeId(1)).await?;
        println!("{claim}: copying {} segments", task.segments.len());
        manager.complete_task(claim).await?;
    }

    // Progress is counted as tasks change, so asking costs the same for a job of any size.
    let progress = manager.snapshot()?.progress(job).unwrap_or_default();
    println!(
        "{} of {} segments copied",
        progress.segments.get(TaskState::Completed),
        progress.segments.total()
    );

    // A job can be published only when every one of its segments is accounted for.
    manager.update_job(job, [JobAction::State(JobState::Publishing)]).await?;
    manager.update_job(job, [JobAction::State(JobState::Completed)]).await?;

    // A subscriber saw every committed change, in order.
    let completed = loop {
        let Event::Changes(seen) = changes.next().await? else { continue };
        println!(
            "revision {}: {} jobs and {} tasks changed",
            seen.revision,
            seen.jobs.len(),
            seen.tasks.len()
        );
        let states = seen.jobs.iter().filter_map(|(_, job)| job.as_ref().map(|job| job.state));
        if let Some(end) = states.into_iter().find(|state| state.is_terminal()) {
            break end;
        }
    };
    assert_eq!(completed, JobState::Completed);
    manager.close().await
}
