//! Building a store from all its tasks at once, as recovery does.

use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;

use super::{Entries, Progress, TaskStore};
use crate::id::JobId;
use crate::task::Task;

/// About twice as fast as inserting one by one, and the store is smaller. Of tasks with the same id the last is
/// kept.
impl FromIterator<Arc<Task>> for TaskStore {
    fn from_iter<I: IntoIterator<Item = Arc<Task>>>(tasks: I) -> Self {
        let mut tasks: Vec<_> = tasks.into_iter().collect();
        tasks.reverse();
        tasks.sort_by_key(|task| task.id);
        tasks.dedup_by_key(|task| task.id);

        let (mut collections, mut jobs) = (HashMap::new(), HashMap::<JobId, Progress>::new());
        for task in &tasks {
            *collections.entry(Entries::of(task).collection).or_default() += 1;
            jobs.entry(task.job).or_default().add(task);
        }
        let by_state = tasks.iter().flat_map(|task| {
            let entries = Entries::of(task);
            [entries.job_state, entries.state].map(|key| (key, task.id, Arc::clone(task)))
        });
        let by_node = tasks.iter().filter_map(|task| Some((Entries::of(task).node?, task.id, ())));
        Self {
            by_state: by_state.collect(),
            by_node: by_node.collect(),
            by_collection: collections.into_iter().collect(),
            by_job: jobs.into_iter().collect(),
            tasks: dense(tasks.into_iter().map(|task| (task.id, task))),
        }
    }
}

/// A map of `sorted` entries with full leaves.
///
/// A B-tree that is filled in order splits every leaf when it is full and leaves it half full for good. Putting in
/// every other entry first, the rest finds room in those halves.
pub(super) fn dense<K: Ord + Clone, V: Clone>(sorted: impl Iterator<Item = (K, V)>) -> OrdMap<K, V> {
    let (mut map, mut rest) = (OrdMap::new(), Vec::new());
    for (position, (key, value)) in sorted.enumerate() {
        if position % 2 == 0 {
            map.insert(key, value);
        } else {
            rest.push((key, value));
        }
    }
    map.extend(rest);
    map
}
