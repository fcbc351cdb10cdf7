//! P6 to P9: what an index and a counter answer, and the original by scanning.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use copyseg_core::{
    JobAction, JobFilter, JobState, ManagerOptions, MemoryCatalog, MetaManager, NewJob, Task, TaskFilter,
    TaskState,
};

use super::Context;
use crate::Result;
use crate::measure::{Unit, alternate, nanos_per};
use crate::prepared::Prepared;
use crate::reference::{NoStore, Reference, job_record};
use crate::table::Row;
use crate::workload::{Workload, job_id, new_job, state_of};

/// How many quick questions are asked in one turn.
const QUESTIONS: usize = 100_000;

pub(super) fn pending(context: &Context) -> Result<Vec<Row>> {
    let manager = context.manager(context.million()?, Duration::ZERO)?;
    let reference = Reference::of(Workload::MILLION, Box::new(NoStore));
    let filter = TaskFilter::new().states([TaskState::Pending]);
    let snapshot = manager.snapshot()?;
    let list: Vec<Arc<Task>> = snapshot.tasks(&filter).cloned().collect();
    check(list.len(), Workload::MILLION.count(TaskState::Pending))?;
    let [copyseg, theirs, limit] = alternate([
        &mut || Ok(nanos_per(1, || sum(manager.snapshot().iter().flat_map(|it| it.tasks(&filter))))),
        &mut || {
            let is_pending = |task: &crate::reference::TaskRecord| task.state == TaskState::Pending as u8;
            Ok(nanos_per(1, || reference.tasks_by(&[&is_pending]).iter().map(|task| task.slots).sum::<i64>()))
        },
        &mut || Ok(nanos_per(1, || sum(list.iter()))),
    ])?;
    let (ratio, bare) = (copyseg.over(&theirs), copyseg.over(&limit));
    drop(snapshot);
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P6",
        workload: format!("visit the pending tasks, {} of 1 M", list.len()),
        copyseg: copyseg.show(Unit::Nanos),
        reference: theirs.show(Unit::Nanos),
        limit: format!("{} (a list of them)", limit.show(Unit::Nanos)),
        ratios: format!("{}, {}", ratio.show(Unit::Ratio), Unit::Ratio.show(bare.median())),
        target: "≤ 0.1".into(),
        met: Some(ratio.median() <= 0.1),
    }])
}

pub(super) fn pending_of_job(context: &Context) -> Result<Vec<Row>> {
    let workload = Workload::LARGE_JOBS;
    let prepared = context.runtime.block_on(Prepared::new(workload))?;
    let manager = context.manager(&prepared, Duration::ZERO)?;
    let reference = Reference::of(workload, Box::new(NoStore));
    let filter = |job| TaskFilter::new().job(job_id(job)).states([TaskState::Pending]);
    let mut visited = 0;
    let [copyseg, theirs] = alternate([
        &mut || {
            visited = 0;
            Ok(nanos_per(workload.jobs, || {
                let snapshot = manager.snapshot().unwrap_or_default();
                for job in 0..workload.jobs {
                    visited += snapshot.tasks(&filter(job)).filter(|task| task.slots == 1).count();
                }
            }))
        },
        &mut || {
            let job = job_id(3).0;
            let found = || {
                reference
                    .tasks_by(&[&|task| task.job == job, &|task| task.state == TaskState::Pending as u8])
                    .len()
            };
            Ok(nanos_per(1, found))
        },
    ])?;
    check(visited, workload.count(TaskState::Pending))?;
    let ratio = copyseg.over(&theirs);
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P7",
        workload: "visit the pending tasks of one job of 100, 10,000 tasks each".into(),
        copyseg: copyseg.show(Unit::Nanos),
        reference: theirs.show(Unit::Nanos),
        ratios: ratio.show(Unit::Ratio),
        target: "≤ 0.001".into(),
        met: Some(ratio.median() <= 0.001),
        ..Row::default()
    }])
}

pub(super) fn progress(context: &Context) -> Result<Vec<Row>> {
    let workload = Workload::LARGE_JOBS;
    let large = context.runtime.block_on(Prepared::new(workload))?;
    let large = context.manager(&large, Duration::ZERO)?;
    let small = context.manager(context.million()?, Duration::ZERO)?;
    let reference = Reference::of(workload, Box::new(NoStore));
    let ask = |manager: &MetaManager, jobs: usize| {
        nanos_per(QUESTIONS, || {
            for question in 0..QUESTIONS {
                let progress = manager.snapshot().ok().and_then(|it| it.progress(job_id(question % jobs)));
                black_box(progress.map(|it| it.tasks.get(TaskState::Completed)));
            }
        })
    };
    let [in_large, in_small, theirs] = alternate([
        &mut || Ok(ask(&large, workload.jobs)),
        &mut || Ok(ask(&small, Workload::MILLION.jobs)),
        &mut || {
            Ok(nanos_per(workload.jobs, || {
                (0..workload.jobs).map(|job| reference.progress(job_id(job).0)[0]).sum::<usize>()
            }))
        },
    ])?;
    let ratio = in_large.over(&theirs);
    context.close(&large)?;
    context.close(&small)?;
    Ok(vec![Row {
        id: "P8",
        workload: "progress of a job of 10,000 tasks; of one of 100".into(),
        copyseg: format!("{}; {}", in_large.show(Unit::Nanos), in_small.show(Unit::Nanos)),
        reference: theirs.show(Unit::Nanos),
        ratios: ratio.show(Unit::Ratio),
        target: "< 1 µs at any size".into(),
        met: Some(in_large.median() < 1e3 && in_small.median() < 1e3),
        ..Row::default()
    }])
}

pub(super) fn jobs_by_state(context: &Context) -> Result<Vec<Row>> {
    const JOBS: usize = 10_000;
    let manager = context.runtime.block_on(jobs_without_tasks(JOBS))?;
    let reference = Reference::open((0..JOBS).map(job_record), [], Box::new(NoStore));
    let expected = reference.count_jobs(&|job| job.state == 1 || job.state == 2);
    check(manager.count_jobs(&active())?, expected)?;
    let [copyseg, theirs] = alternate([
        &mut || {
            Ok(nanos_per(QUESTIONS, || {
                (0..QUESTIONS)
                    .filter_map(|_| manager.count_jobs(&active()).ok())
                    .map(black_box)
                    .sum::<usize>()
            }))
        },
        &mut || {
            let filter = |job: &crate::reference::JobRecord| job.state == 1 || job.state == 2;
            Ok(nanos_per(100, || (0..100).map(|_| black_box(reference.count_jobs(&filter))).sum::<usize>()))
        },
    ])?;
    let ratio = copyseg.over(&theirs);
    context.close(&manager)?;
    Ok(vec![Row {
        id: "P9",
        workload: format!("count jobs by state, {expected} of 10,000"),
        copyseg: copyseg.show(Unit::Nanos),
        reference: theirs.show(Unit::Nanos),
        ratios: ratio.show(Unit::Ratio),
        target: "< 1 µs".into(),
        met: Some(copyseg.median() < 1e3),
        ..Row::default()
    }])
}

fn active() -> JobFilter {
    JobFilter::new().states([JobState::Pending, JobState::Executing])
}

/// Jobs in the states of the original benchmark.
async fn jobs_without_tasks(jobs: usize) -> Result<MetaManager> {
    let manager = MetaManager::open(Arc::new(MemoryCatalog::new()), ManagerOptions::default()).await?;
    for job in 0..jobs {
        let steps: &[JobState] = match state_of(job) {
            TaskState::Completed => &[JobState::Executing, JobState::Publishing, JobState::Completed],
            TaskState::InProgress => &[JobState::Executing],
            TaskState::Failed => &[JobState::Failed],
            _ => &[],
        };
        manager
            .transact(|txn| {
                let id = txn.add_job(NewJob { rows: None, ..new_job(job) }, vec![])?;
                steps.iter().try_for_each(|step| txn.update_job(id, [JobAction::State(*step)]).map(drop))
            })
            .await?;
    }
    Ok(manager)
}

fn sum<'a>(tasks: impl Iterator<Item = &'a Arc<Task>>) -> u64 {
    tasks.map(|task| u64::from(task.slots)).sum()
}

/// A benchmark that does other work than it says is worth nothing.
pub(super) fn check(found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{found} were found, not {expected}").into()) }
}
