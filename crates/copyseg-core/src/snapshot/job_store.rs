//! Jobs by id, with indexes by state and collection.

use std::sync::Arc;

use crate::filter::{JobFilter, StateSet};
use crate::id::{CollectionId, JobId};
use crate::id_map::IdMap;
use crate::id_set::IdSet;
use crate::index::{ByState, Index};
use crate::job::{Job, JobState};
use crate::task_store::merge;

/// Jobs in id order; like [`TaskStore`](crate::TaskStore), a value with structural sharing.
#[derive(Clone, Default)]
pub(super) struct JobStore {
    jobs: IdMap<JobId, Arc<Job>>,
    by_state: ByState<JobId, { JobState::ALL.len() }>,
    by_collection: Index<CollectionId, JobId>,
}

impl JobStore {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(id)
    }

    pub(super) fn insert(&mut self, job: Arc<Job>) -> Option<Arc<Job>> {
        let old = self.jobs.insert(job.id, Arc::clone(&job));
        self.reindex(old.as_ref(), Some(&job));
        old
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Arc<Job>> {
        let old = self.jobs.remove(id)?;
        self.reindex(Some(&old), None);
        Some(old)
    }

    pub(super) fn matching<'s>(&'s self, filter: &JobFilter) -> impl Iterator<Item = &'s Arc<Job>> {
        self.candidates(filter).filter(move |job| filter.matches(job)).take(filter.limit)
    }

    pub(super) fn count(&self, filter: &JobFilter) -> usize {
        if !filter.predicates.is_empty() || filter.after.is_some() {
            return self.matching(filter).count();
        }
        let count = match filter.collection {
            None => self.in_states(filter.states).map(IdSet::len).sum(),
            Some(id) if states(filter.states).count() == JobState::ALL.len() => self.by_collection.count(id),
            Some(_) => self.matching(filter).count(),
        };
        count.min(filter.limit)
    }

    fn reindex(&mut self, old: Option<&Arc<Job>>, new: Option<&Arc<Job>>) {
        let Some(job) = new.or(old) else { return };
        let collection = |job: Option<&Arc<Job>>| job.map(|job| job.collection);
        self.by_collection.replace(job.id, collection(old), collection(new));
        let state = |job: Option<&Arc<Job>>| job.map(|job| job.state as usize);
        self.by_state.replace(job.id, state(old), state(new));
    }

    fn candidates<'s>(&'s self, filter: &JobFilter) -> Box<dyn Iterator<Item = &'s Arc<Job>> + 's> {
        let after = filter.after;
        let of_states: usize = self.in_states(filter.states).map(IdSet::len).sum();
        match filter.collection {
            Some(id) if self.by_collection.count(id) <= of_states => {
                let ids = self.by_collection.get(id).into_iter().flat_map(move |ids| ids.iter_after(after));
                Box::new(self.jobs.get_each(ids))
            }
            _ if of_states < self.jobs.len() => {
                let ids = self.in_states(filter.states).map(move |ids| ids.iter_after(after));
                Box::new(self.jobs.get_each(merge(ids, |id| id)))
            }
            _ => Box::new(self.jobs.iter_after(after).map(|(_, job)| job)),
        }
    }

    fn in_states(&self, allowed: StateSet) -> impl Iterator<Item = &IdSet<JobId>> {
        states(allowed).map(|state| self.by_state.get(state as usize))
    }
}

fn states(allowed: StateSet) -> impl Iterator<Item = JobState> {
    JobState::ALL.into_iter().filter(move |state| allowed.contains(*state as u8))
}
