//! Every query, asked of the manager and answered by walking over the model.

use copyseg_core::{
    CollectionId, JobFilter, JobId, JobState, NodeId, Snapshot, TaskFilter, TaskId, TaskState, Timestamp,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{JobRecord, Model, TaskRecord};

/// Filters that are tried after every step of a run.
#[derive(Debug, Clone)]
pub(crate) struct Queries {
    tasks: Vec<TaskQuery>,
    jobs: Vec<JobQuery>,
}

#[derive(Debug, Clone)]
struct TaskQuery {
    jobs: Vec<JobId>,
    collections: Vec<CollectionId>,
    nodes: Vec<NodeId>,
    states: Option<Vec<TaskState>>,
    without: Vec<TaskState>,
    updated: Option<Timestamp>,
    created: Option<Timestamp>,
    ended: bool,
    attempts: Option<u32>,
    after: Option<TaskId>,
    limit: Option<usize>,
}

#[derive(Debug, Clone)]
struct JobQuery {
    collections: Vec<CollectionId>,
    states: Option<Vec<JobState>>,
    without: Vec<JobState>,
    updated: Option<Timestamp>,
    ended: bool,
    after: Option<JobId>,
    limit: Option<usize>,
}

impl TaskQuery {
    fn filter(&self) -> TaskFilter {
        let mut filter = TaskFilter::new().without_states(self.without.clone());
        filter = self.jobs.iter().fold(filter, |filter, id| filter.job(*id));
        filter = self.collections.iter().fold(filter, |filter, id| filter.collection(*id));
        filter = self.nodes.iter().fold(filter, |filter, id| filter.node(*id));
        if let Some(states) = &self.states {
            filter = filter.states(states.clone());
        }
        if let Some(time) = self.updated {
            filter = filter.updated(time..);
        }
        if let Some(time) = self.created {
            filter = filter.created(..time);
        }
        if self.ended {
            filter = filter.completed(..);
        }
        if let Some(attempts) = self.attempts {
            filter = filter.matching(move |task| task.attempt >= attempts);
        }
        if let Some(after) = self.after {
            filter = filter.after(after);
        }
        self.limit.map_or(filter.clone(), |limit| filter.limit(limit))
    }

    fn leaves(&self, id: TaskId, task: &TaskRecord) -> bool {
        self.jobs.iter().all(|job| task.job == *job)
            && self.collections.iter().all(|collection| task.collection == *collection)
            && self.nodes.iter().all(|node| task.node == Some(*node))
            && self.states.as_ref().is_none_or(|states| states.contains(&task.state))
            && !self.without.contains(&task.state)
            && self.updated.is_none_or(|time| task.updated >= time)
            && self.created.is_none_or(|time| task.created < time)
            && (!self.ended || task.completed.is_some())
            && self.attempts.is_none_or(|attempts| task.attempt >= attempts)
            && self.after.is_none_or(|after| id > after)
    }
}

impl JobQuery {
    fn filter(&self) -> JobFilter {
        let mut filter = JobFilter::new().without_states(self.without.clone());
        filter = self.collections.iter().fold(filter, |filter, id| filter.collection(*id));
        if let Some(states) = &self.states {
            filter = filter.states(states.clone());
        }
        if let Some(time) = self.updated {
            filter = filter.updated(time..);
        }
        if self.ended {
            filter = filter.completed(..);
        }
        if let Some(after) = self.after {
            filter = filter.after(after);
        }
        self.limit.map_or(filter.clone(), |limit| filter.limit(limit))
    }

    fn leaves(&self, id: JobId, job: &JobRecord) -> bool {
        self.collections.iter().all(|collection| job.collection == *collection)
            && self.states.as_ref().is_none_or(|states| states.contains(&job.state))
            && !self.without.contains(&job.state)
            && self.updated.is_none_or(|time| job.updated >= time)
            && (!self.ended || job.completed.is_some())
            && self.after.is_none_or(|after| id > after)
    }
}

impl Queries {
    /// Asserts that the snapshot answers like the model, and returns how many questions were asked.
    pub(super) fn check(&self, model: &Model, snapshot: &Snapshot) -> u64 {
        for query in &self.tasks {
            let filter = query.filter();
            let expected: Vec<TaskId> = model
                .tasks
                .iter()
                .filter(|(id, task)| query.leaves(**id, task))
                .map(|(id, _)| *id)
                .take(query.limit.unwrap_or(usize::MAX))
                .collect();
            let found: Vec<TaskId> = snapshot.tasks(&filter).map(|task| task.id).collect();
            assert_eq!(found, expected, "{query:?}");
            assert_eq!(snapshot.count_tasks(&filter), expected.len(), "count {query:?}");
        }
        for query in &self.jobs {
            let filter = query.filter();
            let expected: Vec<JobId> = model
                .jobs
                .iter()
                .filter(|(id, job)| query.leaves(**id, job))
                .map(|(id, _)| *id)
                .take(query.limit.unwrap_or(usize::MAX))
                .collect();
            let found: Vec<JobId> = snapshot.jobs(&filter).map(|job| job.id).collect();
            assert_eq!(found, expected, "{query:?}");
            assert_eq!(snapshot.count_jobs(&filter), expected.len(), "count {query:?}");
        }
        check_jobs(model, snapshot);
        2 * (self.tasks.len() + self.jobs.len()) as u64
    }
}

/// Progress and tasks of each job and collection, of some that are not there too.
fn check_jobs(model: &Model, snapshot: &Snapshot) {
    let some_task_set_aside = model.set_aside.iter().any(|key| key.kind == copyseg_core::RecordKind::Task);
    for id in model.jobs.keys().copied().chain((0..6).map(JobId)) {
        let tasks: Vec<_> = model.tasks_of(id).collect();
        assert!(snapshot.tasks_of_job(id).map(|task| task.id).eq(tasks.iter().map(|(id, _)| **id)));
        let pairs = tasks.iter().flat_map(|(_, task)| task.pairs.iter().copied());
        assert!(snapshot.segments_of_job(id).eq(pairs), "segments of job {id}");
        let lacks = model.jobs.get(&id).is_some_and(|job| model.segments_held(id) < job.segments);
        assert_eq!(snapshot.is_damaged(id), lacks && some_task_set_aside, "job {id} is damaged");
        let progress = snapshot.progress(id);
        assert_eq!(progress.is_some(), model.jobs.contains_key(&id), "progress of job {id}");
        let Some(progress) = progress else { continue };
        for state in TaskState::ALL {
            let in_state = || tasks.iter().filter(|(_, task)| task.state == state);
            let pairs = || in_state().flat_map(|(_, task)| task.pairs.iter());
            assert_eq!(progress.tasks.get(state), in_state().count() as u64, "job {id}, {state}");
            assert_eq!(progress.segments.get(state), pairs().count() as u64, "segments of job {id}, {state}");
            assert_eq!(progress.bytes.get(state), pairs().map(|pair| pair.bytes).sum::<u64>(), "job {id}");
        }
    }
    for collection in (0..4).map(CollectionId) {
        let expected = model.tasks.iter().filter(|(_, task)| task.collection == collection);
        let found = snapshot.tasks_of_collection(collection).map(|task| task.id);
        assert!(found.eq(expected.map(|(id, _)| *id)), "tasks of collection {collection}");
    }
}

/// Filters of every sort.
pub(super) fn queries(start: Timestamp) -> impl Strategy<Value = Queries> {
    (vec(task_query(start), 4), vec(job_query(start), 3)).prop_map(|(tasks, jobs)| Queries { tasks, jobs })
}

fn time(start: Timestamp) -> impl Strategy<Value = Timestamp> {
    (-4_000_000_i64..4_000_000)
        .prop_map(move |millis| Timestamp::from_millis(start.as_millis().saturating_add_signed(millis)))
}

/// None or one as a rule; two of them leave nothing unless they are the same.
fn few<T: std::fmt::Debug + Clone>(one: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    (vec(one, 2), prop_oneof![6 => Just(0), 6 => Just(1), 1 => Just(2)]).prop_map(|(mut some, count)| {
        some.truncate(count);
        some
    })
}

fn task_query(start: Timestamp) -> impl Strategy<Value = TaskQuery> {
    let states = || prop::sample::subsequence(TaskState::ALL.to_vec(), 0..=5);
    let indexed = (
        few((1_i64..5).prop_map(JobId)),
        few((1_i64..3).prop_map(CollectionId)),
        few((1_i64..3).prop_map(NodeId)),
        option::of(states()),
        prop_oneof![2 => Just(Vec::new()), 1 => states()],
    );
    let rest = (
        option::weighted(0.2, time(start)),
        option::weighted(0.2, time(start)),
        proptest::bool::weighted(0.2),
        option::weighted(0.2, 0_u32..3),
        option::weighted(0.3, (0_i64..13).prop_map(TaskId)),
        option::weighted(0.3, 0_usize..4),
    );
    (indexed, rest).prop_map(|((jobs, collections, nodes, states, without), rest)| {
        let (updated, created, ended, attempts, after, limit) = rest;
        TaskQuery {
            jobs,
            collections,
            nodes,
            states,
            without,
            updated,
            created,
            ended,
            attempts,
            after,
            limit,
        }
    })
}

fn job_query(start: Timestamp) -> impl Strategy<Value = JobQuery> {
    let states = || prop::sample::subsequence(JobState::ALL.to_vec(), 0..=6);
    (
        few((1_i64..3).prop_map(CollectionId)),
        option::of(states()),
        prop_oneof![2 => Just(Vec::new()), 1 => states()],
        option::weighted(0.3, time(start)),
        proptest::bool::weighted(0.2),
        option::weighted(0.3, (0_i64..5).prop_map(JobId)),
        option::weighted(0.3, 0_usize..4),
    )
        .prop_map(|(collections, states, without, updated, ended, after, limit)| JobQuery {
            collections,
            states,
            without,
            updated,
            ended,
            after,
            limit,
        })
}
