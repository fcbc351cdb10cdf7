//! The tasks of each collection, by way of their jobs.

use imbl::OrdMap;

use crate::id::{CollectionId, JobId};

/// Which jobs have tasks in a collection, and how many. Jobs are far fewer than tasks, and the index by job
/// leads on to the tasks.
#[derive(Debug, Clone, Default)]
pub(super) struct Collections(OrdMap<CollectionId, Entry>);

#[derive(Debug, Clone, Default)]
struct Entry {
    tasks: usize,
    jobs: OrdMap<JobId, usize>,
}

impl Collections {
    /// How many tasks the collection has.
    pub(super) fn count(&self, id: CollectionId) -> usize {
        self.0.get(&id).map_or(0, |entry| entry.tasks)
    }

    /// The jobs that have tasks in the collection.
    pub(super) fn jobs(&self, id: CollectionId) -> impl Iterator<Item = JobId> {
        self.0.get(&id).into_iter().flat_map(|entry| entry.jobs.keys().copied())
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

    fn add(&mut self, id: CollectionId, job: JobId, tasks: usize) {
        let entry = self.0.entry(id).or_default();
        entry.tasks += tasks;
        *entry.jobs.entry(job).or_default() += tasks;
    }

    fn subtract(&mut self, id: CollectionId, job: JobId) {
        let Some(entry) = self.0.get_mut(&id) else { return };
        entry.tasks -= 1;
        if let Some(tasks) = entry.jobs.get_mut(&job) {
            *tasks -= 1;
            if *tasks == 0 {
                entry.jobs.remove(&job);
            }
        }
        if entry.tasks == 0 {
            self.0.remove(&id);
        }
    }
}

/// From the number of tasks of each job in each collection.
impl FromIterator<((CollectionId, JobId), usize)> for Collections {
    fn from_iter<T: IntoIterator<Item = ((CollectionId, JobId), usize)>>(counts: T) -> Self {
        let mut collections = Self::default();
        for ((id, job), tasks) in counts {
            collections.add(id, job, tasks);
        }
        collections
    }
}
