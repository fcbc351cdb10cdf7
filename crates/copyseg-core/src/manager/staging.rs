//! Adding a job that is larger than one atomic batch: its tasks are stored first, where nobody sees them, and
//! the job's own record, last, makes all of it visible.

use std::sync::Arc;

use super::{MetaManager, Shared, Work, check_not_in_closure, unknown};
use crate::catalog::{Limits, Operation, RecordKey};
use crate::error::{ErrorKind, Result};
use crate::id::JobId;
use crate::job::{Job, NewJob};
use crate::task::{NewTask, Task};
use crate::txn::{job_key, task_key};
use crate::wire;

/// A batch of staged tasks takes at most this many records, so that other transactions come in between.
const STAGE_MAX: usize = 1024;

impl MetaManager {
    /// Adds a job and its tasks, of any number, all or none.
    ///
    /// What fits into one batch of the backend is one commit. A larger job takes several, between which other
    /// transactions run; it becomes visible, whole, with the last of them, and its ids are reserved until then.
    /// Once a larger job is on its way, dropping this future does not stop it.
    ///
    /// # Errors
    /// Those of [`Txn::add_job`](crate::Txn::add_job) and of [`transact`](Self::transact);
    /// [`TooLarge`](ErrorKind::TooLarge) if a single record is.
    pub async fn add_job(&self, job: NewJob, tasks: Vec<NewTask>) -> Result<JobId> {
        check_not_in_closure()?;
        // The job's own record and the counter's.
        if tasks.len() + 2 <= self.shared.limits.operations_max {
            let (job, tasks) = (job.clone(), tasks.clone());
            match self.transact(|txn| txn.add_job(job, tasks)).await {
                Err(error) if error.kind() == ErrorKind::TooLarge => {}
                result => return result,
            }
        }
        let manager = self.clone();
        tokio::spawn(async move { manager.stage_job(job, tasks).await }).await.map_err(|_| unknown())?
    }

    async fn stage_job(&self, job: NewJob, tasks: Vec<NewTask>) -> Result<JobId> {
        let mut reserved = Reserved { shared: &self.shared, keys: Vec::new() };
        let prepared = self.transact(|txn| {
            let (job, tasks) = txn.prepare_job(job, tasks)?;
            let records = encode(&job, &tasks)?;
            reserved.keys = tasks.iter().map(|task| task_key(task.id)).chain([job_key(job.id)]).collect();
            txn.reserve(reserved.keys.iter().copied());
            Ok((job, tasks.into_iter().map(Arc::new).collect(), records))
        });
        let (job, tasks, records) = prepared.await?;
        self.store_staged(job, tasks, records).await
    }

    async fn store_staged(&self, job: Job, tasks: Vec<Arc<Task>>, records: Vec<Operation>) -> Result<JobId> {
        let ids = tasks.iter().map(|task| task.id).collect();
        let result = match self.store_records(records).await {
            Ok(()) => self.transact(|txn| Ok(txn.adopt_job(job, tasks))).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            // Whether this is taken or not, what stays behind is swept at the next open at the latest.
            let _ = self.shared.submit(Work { abandoned: ids, ..Work::default() }).await;
        }
        result
    }

    async fn store_records(&self, records: Vec<Operation>) -> Result<()> {
        let limits = self.shared.limits;
        let mut batch = Vec::new();
        let mut size = 0;
        for record in records {
            if batch.len() == stage_max(limits) || size + record.size() > limits.bytes_max {
                self.store_batch(&mut batch).await?;
                size = 0;
            }
            size += record.size();
            batch.push(record);
        }
        self.store_batch(&mut batch).await
    }

    async fn store_batch(&self, batch: &mut Vec<Operation>) -> Result<()> {
        self.shared.submit(Work { operations: std::mem::take(batch), ..Work::default() }).await
    }
}

/// Ids that nobody else may use. Given back also where the addition ends with its runtime, which the manager may outlive.
struct Reserved<'a> {
    shared: &'a Shared,
    keys: Vec<RecordKey>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut accepted = self.shared.accepted.lock();
        for key in &self.keys {
            accepted.reserved.remove(key);
        }
    }
}

fn stage_max(limits: Limits) -> usize {
    limits.operations_max.min(STAGE_MAX)
}

/// The records of the tasks, all of them before the first is written, because any may be too large; and so may the
/// job's own, which comes last.
fn encode(job: &Job, tasks: &[Task]) -> Result<Vec<Operation>> {
    wire::encode_job(job)?;
    tasks.iter().map(|task| Ok(Operation::Put(task_key(task.id), wire::encode_task(task)?))).collect()
}
