//! The tasks by id: a persistent hash trie with small leaves.
//!
//! A general one, such as that of `imbl`, keeps about thirty tasks in a leaf. A change copies the leaf and counts a reference
//! to each of them, most of which miss the caches; and a read goes through three lines of memory of a leaf that large.

use std::hash::BuildHasher;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::id::TaskId;
use crate::task::Task;

/// How many bits of a hash lead from a branch to one of its children. With a million tasks, 3 and 5 made reads slower, and 6
/// made changes slower.
const BITS: u32 = 4;

/// How many children a branch has.
const WIDTH: usize = 1 << BITS;

/// How many tasks a leaf holds before it is split. With 8 reads were slower by half.
const LEAF_MAX: usize = 16;

/// Tasks by id. A clone costs the same at any size, a change `O(log n)`.
#[derive(Debug, Clone)]
pub(super) struct ById<S = RandomState> {
    root: Arc<Branch>,
    len: usize,
    hasher: S,
}

/// The children by the next bits of the hash. A leaf is at a whole aligned run of places, the size of which is a power of
/// two, and gives half of them away when it is split: so no leaf is nearly empty for having many siblings.
type Branch = [Node; WIDTH];

#[derive(Debug, Clone)]
enum Node {
    Branch(Arc<Branch>),
    Leaf(Leaf),
}

/// In no order.
type Leaf = Arc<[Entry]>;

/// With the id, so that a search touches no other task than the one it finds.
type Entry = (TaskId, Arc<Task>);

impl<S: BuildHasher> ById<S> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Arc<Task>> {
        let hash = self.hasher.hash_one(id);
        let (mut branch, mut used) = (&self.root, 0);
        loop {
            match &branch[place(hash, used)] {
                Node::Branch(below) => (branch, used) = (below, used + BITS),
                Node::Leaf(leaf) => return leaf.iter().find(|entry| entry.0 == id).map(|entry| &entry.1),
            }
        }
    }

    /// Adds `task`, or puts it in the place of the one with the same id, which is returned.
    pub(super) fn insert(&mut self, task: Arc<Task>) -> Option<Arc<Task>> {
        let old = insert(Arc::make_mut(&mut self.root), 0, task, &self.hasher);
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Arc<Task>> {
        let old = self.get(id).cloned()?;
        remove(Arc::make_mut(&mut self.root), 0, id, self.hasher.hash_one(id));
        self.len -= 1;
        Some(old)
    }
}

impl<S: BuildHasher + Default> Default for ById<S> {
    fn default() -> Self {
        Self::from_iter([])
    }
}

/// No two of the tasks may have the same id.
impl<S: BuildHasher + Default> FromIterator<Arc<Task>> for ById<S> {
    fn from_iter<I: IntoIterator<Item = Arc<Task>>>(tasks: I) -> Self {
        let entries: Vec<_> = tasks.into_iter().map(|task| (task.id, task)).collect();
        let (len, hasher) = (entries.len(), S::default());
        Self { root: Arc::new(branch(0, entries, &hasher)), len, hasher }
    }
}

/// Where a hash leads from a branch, when `used` of its bits have led there.
fn place(hash: u64, used: u32) -> usize {
    (hash << used >> (u64::BITS - BITS)) as usize
}

fn branch(used: u32, entries: Vec<Entry>, hasher: &impl BuildHasher) -> Branch {
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
    if let [place] = places {
        let below = used + BITS;
        *place = if below < u64::BITS {
            Node::Branch(Arc::new(branch(below, entries, hasher)))
        } else {
            // Their hashes are the same.
            Node::Leaf(entries.into())
        };
        return;
    }
    let half = places.len() / 2;
    let (first, second) = places.split_at_mut(half);
    let is_first = |entry: &Entry| place(hasher.hash_one(entry.0), used) & half == 0;
    let (entries, others) = entries.into_iter().partition(is_first);
    spread(first, used, entries, hasher);
    spread(second, used, others, hasher);
}

fn insert(branch: &mut Branch, used: u32, task: Arc<Task>, hasher: &impl BuildHasher) -> Option<Arc<Task>> {
    let place = place(hasher.hash_one(task.id), used);
    let mut leaf = match &mut branch[place] {
        Node::Branch(below) => return insert(Arc::make_mut(below), used + BITS, task, hasher),
        Node::Leaf(leaf) => Arc::clone(leaf),
    };
    let places = run(branch, place);
    let places = &mut branch[places];
    match leaf.iter().position(|entry| entry.0 == task.id) {
        Some(position) => {
            let old = mem::replace(&mut Arc::make_mut(&mut leaf)[position].1, task);
            places.fill(Node::Leaf(leaf));
            Some(old)
        }
        None => {
            let entries = leaf.iter().cloned().chain([(task.id, task)]).collect();
            spread(places, used, entries, hasher);
            None
        }
    }
}

fn remove(branch: &mut Branch, used: u32, id: TaskId, hash: u64) {
    let place = place(hash, used);
    match &mut branch[place] {
        Node::Branch(below) => {
            let below = Arc::make_mut(below);
            remove(below, used + BITS, id, hash);
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
    let Node::Leaf(leaf) = &branch[place] else { return aligned(place, 1) };
    let is_same = |place: usize| matches!(&branch[place], Node::Leaf(other) if Arc::ptr_eq(leaf, other));
    let mut found = aligned(place, 1);
    // Of a larger run one half is found already, so that both ends say whether the other is the same.
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
