//! An ordered map whose copies are free: a persistent treap.
//!
//! `clone` is one reference count; after it, a write copies only the path it walks (about 2·log₂ n
//! small nodes) and shares the rest. That is what the in-memory engine needs: the simulator takes
//! snapshots, publishes batches and completes checkpoints far more often than it holds many keys, and
//! a copy-on-write `BTreeMap` would copy all of them at the first write after each.
//!
//! The priority of a node is a fixed hash of its key, so the shape depends on the keys alone: neither
//! the order of insertion nor any randomness matters, and equal maps have equal shapes.
//!
//! Invariants: keys ascend from left to right; the rank (priority, then key) of a node is above that
//! of its children. Left out: defence against keys that were chosen to unbalance it.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Direction, Pair};

type Link = Option<Arc<Node>>;

#[derive(Clone, Debug)]
struct Node {
    priority: u64,
    key: Bytes,
    value: Bytes,
    left: Link,
    right: Link,
}

/// The map; see the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Treap {
    root: Link,
}

impl Treap {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let mut at = self.root.as_deref();
        while let Some(node) = at {
            at = match key.cmp(&node.key) {
                Ordering::Less => node.left.as_deref(),
                Ordering::Greater => node.right.as_deref(),
                Ordering::Equal => return Some(&node.value),
            };
        }
        None
    }

    /// Inserts or overwrites; returns the value that was there.
    pub(crate) fn insert(&mut self, key: Bytes, value: Bytes) -> Option<Bytes> {
        let priority = priority_of(&key);
        insert(&mut self.root, Node { priority, key, value, left: None, right: None })
    }

    /// Removes and returns the value that was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Bytes> {
        // Looked up first: a path is copied only when there is something to remove.
        self.get(key)?;
        remove(&mut self.root, key)
    }

    /// Pairs inside the bounds, in order or its reverse, lazily.
    pub(crate) fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Scan<'a> {
        let (near, far) = match direction {
            Direction::Forward => range,
            Direction::Backward => (range.1, range.0),
        };
        let mut scan = Scan { stack: Vec::new(), far: owned(far), direction };
        scan.descend(self.root.as_deref(), |key| within(key, near, direction.reversed()));
        scan
    }

    /// Checks order and ranks of the whole map.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        fn walk(link: &Link, above: Option<(u64, &[u8])>) {
            let Some(node) = link else { return };
            let rank = (node.priority, &node.key[..]);
            assert!(above.is_none_or(|above| rank < above), "a child ranks above its parent");
            walk(&node.left, Some(rank));
            walk(&node.right, Some(rank));
        }
        walk(&self.root, None);
        let keys: Vec<_> =
            self.scan((Bound::Unbounded, Bound::Unbounded), Direction::Forward).collect();
        assert!(keys.windows(2).all(|w| w[0].0 < w[1].0), "keys do not ascend");
    }
}

impl Direction {
    fn reversed(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// A fixed hash: FNV-1a, then a finaliser that spreads it over all bits.
fn priority_of(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

fn insert(link: &mut Link, mut new: Node) -> Option<Bytes> {
    let Some(shared) = link else {
        *link = Some(Arc::new(new));
        return None;
    };
    if (shared.priority, &shared.key) < (new.priority, &new.key) {
        // An equal key has an equal rank, so it cannot lie below this node.
        (new.left, new.right) = split(link.take(), &new.key);
        *link = Some(Arc::new(new));
        return None;
    }
    let node = Arc::make_mut(shared);
    match new.key.cmp(&node.key) {
        Ordering::Less => insert(&mut node.left, new),
        Ordering::Greater => insert(&mut node.right, new),
        Ordering::Equal => Some(std::mem::replace(&mut node.value, new.value)),
    }
}

fn remove(link: &mut Link, key: &[u8]) -> Option<Bytes> {
    let node = Arc::make_mut(link.as_mut()?);
    match key.cmp(&node.key) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            let value = node.value.clone();
            *link = merge(node.left.take(), node.right.take());
            Some(value)
        }
    }
}

/// Splits into keys below and keys above `key`, which is not in it.
fn split(link: Link, key: &[u8]) -> (Link, Link) {
    let Some(mut shared) = link else { return (None, None) };
    let node = Arc::make_mut(&mut shared);
    if node.key[..] < *key {
        let (below, above) = split(node.right.take(), key);
        node.right = below;
        (Some(shared), above)
    } else {
        let (below, above) = split(node.left.take(), key);
        node.left = above;
        (below, Some(shared))
    }
}

/// Joins two maps; every key of `left` is below every key of `right`.
fn merge(left: Link, right: Link) -> Link {
    match (left, right) {
        (None, only) | (only, None) => only,
        (Some(mut a), Some(b)) if (a.priority, &a.key) > (b.priority, &b.key) => {
            let node = Arc::make_mut(&mut a);
            node.right = merge(node.right.take(), Some(b));
            Some(a)
        }
        (Some(a), Some(mut b)) => {
            let node = Arc::make_mut(&mut b);
            node.left = merge(Some(a), node.left.take());
            Some(b)
        }
    }
}

fn owned(bound: Bound<&[u8]>) -> Bound<Bytes> {
    bound.map(Bytes::copy_from_slice)
}

/// Whether `key` has not gone past `end` when walking in `direction`.
fn within(key: &[u8], end: Bound<&[u8]>, direction: Direction) -> bool {
    match (end, direction) {
        (Bound::Unbounded, _) => true,
        (Bound::Included(end), Direction::Forward) => key <= end,
        (Bound::Excluded(end), Direction::Forward) => key < end,
        (Bound::Included(end), Direction::Backward) => key >= end,
        (Bound::Excluded(end), Direction::Backward) => key > end,
    }
}

/// A walk in order. The stack holds the nodes still to be yielded whose near side is done.
pub(crate) struct Scan<'a> {
    stack: Vec<&'a Node>,
    far: Bound<Bytes>,
    direction: Direction,
}

impl<'a> Scan<'a> {
    /// Pushes the path to the nearest key of `from` for which `reached` holds.
    fn descend(&mut self, from: Option<&'a Node>, reached: impl Fn(&[u8]) -> bool) {
        let mut at = from;
        while let Some(node) = at {
            let (near, far) = match self.direction {
                Direction::Forward => (&node.left, &node.right),
                Direction::Backward => (&node.right, &node.left),
            };
            if reached(&node.key) {
                self.stack.push(node);
                at = near.as_deref();
            } else {
                at = far.as_deref();
            }
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        let node = self.stack.pop()?;
        let far = self.far.as_ref().map(|end| &end[..]);
        if !within(&node.key, far, self.direction) {
            self.stack.clear();
            return None;
        }
        let behind = match self.direction {
            Direction::Forward => node.right.as_deref(),
            Direction::Backward => node.left.as_deref(),
        };
        self.descend(behind, |_| true);
        Some((node.key.clone(), node.value.clone()))
    }
}
