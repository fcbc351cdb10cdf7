//! The tasks of each collection, by way of their jobs.

use crate::id::{CollectionId, JobId};
use crate::id_map::IdMap;

/// Which jobs have tasks in a collection, and how many. Jobs are far fewer than tasks, and the index by job
/// leads on to the tasks.
#[derive(Debug, Clone, Default)]
pub(super) struct Collections(IdMap<CollectionId, Entry>);

#[derive(Debug, Clone, Default)]
struct Entry {
    tasks: usize,
    jobs: IdMap<JobId, usize>,
}

impl Collections {
    /// How many tasks the collection has.
    pub(super) fn count(&self, id: CollectionId) -> usize {
        self.0.get(id).map_or(0, |entry| entry.tasks)
    }

    /// The jobs that have tasks in the collection.
    pub(super) fn jobs(&self, id: CollectionId) -> impl Iterator<Item = JobId> {
        self.0.get(id).into_iter().flat_map(|entry| entry.jobs.iter().map(|(job, _)| job))
    }

    /// Counts a task that has moved from its old to its new collection and job.
    pub(super) fn replace(&mut self, old: Option<(CollectionId, JobId)>, new: Option<(CollectionId, JobId)>) {
        if let Some((id, job)) = old {
            self.subtract(id, job);
        }
        if let Some((id, job)) = new {
            self.add(id, job, 1);
        }
    }

    /// Counts more tasks of a job.
    pub(super) fn add(&mut self, id: CollectionId, job: JobId, tasks: usize) {
        self.0.change(id, |entry| {
            entry.tasks += tasks;
            entry.jobs.change(job, |of_job| *of_job += tasks);
        });
    }

    fn subtract(&mut self, id: CollectionId, job: JobId) {
        if self.0.get(id).is_none_or(|entry| entry.jobs.get(job).is_none()) {
            return;
        }
        let is_empty = self.0.change(id, |entry| {
            entry.tasks -= 1;
            let is_last = entry.jobs.change(job, |tasks| {
                *tasks -= 1;
                *tasks == 0
            });
            if is_last {
                entry.jobs.remove(job);
            }
            entry.tasks == 0
        });
        if is_empty {
            self.0.remove(id);
        }
    }
}
