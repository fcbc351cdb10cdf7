//! A persistent map by id: a tree over the bits of the ids, with small nodes.
//!
//! To change what somebody else sees as well, a path of nodes is copied, and for each copy the references to all neighbours
//! are counted, which may be anywhere in memory. So branches are narrow, ids that follow each other are beside each other,
//! and a leaf of ids in a row is full.

use std::array;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::vec;

use crate::id::Id;

/// How many bits of an id lead from a branch to one of its children.
const BITS: u32 = 3;

/// How many children a branch has at most.
const WIDTH: usize = 1 << BITS;

/// How many entries a leaf holds before it is split: one for each value of the last bits, which then say the place of each.
const LEAF_MAX: usize = WIDTH;

/// How many ids are looked up together, so that what they miss in the caches is fetched at the same time.
const GROUP_MAX: usize = 32;

/// Ids that differ in no more than the bits below this are neighbours: a branch and its leaves hold them.
const NEIGHBOURS: u64 = (WIDTH * LEAF_MAX) as u64;

/// Values by id, in the order of the ids. A clone costs the same at any size. A read or a change takes as many steps as the
/// number of entries has digits to the base of 8 where ids are in a row, and never more than 22.
#[derive(Clone)]
pub(crate) struct IdMap<K, V> {
    root: Option<Node<K, V>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Branch(Branch<K, V>),
    Leaf(Leaf<K, V>),
}

/// Two children or more, by the first bits in which the ids below it differ.
#[derive(Clone)]
struct Branch<K, V> {
    /// How many bits come behind those. Here, so that a read touches nothing of a branch but the way to one child.
    shift: u32,
    below: Arc<Below<K, V>>,
}

#[derive(Clone)]
struct Below<K, V> {
    /// The bits before those, which all ids here have in common, and zeros.
    prefix: u64,
    children: [Option<Node<K, V>>; WIDTH],
}

/// One entry or more, in the order of the ids.
type Leaf<K, V> = Arc<[(K, V)]>;

impl<K: Id, V: Clone> IdMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, id: K) -> Option<&V> {
        let mut lookup = Lookup::new(self, id);
        while lookup.descend() {}
        lookup.found()
    }

    /// The values of these ids, as the ids come; of an id that has none there is none. Up to 32 are looked up together, ahead
    /// of who asks for the next; those that come next to each other share most of the way.
    pub(crate) fn get_each(&self, ids: impl Iterator<Item = K>) -> impl Iterator<Item = &V> {
        let (mut ids, mut size, mut before) = (ids, 1, None);
        let (mut group, mut found) = (Vec::new(), Vec::new());
        let mut begun = move |id| {
            let node = match before {
                Some((neighbour, node)) if bits(neighbour) ^ bits(id) < NEIGHBOURS => node,
                _ => Lookup::to_neighbours(self, id).node,
            };
            before = Some((id, node));
            Lookup { id, node }
        };
        std::iter::from_fn(move || {
            while found.is_empty() {
                group.extend(ids.by_ref().take(size).map(&mut begun));
                if group.is_empty() {
                    return None;
                }
                while group.iter_mut().map(Lookup::descend).filter(|went| *went).count() > 0 {}
                found.extend(group.drain(..).rev().filter_map(|lookup| lookup.found()));
                // Whoever wants only the first does not wait for many.
                size = (2 * size).min(GROUP_MAX);
            }
            found.pop()
        })
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.iter_after(None)
    }

    /// The entries behind the id `after`, or all of them.
    pub(crate) fn iter_after(&self, after: Option<K>) -> impl Iterator<Item = (K, &V)> {
        K::first_after(after).into_iter().flat_map(|first| self.iter_from(first))
    }

    /// The entries from the id `first` on.
    pub(crate) fn iter_from(&self, first: K) -> impl Iterator<Item = (K, &V)> {
        let first = bits(first);
        let mut nodes: Vec<_> = self.root.iter().collect();
        let mut entries: &[(K, V)] = &[];
        std::iter::from_fn(move || {
            loop {
                if let Some(((id, value), rest)) = entries.split_first() {
                    entries = rest;
                    return Some((*id, value));
                }
                match nodes.pop()? {
                    Node::Branch(branch) => nodes.extend(branch.children_from(first).rev()),
                    Node::Leaf(leaf) => {
                        entries = &leaf[leaf.partition_point(|entry| bits(entry.0) < first)..]
                    }
                }
            }
        })
    }

    /// Adds a value, or puts it in the place of the one with the same id, which is returned.
    pub(crate) fn insert(&mut self, id: K, value: V) -> Option<V> {
        let old = put(&mut self.root, id, |place| match place {
            Some(place) => (None, Some(mem::replace(place, value))),
            None => (Some(value), None),
        });
        self.len += usize::from(old.is_none());
        old
    }

    /// Changes the value of `id`; one that is not there is added first.
    pub(crate) fn change<T>(&mut self, id: K, change: impl FnOnce(&mut V) -> T) -> T
    where
        V: Default,
    {
        let (added, result) = put(&mut self.root, id, |place| match place {
            Some(place) => (None, (0, change(place))),
            None => {
                let mut value = V::default();
                let result = change(&mut value);
                (Some(value), (1, result))
            }
        });
        self.len += added;
        result
    }

    pub(crate) fn remove(&mut self, id: K) -> Option<V> {
        // What is not there must not copy a path.
        self.get(id)?;
        self.len -= 1;
        take(&mut self.root, id)
    }
}

impl<K, V> Default for IdMap<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K, V> fmt::Debug for IdMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdMap").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Of entries in the order of their ids, no two of which are the same.
impl<K: Id, V: Clone> FromIterator<(K, V)> for IdMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        debug_assert!(entries.is_sorted_by(|one, next| one.0 < next.0), "the ids are not in order");
        let len = entries.len();
        let root = (len > 0).then(|| node_of(&mut entries.into_iter(), len));
        Self { root, len }
    }
}

/// The way to one id.
struct Lookup<'m, K, V> {
    id: K,
    node: Option<&'m Node<K, V>>,
}

impl<'m, K: Id, V: Clone> Lookup<'m, K, V> {
    fn new(map: &'m IdMap<K, V>, id: K) -> Self {
        Self { id, node: map.root.as_ref() }
    }

    /// One that is at the node below which its neighbours are as well.
    fn to_neighbours(map: &'m IdMap<K, V>, id: K) -> Self {
        let mut lookup = Self::new(map, id);
        while matches!(lookup.node, Some(Node::Branch(branch)) if branch.shift >= NEIGHBOURS.ilog2()) {
            lookup.descend();
        }
        lookup
    }

    /// Goes one level down, unless it is at its end; says whether it did.
    fn descend(&mut self) -> bool {
        let Some(Node::Branch(branch)) = self.node else { return false };
        self.node = branch.child(bits(self.id));
        true
    }

    fn found(&self) -> Option<&'m V> {
        let leaf = self.node?.leaf()?;
        // In a leaf of ids in a row, the last bits of an id are its place there. The processor takes this for granted, and
        // goes on before the leaf is fetched.
        let likely = leaf.get(bits(self.id) as usize % LEAF_MAX).filter(|entry| entry.0 == self.id);
        likely.or_else(|| leaf.iter().find(|entry| entry.0 == self.id)).map(|entry| &entry.1)
    }
}

impl<K, V> Node<K, V> {
    fn leaf(&self) -> Option<&Leaf<K, V>> {
        match self {
            Self::Leaf(leaf) => Some(leaf),
            Self::Branch(_) => None,
        }
    }
}

impl<K: Id, V: Clone> Branch<K, V> {
    fn new(shift: u32, prefix: u64, children: [Option<Node<K, V>>; WIDTH]) -> Self {
        Self { shift, below: Arc::new(Below { prefix: cut(prefix, shift), children }) }
    }

    /// A branch of this one and of a leaf whose ids begin with other bits.
    fn and(self, leaf: Leaf<K, V>) -> Self {
        let (own, other) = (self.below.prefix, bits(leaf[0].0));
        let shift = shift_of(own, other);
        let mut children = [const { None }; WIDTH];
        children[place_of(own, shift)] = Some(Node::Branch(self));
        children[place_of(other, shift)] = Some(Node::Leaf(leaf));
        Self::new(shift, own, children)
    }

    /// Whether an id would be below this branch.
    fn covers(&self, bits: u64) -> bool {
        cut(bits, self.shift) == self.below.prefix
    }

    /// The child that leads to an id below this branch.
    fn child(&self, bits: u64) -> Option<&Node<K, V>> {
        self.below.children[place_of(bits, self.shift)].as_ref()
    }

    /// The same, to be changed: a copy, where somebody else sees it as well.
    fn child_mut(&mut self, bits: u64) -> &mut Option<Node<K, V>> {
        &mut Arc::make_mut(&mut self.below).children[place_of(bits, self.shift)]
    }

    fn children(&self) -> impl Iterator<Item = &Node<K, V>> {
        self.below.children.iter().flatten()
    }

    /// The children that may lead to ids from `first` on.
    fn children_from(&self, first: u64) -> impl DoubleEndedIterator<Item = &Node<K, V>> {
        let skipped = match self.covers(first) {
            true => place_of(first, self.shift),
            false if self.below.prefix < first => WIDTH,
            false => 0,
        };
        self.below.children[skipped..].iter().flatten()
    }

    /// What takes the place of this branch, if it has only one child left, or so few entries that a leaf of them will not
    /// soon be split again.
    fn shrunk(&self) -> Option<Node<K, V>> {
        let mut children = self.children();
        if let (Some(only), None) = (children.next(), children.next()) {
            return Some(only.clone());
        }
        let leaves = || self.children().map(Node::leaf);
        let len: usize = leaves().map(|leaf| Some(leaf?.len())).sum::<Option<_>>()?;
        let entries = || leaves().flatten().flat_map(|leaf| leaf.iter().cloned());
        (len <= LEAF_MAX / 2).then(|| Node::Leaf(entries().collect()))
    }
}

/// Lets `enter` change the value of `id` in its place, or, where there is none, say what value to put there.
fn put<K: Id, V: Clone, T>(
    slot: &mut Option<Node<K, V>>,
    id: K,
    enter: impl FnOnce(Option<&mut V>) -> (Option<V>, T),
) -> T {
    match slot {
        Some(Node::Branch(branch)) if branch.covers(bits(id)) => {
            return put(branch.child_mut(bits(id)), id, enter);
        }
        Some(Node::Leaf(leaf)) => {
            if let Some(place) = leaf.iter().position(|entry| entry.0 == id) {
                return enter(Some(&mut Arc::make_mut(leaf)[place].1)).1;
            }
        }
        _ => {}
    }
    let (value, result) = enter(None);
    if let Some(value) = value {
        *slot = Some(with(slot.take(), (id, value)));
    }
    result
}

/// `node` and an entry that is not below it.
fn with<K: Id, V: Clone>(node: Option<Node<K, V>>, entry: (K, V)) -> Node<K, V> {
    match node {
        None => Node::Leaf(Leaf::from([entry])),
        Some(Node::Branch(branch)) => Node::Branch(branch.and(Leaf::from([entry]))),
        Some(Node::Leaf(leaf)) => {
            let (before, behind) = leaf.split_at(leaf.partition_point(|other| other.0 < entry.0));
            let entries = before.iter().cloned().chain([entry]).chain(behind.iter().cloned());
            if leaf.len() < LEAF_MAX {
                return Node::Leaf(entries.collect());
            }
            let entries: Vec<_> = entries.collect();
            let len = entries.len();
            node_of(&mut entries.into_iter(), len)
        }
    }
}

/// Takes out the value of `id`, which is there.
fn take<K: Id, V: Clone>(slot: &mut Option<Node<K, V>>, id: K) -> Option<V> {
    match slot.as_mut()? {
        Node::Branch(branch) => {
            let taken = take(branch.child_mut(bits(id)), id);
            if let Some(smaller) = branch.shrunk() {
                *slot = Some(smaller);
            }
            taken
        }
        Node::Leaf(leaf) => {
            let (before, rest) = leaf.split_at(leaf.partition_point(|entry| entry.0 < id));
            let ((_, taken), behind) = rest.split_first()?;
            let taken = taken.clone();
            let others: Leaf<K, V> = before.iter().chain(behind).cloned().collect();
            *slot = (!others.is_empty()).then_some(Node::Leaf(others));
            Some(taken)
        }
    }
}

/// The next `count` entries, at least one, as a node.
fn node_of<K: Id, V: Clone>(entries: &mut vec::IntoIter<(K, V)>, count: usize) -> Node<K, V> {
    let slice = &entries.as_slice()[..count];
    if count <= LEAF_MAX {
        return Node::Leaf(entries.by_ref().take(count).collect());
    }
    let (first, last) = (bits(slice[0].0), bits(slice[count - 1].0));
    let shift = shift_of(first, last);
    let mut left = count;
    let children = array::from_fn(|place| {
        let is_here = |entry: &(K, V)| place_of(bits(entry.0), shift) <= place;
        let count = entries.as_slice()[..left].partition_point(is_here);
        left -= count;
        (count > 0).then(|| node_of(entries, count))
    });
    Node::Branch(Branch::new(shift, first, children))
}

/// The bits of an id, which have the order of ids as a number without a sign.
fn bits(id: impl Id) -> u64 {
    id.number().cast_unsigned() ^ (1 << (u64::BITS - 1))
}

/// How many bits come behind the first ones in which two ids differ.
fn shift_of(one: u64, other: u64) -> u32 {
    (one ^ other).ilog2() / BITS * BITS
}

fn place_of(bits: u64, shift: u32) -> usize {
    (bits >> shift) as usize & (WIDTH - 1)
}

/// The bits before those at `shift`, and zeros.
fn cut(bits: u64, shift: u32) -> u64 {
    bits >> shift >> BITS << BITS << shift
}

#[cfg(test)]
mod tests;
