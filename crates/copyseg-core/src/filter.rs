//! Composable filters: every condition must hold, and results come in id order.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::id::{CollectionId, DatabaseId, JobId, NodeId, TaskId};
use crate::job::{Job, JobState};
use crate::task::{Task, TaskState};
use crate::time::Timestamp;

/// Which jobs to list or count: those for which every condition holds. Without conditions, all of them.
///
/// Conditions only ever narrow: asking for two different collections matches nothing. Milvus' filters compose
/// the same way.
///
/// ```
/// # use copyseg_core::{CollectionId, JobFilter, JobState, Timestamp};
/// let stuck = JobFilter::new()
///     .collection(CollectionId(7))
///     .without_states([JobState::Completed, JobState::Failed, JobState::Cancelled])
///     .updated(..Timestamp::from_millis(1_760_000_000_000))
///     .matching(|job| job.segments > 1_000)
///     .limit(20);
/// # let _ = stuck;
/// ```
#[derive(Clone)]
#[must_use = "a filter does nothing until it is passed to a query"]
pub struct JobFilter {
    pub(crate) collection: Option<CollectionId>,
    pub(crate) states: StateSet,
    pub(crate) predicates: Vec<Predicate<Job>>,
    pub(crate) after: Option<JobId>,
    pub(crate) limit: usize,
}

/// Which tasks to list or count: those for which every condition holds. Without conditions, all of them.
///
/// Conditions only ever narrow: asking for two different jobs matches nothing. Milvus' filters compose the
/// same way.
///
/// ```
/// # use copyseg_core::{JobId, TaskFilter, TaskId, TaskState};
/// let page = TaskFilter::new().job(JobId(7)).states([TaskState::Pending]).limit(100);
/// let next = page.clone().after(TaskId(41)); // the last id of the page before
/// # let _ = next;
/// ```
#[derive(Clone)]
#[must_use = "a filter does nothing until it is passed to a query"]
pub struct TaskFilter {
    pub(crate) job: Option<JobId>,
    pub(crate) collection: Option<CollectionId>,
    pub(crate) node: Option<NodeId>,
    pub(crate) states: StateSet,
    pub(crate) predicates: Vec<Predicate<Task>>,
    pub(crate) after: Option<TaskId>,
    pub(crate) limit: usize,
}

/// The conditions that jobs and tasks have in common.
macro_rules! conditions {
    ($record:ident, $id:ident, $state:ident) => {
        /// Only those of this collection.
        pub fn collection(mut self, id: CollectionId) -> Self {
            match self.collection.replace(id) {
                Some(other) => self.matching(move |record| record.collection == other),
                None => self,
            }
        }

        /// Only those in one of these states; with no state at all, nothing.
        pub fn states(mut self, states: impl IntoIterator<Item = $state>) -> Self {
            self.states = self.states.intersection(StateSet::of(states.into_iter().map(|state| state as u8)));
            self
        }

        /// Only those in none of these states; with no state at all, this is no condition.
        pub fn without_states(mut self, states: impl IntoIterator<Item = $state>) -> Self {
            self.states = self.states.without(StateSet::of(states.into_iter().map(|state| state as u8)));
            self
        }

        /// Only those added within this range of time.
        pub fn created(self, range: impl RangeBounds<Timestamp> + Send + Sync + 'static) -> Self {
            self.matching(move |record| range.contains(&record.created))
        }

        /// Only those that last changed within this range of time.
        pub fn updated(self, range: impl RangeBounds<Timestamp> + Send + Sync + 'static) -> Self {
            self.matching(move |record| range.contains(&record.updated))
        }

        /// Only those that ended within this range of time; what has not ended is in no range, not even `..`.
        pub fn completed(self, range: impl RangeBounds<Timestamp> + Send + Sync + 'static) -> Self {
            self.matching(move |record| record.completed.is_some_and(|time| range.contains(&time)))
        }

        /// Only those for which this holds. It is asked last, about what all other conditions leave, and
        /// should be quick.
        pub fn matching(mut self, predicate: impl Fn(&$record) -> bool + Send + Sync + 'static) -> Self {
            self.predicates.push(Arc::new(predicate));
            self
        }

        /// Only those with a greater id: the last id of one page asks for the next. What comes before is not
        /// walked.
        pub fn after(mut self, id: $id) -> Self {
            self.after = self.after.max(Some(id));
            self
        }

        /// At most this many, the first in id order.
        pub fn limit(mut self, limit: usize) -> Self {
            self.limit = self.limit.min(limit);
            self
        }
    };
}

impl JobFilter {
    /// Every job.
    pub const fn new() -> Self {
        Self {
            collection: None,
            states: StateSet::ALL,
            predicates: Vec::new(),
            after: None,
            limit: usize::MAX,
        }
    }

    /// Only those of this database.
    pub fn database(self, id: DatabaseId) -> Self {
        self.matching(move |job| job.database == id)
    }

    conditions!(Job, JobId, JobState);

    /// Whether `job` meets every condition; the limit is the query's business.
    pub(crate) fn matches(&self, job: &Job) -> bool {
        self.states.contains(job.state as u8)
            && self.collection.is_none_or(|id| id == job.collection)
            && self.after.is_none_or(|id| id < job.id)
            && self.predicates.iter().all(|predicate| predicate(job))
    }
}

impl TaskFilter {
    /// Every task.
    pub const fn new() -> Self {
        Self {
            job: None,
            collection: None,
            node: None,
            states: StateSet::ALL,
            predicates: Vec::new(),
            after: None,
            limit: usize::MAX,
        }
    }

    /// Only those of this job.
    pub fn job(mut self, id: JobId) -> Self {
        match self.job.replace(id) {
            Some(other) => self.matching(move |task| task.job == other),
            None => self,
        }
    }

    /// Only those that this worker has, or had last.
    pub fn node(mut self, id: NodeId) -> Self {
        match self.node.replace(id) {
            Some(other) => self.matching(move |task| task.node == Some(other)),
            None => self,
        }
    }

    conditions!(Task, TaskId, TaskState);

    /// Whether `task` meets every condition; the limit is the query's business.
    pub(crate) fn matches(&self, task: &Task) -> bool {
        self.states.contains(task.state as u8)
            && self.job.is_none_or(|id| id == task.job)
            && self.collection.is_none_or(|id| id == task.collection)
            && self.node.is_none_or(|id| Some(id) == task.node)
            && self.after.is_none_or(|id| id < task.id)
            && self.predicates.iter().all(|predicate| predicate(task))
    }
}

impl Default for JobFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for TaskFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for JobFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobFilter")
            .field("collection", &self.collection)
            .field("states", &JobState::ALL.map(|state| self.states.contains(state as u8).then_some(state)))
            .field("predicates", &self.predicates.len())
            .field("after", &self.after)
            .field("limit", &self.limit)
            .finish()
    }
}

impl fmt::Debug for TaskFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskFilter")
            .field("job", &self.job)
            .field("collection", &self.collection)
            .field("node", &self.node)
            .field("states", &TaskState::ALL.map(|state| self.states.contains(state as u8).then_some(state)))
            .field("predicates", &self.predicates.len())
            .field("after", &self.after)
            .field("limit", &self.limit)
            .finish()
    }
}

type Predicate<R> = Arc<dyn Fn(&R) -> bool + Send + Sync>;

/// A set of states, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateSet(u8);

impl StateSet {
    pub(crate) const ALL: Self = Self(u8::MAX);

    fn of(states: impl Iterator<Item = u8>) -> Self {
        Self(states.fold(0, |set, state| set | 1 << state))
    }

    pub(crate) fn contains(self, state: u8) -> bool {
        self.0 & 1 << state != 0
    }

    fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests;
