//! What can be wrong with the records of a catalog.

use std::collections::{BTreeMap, HashSet};

use copyseg::{
    Catalog, CollectionId, DecodedRecord, Error, ErrorKind, Job, JobFilter, JobId, JobState, RecordCounts,
    RecordKey, RecordKind, Result, Revision, Snapshot, Task, TaskFilter, TaskState, decode_record,
};
use futures::TryStreamExt;
use serde::Serialize;

use super::set_aside::reason;

/// The result of a check.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    pub(super) records: u64,
    pub(super) revision: Revision,
    /// Tasks of no job. The manager removes them when it next opens the catalog, so they are no problem.
    pub(super) orphans: usize,
    /// Why the storage below the records was not verified, if it was not.
    pub(super) storage_unverified: Option<String>,
    pub(super) problems: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) problem: &'static str,
    pub(super) record: String,
    pub(super) detail: String,
}

impl Findings {
    /// A catalog of which nothing can be said but why it cannot be read.
    pub(super) fn unreadable(error: &Error) -> Self {
        let mut findings = Self::default();
        findings.add("storage", "catalog", error.chain());
        findings
    }

    /// Adds what the backend says of its own files.
    pub(super) fn add_storage(&mut self, sound: Result<bool>) -> Result<()> {
        match sound {
            Ok(true) => {}
            Ok(false) => {
                self.add("storage", "catalog", "it was damaged and has been repaired; check it again")
            }
            // Whatever is damaged has been found already.
            Err(error) if error.kind() == ErrorKind::Corrupt && !self.problems.is_empty() => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => self.add("storage", "catalog", error.chain()),
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unsupported) => {
                self.storage_unverified = Some(error.chain())
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn add(&mut self, problem: &'static str, record: impl ToString, detail: impl ToString) {
        self.problems.push(Finding { problem, record: record.to_string(), detail: detail.to_string() });
    }
}

/// Decodes every record, counts again, and compares jobs with their tasks and indexes with the records.
pub(super) async fn inspect(catalog: &dyn Catalog) -> Result<Findings> {
    let mut findings = Findings::default();
    let records = Records::load(catalog, &mut findings).await?;
    let visible = records.visible_tasks(&mut findings);
    for job in records.jobs.values() {
        check_job(job, visible.get(&job.id).map_or(&[], Vec::as_slice), &mut findings);
    }
    if records.counts == records.expected {
        check_indexes(&Snapshot::load(catalog).await?, &records.jobs, &visible, &mut findings);
    } else {
        let [expected, found] = [records.expected, records.counts].map(|counts| format!("{:?}", counts.0));
        let kinds = RecordKind::ALL.map(RecordKind::as_str).join(", ");
        findings.add(
            "counts",
            "head",
            format!("of {kinds} records it counts {expected}, but there are {found}"),
        );
    }
    Ok(findings)
}

/// Every record, decoded by this check and not by the manager.
#[derive(Default)]
struct Records {
    expected: RecordCounts,
    counts: RecordCounts,
    jobs: BTreeMap<JobId, Job>,
    tasks: Vec<Task>,
    set_aside: HashSet<RecordKey>,
}

impl Records {
    async fn load(catalog: &dyn Catalog, findings: &mut Findings) -> Result<Self> {
        let mut loaded = catalog.load().await?;
        let mut records = Self { expected: loaded.head.counts, ..Self::default() };
        findings.revision = loaded.head.revision;
        while let Some(page) = loaded.pages.try_next().await? {
            for record in page {
                findings.records += 1;
                if let Some(count) = records.counts.0.get_mut(record.key.kind as usize) {
                    *count += 1;
                }
                match decode_record(&record) {
                    Ok(DecodedRecord::Job(job)) => drop(records.jobs.insert(job.id, job)),
                    Ok(DecodedRecord::Task(task)) => records.tasks.push(task),
                    decoded => {
                        if let Some(reason) = reason(decoded)? {
                            findings.add("set_aside", record.key, reason);
                            records.set_aside.insert(record.key);
                        }
                    }
                }
            }
        }
        Ok(records)
    }

    /// The tasks of each job as they are shown: those of its incarnation, and ended with it.
    fn visible_tasks(&self, findings: &mut Findings) -> BTreeMap<JobId, Vec<Task>> {
        let mut visible: BTreeMap<_, Vec<_>> = BTreeMap::new();
        // As the manager does: while the record of any job is set aside, tasks without one may be that job's.
        let lacks_a_job = self.set_aside.iter().any(|key| key.kind == RecordKind::Job);
        for task in &self.tasks {
            match self.jobs.get(&task.job) {
                Some(job) if job.incarnation == task.incarnation => {
                    let mut task = task.clone();
                    task.state = shown_state(job, task.state);
                    visible.entry(task.job).or_default().push(task);
                }
                None if lacks_a_job => {}
                _ => findings.orphans += 1,
            }
        }
        visible
    }
}

/// An open task of a job that failed or was cancelled has failed or is cancelled, whatever its record says.
fn shown_state(job: &Job, state: TaskState) -> TaskState {
    match job.state {
        _ if state.is_terminal() => state,
        JobState::Failed => TaskState::Failed,
        JobState::Cancelled => TaskState::Cancelled,
        _ => state,
    }
}

/// Holds a job against its tasks.
fn check_job(job: &Job, tasks: &[Task], findings: &mut Findings) {
    let name = RecordKey { kind: RecordKind::Job, id: job.id.0 };
    let segments = tasks.iter().map(|task| task.segments.len() as u64).sum::<u64>();
    if segments > job.segments {
        findings.add(
            "segments",
            name,
            format!("its tasks copy {segments} segments, it counts {}", job.segments),
        );
    }
    if matches!(job.state, JobState::Publishing | JobState::Completed) {
        if segments < job.segments {
            findings.add(
                "segments",
                name,
                format!("it is {} with {segments} of {} segments", job.state, job.segments),
            );
        }
        for task in tasks.iter().filter(|task| task.state != TaskState::Completed) {
            findings.add(
                "state",
                name,
                format!("it is {}, but task {} is {}", job.state, task.id, task.state),
            );
        }
    }
    let (mut sources, mut targets) = (HashSet::new(), HashSet::new());
    for pair in tasks.iter().flat_map(|task| task.segments.iter()) {
        if !sources.insert(pair.source) {
            findings.add("doubled", name, format!("source segment {} is copied twice", pair.source));
        }
        if !targets.insert(pair.target) {
            findings.add("doubled", name, format!("target segment {} is written twice", pair.target));
        }
    }
    for task in tasks.iter().filter(|task| task.collection != job.collection) {
        findings.add("collection", name, format!("task {} is of collection {}", task.id, task.collection));
    }
}

/// Builds the indexes anew, as every start does, and compares their answers with the records.
fn check_indexes(
    snapshot: &Snapshot,
    jobs: &BTreeMap<JobId, Job>,
    visible: &BTreeMap<JobId, Vec<Task>>,
    findings: &mut Findings,
) {
    let mut compare = |name: String, indexed: u64, counted: u64| {
        if indexed != counted {
            findings.add("index", name, format!("the index says {indexed}, the records say {counted}"));
        }
    };
    for state in JobState::ALL {
        let counted = jobs.values().filter(|job| job.state == state).count();
        let indexed = snapshot.count_jobs(&JobFilter::new().states([state]));
        compare(format!("jobs {state}"), indexed as u64, counted as u64);
    }
    for id in jobs.keys() {
        let tasks = visible.get(id).map_or(&[][..], Vec::as_slice);
        let progress = snapshot.progress(*id).unwrap_or_default();
        for state in TaskState::ALL {
            let counted = || tasks.iter().filter(|task| task.state == state);
            let segments = counted().map(|task| task.segments.len() as u64).sum();
            compare(format!("job:{id} tasks {state}"), progress.tasks.get(state), counted().count() as u64);
            compare(format!("job:{id} segments {state}"), progress.segments.get(state), segments);
        }
        compare(format!("job:{id} tasks"), snapshot.tasks_of_job(*id).count() as u64, tasks.len() as u64);
    }
    let mut by_collection: BTreeMap<CollectionId, u64> = BTreeMap::new();
    for task in visible.values().flatten() {
        *by_collection.entry(task.collection).or_default() += 1;
    }
    for (id, counted) in by_collection {
        let indexed = snapshot.count_tasks(&TaskFilter::new().collection(id));
        compare(format!("tasks of collection {id}"), indexed as u64, counted);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use copyseg::{
        Batch, Head, ManagerOptions, MemoryCatalog, MetaManager, NewJob, NewTask, Operation, SegmentId,
        SegmentPair,
    };

    use super::*;

    /// Damage may have hit the id that a job's record is stored under: its tasks are kept, and nothing removes them.
    #[tokio::test]
    async fn tasks_that_a_job_set_aside_may_claim_are_no_orphans() {
        let catalog = MemoryCatalog::new();
        let manager = MetaManager::open(Arc::new(catalog.clone()), ManagerOptions::default()).await.unwrap();
        let task = NewTask::new([SegmentPair::new(SegmentId(1), SegmentId(2))]);
        let id = manager.add_job(NewJob::default(), vec![task]).await.unwrap();
        manager.close().await.unwrap();
        let key = |id| RecordKey { kind: RecordKind::Job, id };
        let damaged = Operation::Put(key(id.0 + 1), (*b"not a record").into());
        let head = catalog.acquire().await.unwrap();
        let next = Head { batch: head.batch ^ 1, ..head };
        let moved = Batch::from_iter([Operation::Delete(key(id.0)), damaged]);
        catalog.commit(&head, &next, &moved).await.unwrap();

        let findings = inspect(&catalog).await.unwrap();
        assert_eq!(findings.orphans, 0);
        let problems: Vec<_> = findings.problems.iter().map(|it| (it.problem, it.record.clone())).collect();
        assert_eq!(problems, [("set_aside", key(id.0 + 1).to_string())]);
    }
}
