//! The tasks by id: a persistent hash trie with small leaves.
//!
//! A read goes through fewer lines of memory than in a general map such as that of `imbl`, whose leaves hold about thirty
//! entries, and the nodes are no larger than what they hold.

use std::fmt;
use std::hash::BuildHasher;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::id::TaskId;
use crate::task::Task;

/// How many bits of a hash lead from a branch to one of its children.
const BITS: u32 = 5;

/// How many children a branch has.
const WIDTH: usize = 1 << BITS;

/// How many tasks a leaf holds before it is split.
const LEAF_MAX: usize = 8;

/// Tasks by id. A clone costs the same at any size, a change `O(log n)`.
#[derive(Clone)]
pub(super) struct ById<S = RandomState> {
    root: Arc<Branch>,
    len: usize,
    /// Its first bits are used, so all bits of its hashes have to be good.
    hasher: S,
}

/// The children by the next bits of the hash. A leaf is at a whole aligned run of places, the size of which is a power of
/// two. A full one is split into the two halves of its run, and only one at a single place becomes a branch: so leaves are
/// two thirds full on average, however many there are.
type Branch = [Node; WIDTH];

#[derive(Clone)]
enum Node {
    Branch(Arc<Branch>),
    Leaf(Leaf),
}

/// Some tasks, in no order. Each run of places has an allocation of its own, an empty one as well: it is what tells
/// neighbouring runs apart.
type Leaf = Arc<[Entry]>;

/// With the id, so that a search touches no other task than the one it finds.
type Entry = (TaskId, Arc<Task>);

impl<S: BuildHasher> ById<S> {
    /// Of `tasks`, no two of which have the same id.
    pub(super) fn of_distinct(tasks: impl IntoIterator<Item = Arc<Task>>) -> Self
    where
        S: Default,
    {
        let entries: Vec<_> = tasks.into_iter().map(|task| (task.id, task)).collect();
        let (len, hasher) = (entries.len(), S::default());
        Self { root: Arc::new(new_branch(0, entries, &hasher)), len, hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Arc<Task>> {
        let hash = self.hasher.hash_one(id);
        let (mut branch, mut used) = (&self.root, 0);
        loop {
            match &branch[place_of(hash, used)] {
                Node::Branch(below) => (branch, used) = (below, used + BITS),
                Node::Leaf(leaf) => return leaf.iter().find(|entry| entry.0 == id).map(|entry| &entry.1),
            }
        }
    }

    /// Adds `task`, or puts it in the place of the one with the same id, which is returned.
    pub(super) fn insert(&mut self, task: Arc<Task>) -> Option<Arc<Task>> {
        let hash = self.hasher.hash_one(task.id);
        let old = put(Arc::make_mut(&mut self.root), 0, hash, task, &self.hasher);
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Arc<Task>> {
        let old = self.get(id).cloned()?;
        take(Arc::make_mut(&mut self.root), 0, self.hasher.hash_one(id), id);
        self.len -= 1;
        Some(old)
    }
}

impl<S: BuildHasher + Default> Default for ById<S> {
    fn default() -> Self {
        Self::of_distinct([])
    }
}

impl<S> fmt::Debug for ById<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ById").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Where a hash leads from a branch, when `used` of its bits have led there. Behind the last bit there are zeros.
fn place_of(hash: u64, used: u32) -> usize {
    (hash << used >> (u64::BITS - BITS)) as usize
}

fn new_branch(used: u32, entries: Vec<Entry>, hasher: &impl BuildHasher) -> Branch {
    let empty = Leaf::from([]);
    let mut branch = [(); WIDTH].map(|()| Node::Leaf(Arc::clone(&empty)));
    spread(&mut branch, used, entries, hasher);
    branch
}

/// Puts `entries` into as many leaves as they need, at an aligned run of places of one branch.
fn spread(places: &mut [Node], used: u32, entries: Vec<Entry>, hasher: &impl BuildHasher) {
    if entries.len() <= LEAF_MAX {
        return places.fill(Node::Leaf(entries.into()));
    }
    if let [only] = places {
        let below = used + BITS;
        *only = if below < u64::BITS {
            Node::Branch(Arc::new(new_branch(below, entries, hasher)))
        } else {
            // Their hashes are the same.
            Node::Leaf(entries.into())
        };
        return;
    }
    let half = places.len() / 2;
    let (first, second) = places.split_at_mut(half);
    let is_first = |entry: &Entry| place_of(hasher.hash_one(entry.0), used) & half == 0;
    let (entries, others) = entries.into_iter().partition(is_first);
    spread(first, used, entries, hasher);
    spread(second, used, others, hasher);
}

fn put(
    branch: &mut Branch,
    used: u32,
    hash: u64,
    task: Arc<Task>,
    hasher: &impl BuildHasher,
) -> Option<Arc<Task>> {
    let place = place_of(hash, used);
    let leaf = match &mut branch[place] {
        Node::Branch(below) => return put(Arc::make_mut(below), used + BITS, hash, task, hasher),
        Node::Leaf(leaf) => Arc::clone(leaf),
    };
    let places = run(branch, place);
    let places = &mut branch[places];
    match leaf.iter().position(|entry| entry.0 == task.id) {
        Some(position) => {
            let mut changed: Leaf = leaf.iter().cloned().collect();
            let old = mem::replace(&mut Arc::make_mut(&mut changed)[position].1, task);
            places.fill(Node::Leaf(changed));
            Some(old)
        }
        None => {
            let entries = leaf.iter().cloned().chain([(task.id, task)]).collect();
            spread(places, used, entries, hasher);
            None
        }
    }
}

fn take(branch: &mut Branch, used: u32, hash: u64, id: TaskId) {
    let place = place_of(hash, used);
    match &mut branch[place] {
        Node::Branch(below) => {
            let below = Arc::make_mut(below);
            take(below, used + BITS, hash, id);
            if let (WIDTH, Node::Leaf(leaf)) = (run(below, 0).len(), &below[0]) {
                branch[place] = Node::Leaf(Arc::clone(leaf));
            }
        }
        Node::Leaf(leaf) => {
            let rest = leaf.iter().filter(|entry| entry.0 != id).cloned().collect();
            let places = run(branch, place);
            branch[places].fill(Node::Leaf(rest));
        }
    }
    merge(branch, place);
}

/// Makes one leaf of the one at `place` and those it was split from, once they hold so few tasks that it will not soon be
/// split again.
fn merge(branch: &mut Branch, place: usize) {
    loop {
        let own = run(branch, place);
        let other = own.start ^ own.len();
        if own.len() == WIDTH || run(branch, other).len() != own.len() {
            return;
        }
        let (Node::Leaf(leaf), Node::Leaf(beside)) = (&branch[own.start], &branch[other]) else { return };
        if leaf.len() + beside.len() > LEAF_MAX / 2 {
            return;
        }
        let merged = leaf.iter().chain(&**beside).cloned().collect();
        branch[aligned(place, 2 * own.len())].fill(Node::Leaf(merged));
    }
}

/// The places of the child that is at `place`.
fn run(branch: &Branch, place: usize) -> Range<usize> {
    let mut found = aligned(place, 1);
    let Node::Leaf(leaf) = &branch[place] else { return found };
    let is_same = |place: usize| matches!(&branch[place], Node::Leaf(other) if Arc::ptr_eq(leaf, other));
    // One half of a larger run is found already, so its two ends say whether the other half is the same.
    while found.len() < WIDTH {
        let larger = aligned(place, 2 * found.len());
        if !is_same(larger.start) || !is_same(larger.end - 1) {
            break;
        }
        found = larger;
    }
    found
}

/// The run of so many places, a power of two, that `place` is in.
fn aligned(place: usize, size: usize) -> Range<usize> {
    let start = place & !(size - 1);
    start..start + size
}

#[cfg(test)]
mod tests;
