//! Intervals of keys, and which of them hold a key: a treap ordered by start whose nodes know the
//! greatest end below them (Cormen et al., "Interval trees"; Seidel and Aragon, "Randomized search
//! trees"). Equal intervals share a node.
//!
//! Inserting and removing cost O(log n), a lookup O(log n + found). Priorities come from a fixed
//! sequence, not from the keys, so that nobody can choose keys that unbalance the tree.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_rng::Rng;

type Link<T> = Option<Box<Node<T>>>;

/// `[start, end)`; no end: everything from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start: Bytes,
    pub(super) end: Option<Bytes>,
}

impl Interval {
    fn order(&self, other: &Self) -> Ordering {
        self.start.cmp(&other.start).then_with(|| order_of_ends(&self.end, &other.end))
    }
}

/// No end is the greatest.
fn order_of_ends(a: &Option<Bytes>, b: &Option<Bytes>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

#[derive(Debug)]
struct Node<T> {
    interval: Interval,
    members: BTreeSet<T>,
    priority: u64,
    greatest_end: Option<Bytes>,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Node<T> {
    fn update(&mut self) {
        let mut greatest = &self.interval.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if order_of_ends(&child.greatest_end, greatest) == Ordering::Greater {
                greatest = &child.greatest_end;
            }
        }
        self.greatest_end = greatest.clone();
    }
}

/// Members by interval.
#[derive(Debug)]
pub(super) struct Intervals<T> {
    root: Link<T>,
    priorities: Rng,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { root: None, priorities: Rng::new(0) }
    }
}

impl<T: Ord + Copy> Intervals<T> {
    /// Adds a member to an interval.
    pub(super) fn insert(&mut self, interval: Interval, member: T) {
        if let Some(node) = find(&mut self.root, &interval) {
            node.members.insert(member);
            return;
        }
        let node = Node {
            greatest_end: interval.end.clone(),
            interval,
            members: BTreeSet::from([member]),
            priority: self.priorities.next(),
            left: None,
            right: None,
        };
        insert(&mut self.root, Box::new(node));
    }

    /// Removes a member from an interval.
    pub(super) fn remove(&mut self, interval: &Interval, member: T) {
        let Some(node) = find(&mut self.root, interval) else { return };
        node.members.remove(&member);
        if node.members.is_empty() {
            remove(&mut self.root, interval);
        }
    }

    /// Calls `found` with every member of every interval that holds `key`.
    pub(super) fn holding(&self, key: &[u8], found: &mut impl FnMut(T)) {
        visit(&self.root, key, found);
    }
}

fn find<'t, T>(link: &'t mut Link<T>, interval: &Interval) -> Option<&'t mut Node<T>> {
    let node = link.as_deref_mut()?;
    match interval.order(&node.interval) {
        Ordering::Less => find(&mut node.left, interval),
        Ordering::Greater => find(&mut node.right, interval),
        Ordering::Equal => Some(node),
    }
}

fn visit<T: Copy>(link: &Link<T>, key: &[u8], found: &mut impl FnMut(T)) {
    let Some(node) = link else { return };
    let before = |end: &Option<Bytes>| end.as_ref().is_none_or(|end| key < &end[..]);
    if !before(&node.greatest_end) {
        return;
    }
    visit(&node.left, key, found);
    if key < &node.interval.start[..] {
        return;
    }
    if before(&node.interval.end) {
        node.members.iter().for_each(|member| found(*member));
    }
    visit(&node.right, key, found);
}

fn insert<T>(link: &mut Link<T>, mut new: Box<Node<T>>) {
    match link {
        Some(node) if node.priority >= new.priority => {
            match new.interval.order(&node.interval) {
                Ordering::Less => insert(&mut node.left, new),
                _ => insert(&mut node.right, new),
            }
            node.update();
        }
        _ => {
            (new.left, new.right) = split(link.take(), &new.interval);
            new.update();
            *link = Some(new);
        }
    }
}

fn remove<T>(link: &mut Link<T>, interval: &Interval) {
    let Some(mut node) = link.take() else { return };
    match interval.order(&node.interval) {
        Ordering::Less => remove(&mut node.left, interval),
        Ordering::Greater => remove(&mut node.right, interval),
        Ordering::Equal => {
            *link = merge(node.left.take(), node.right.take());
            return;
        }
    }
    node.update();
    *link = Some(node);
}

/// Splits into what is before and what is after an interval that is not in it.
fn split<T>(link: Link<T>, at: &Interval) -> (Link<T>, Link<T>) {
    let Some(mut node) = link else { return (None, None) };
    let (before, after);
    if node.interval.order(at) == Ordering::Less {
        (node.right, after) = split(node.right.take(), at);
        node.update();
        before = Some(node);
    } else {
        (before, node.left) = split(node.left.take(), at);
        node.update();
        return (before, Some(node));
    }
    (before, after)
}

/// Joins two trees, all of `left` being before all of `right`.
fn merge<T>(left: Link<T>, right: Link<T>) -> Link<T> {
    match (left, right) {
        (None, only) | (only, None) => only,
        (Some(mut left), Some(right)) if left.priority >= right.priority => {
            left.right = merge(left.right.take(), Some(right));
            left.update();
            Some(left)
        }
        (left, Some(mut right)) => {
            right.left = merge(left, right.left.take());
            right.update();
            Some(right)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval() -> impl Strategy<Value = Interval> {
        let key = || proptest::collection::vec(0u8..3, 0..3).prop_map(Bytes::from);
        (key(), proptest::option::of(key())).prop_map(|(start, end)| Interval { start, end })
    }

    proptest! {
        /// The same members as a list finds, whatever was inserted and removed.
        #[test]
        fn finds_what_a_list_finds(
            steps in proptest::collection::vec((interval(), 0u8..4, any::<bool>()), 0..60),
            key in proptest::collection::vec(0u8..3, 0..3),
        ) {
            let mut tree = Intervals::default();
            let mut list: Vec<(Interval, u8)> = Vec::new();
            for (interval, member, add) in steps {
                list.retain(|(i, m)| (i, *m) != (&interval, member));
                if add {
                    list.push((interval.clone(), member));
                    tree.insert(interval, member);
                } else {
                    tree.remove(&interval, member);
                }
            }
            let mut found = Vec::new();
            tree.holding(&key, &mut |member| found.push(member));
            let holds = |i: &Interval| {
                key[..] >= i.start[..] && i.end.as_ref().is_none_or(|end| key[..] < end[..])
            };
            let mut expected: Vec<u8> =
                list.iter().filter(|(i, _)| holds(i)).map(|(_, m)| *m).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
