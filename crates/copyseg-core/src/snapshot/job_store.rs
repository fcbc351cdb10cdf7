//! Jobs by id, with indexes by state and collection.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use imbl::OrdMap;

use crate::filter::JobFilter;
use crate::id::{CollectionId, JobId};
use crate::job::{Job, JobState};
use crate::task_store::{Index, merge};

/// Jobs in id order; like [`TaskStore`](crate::TaskStore), a value with structural sharing.
#[derive(Clone, Default)]
pub(super) struct JobStore {
    jobs: OrdMap<JobId, Arc<Job>>,
    index: Index<IndexKey, JobId, Arc<Job>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum IndexKey {
    Collection(CollectionId),
    State(JobState),
}

/// The one place that says under which keys a job is found.
fn index_keys(job: &Job) -> [IndexKey; 2] {
    [IndexKey::Collection(job.collection), IndexKey::State(job.state)]
}

impl JobStore {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }

    pub(super) fn insert(&mut self, job: Arc<Job>) -> Option<Arc<Job>> {
        let old = self.remove(job.id);
        for key in index_keys(&job) {
            self.index.replace(job.id, None, Some(key), Arc::clone(&job));
        }
        self.jobs.insert(job.id, job);
        old
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Arc<Job>> {
        let old = self.jobs.remove(&id)?;
        for key in index_keys(&old) {
            self.index.replace(id, Some(key), None, Arc::clone(&old));
        }
        Some(old)
    }

    pub(super) fn matching<'s>(&'s self, filter: &JobFilter) -> impl Iterator<Item = &'s Arc<Job>> {
        self.candidates(filter).filter(move |job| filter.matches(job)).take(filter.limit)
    }

    pub(super) fn count(&self, filter: &JobFilter) -> usize {
        if !filter.predicates.is_empty() || filter.after.is_some() {
            return self.matching(filter).count();
        }
        let states = states(filter);
        let count = match filter.collection {
            None => states.iter().map(|key| self.index.count(*key)).sum(),
            Some(id) if states.len() == JobState::ALL.len() => self.index.count(IndexKey::Collection(id)),
            Some(_) => self.matching(filter).count(),
        };
        count.min(filter.limit)
    }

    fn candidates<'s>(&'s self, filter: &JobFilter) -> Box<dyn Iterator<Item = &'s Arc<Job>> + 's> {
        let range = (filter.after.map_or(Unbounded, Excluded), Unbounded);
        let size = |keys: &Vec<_>| keys.iter().map(|key| self.index.count(*key)).sum::<usize>();
        let by_collection = filter.collection.map(|id| vec![IndexKey::Collection(id)]);
        let narrowest = by_collection.into_iter().chain([states(filter)]).min_by_key(size);
        match narrowest.filter(|keys| size(keys) < self.jobs.len()) {
            Some(keys) => {
                let buckets = keys.into_iter().filter_map(|key| self.index.get(key));
                Box::new(merge(buckets.map(move |bucket| bucket.range(range))).map(|(_, job)| job))
            }
            None => Box::new(self.jobs.range(range).map(|(_, job)| job)),
        }
    }
}

fn states(filter: &JobFilter) -> Vec<IndexKey> {
    let allowed = |state: &JobState| filter.states.contains(*state as u8);
    JobState::ALL.into_iter().filter(allowed).map(IndexKey::State).collect()
}
