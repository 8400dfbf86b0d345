//! The items of a table in the order of their keys, made on demand.
//!
//! A *run* is the numbers of consecutive items, sorted by key; of one key the newest comes first. The runs
//! of an order follow each other and cover the table from its beginning up to some item. To cover more, the
//! items behind are sorted into a new run, and runs are merged while the older one is not more than twice as
//! long: so their number is logarithmic, and an item is merged as often. Who scans merges short runs alone: the
//! rest is left to the thread that puts tables in order (`engine/ahead.rs`). Runs hold every item, overwritten
//! ones too, and a reader skips what is not below its end. So one order serves readers of all ages.
//!
//! In a run the items of a key stand together, and each names the one behind it as its `previous`: that is
//! how a cursor tells, without comparing keys, where the next key begins.

use std::cmp::{Ordering, Reverse};
use std::ops::{Bound, Range};
use std::sync::Arc;

use quorate_engine::Direction;

use super::items::Items;
use super::{At, Item};
use crate::engine::limits::ORDER_STEP;

/// Up to this many items are sorted by comparing keys.
const FEW: usize = 16;

/// Longest run that is made by merging for somebody who waits for it: about a quarter of a millisecond's work.
const MERGED_FOR_SCAN: usize = 2 * ORDER_STEP as usize;

/// What an order is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A scan waits.
    Scan,
    /// Scans to come.
    Ahead,
    /// The whole table is read, so that one run is best.
    All,
}

impl Purpose {
    fn merges(self, older: usize, newer: usize) -> bool {
        match self {
            Self::All => true,
            Self::Ahead => older <= 2 * newer,
            Self::Scan => older <= 2 * newer && older + newer <= MERGED_FOR_SCAN,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Order {
    /// Items below this are in the runs.
    covered: At,
    /// Oldest first.
    runs: Vec<Arc<[At]>>,
}

impl Order {
    /// Whether it will do for who reads up to `end`.
    pub(super) fn suffices(&self, end: At, purpose: Purpose) -> bool {
        self.covered >= end && (purpose == Purpose::Scan || self.runs.len() <= 1)
    }

    /// Items below this are in it.
    pub(super) fn covered(&self) -> At {
        self.covered
    }

    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        (self.covered, Reverse(self.runs.len())) > (other.covered, Reverse(other.runs.len()))
    }

    /// The same, extended up to `end`.
    pub(super) fn extended(&self, items: &Items, end: At, purpose: Purpose) -> Self {
        let mut runs = self.runs.clone();
        let mut last = sorted(items, self.covered..end);
        while let Some(run) = runs.pop_if(|run| purpose.merges(run.len(), last.len())) {
            last = merged(items, &run, &last);
        }
        if !last.is_empty() {
            runs.push(last.into());
        }
        if purpose == Purpose::Ahead {
            merge_alike(items, &mut runs);
        }
        Self { covered: end.max(self.covered), runs }
    }

    /// One cursor a run, newest first, over the keys inside the bounds, up to the item `end`.
    pub(super) fn cursors<'a>(
        &self,
        items: &'a Items,
        end: At,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Vec<Cursor<'a>> {
        let cursor = |run: &Arc<[At]>| {
            let from = match range.0 {
                Bound::Unbounded => 0,
                Bound::Included(low) => run.partition_point(|at| items.get(*at).key() < low),
                Bound::Excluded(low) => run.partition_point(|at| items.get(*at).key() <= low),
            };
            let to = match range.1 {
                Bound::Unbounded => run.len(),
                Bound::Included(high) => run.partition_point(|at| items.get(*at).key() <= high),
                Bound::Excluded(high) => run.partition_point(|at| items.get(*at).key() < high),
            };
            Cursor { items, run: Arc::clone(run), end, left: from..to }
        };
        self.runs.iter().rev().map(cursor).collect()
    }
}

/// Merges what scans have left unmerged, from the newest run on.
fn merge_alike(items: &Items, runs: &mut Vec<Arc<[At]>>) {
    for at in (1..runs.len()).rev() {
        if Purpose::Ahead.merges(runs[at - 1].len(), runs[at].len()) {
            let newer = runs.remove(at);
            runs[at - 1] = merged(items, &runs[at - 1], &newer).into();
        }
    }
}

/// The numbers in a range, sorted by key and then from the newest on.
fn sorted(items: &Items, range: Range<At>) -> Vec<At> {
    let keys = Keys::of(items, range.clone());
    let mut entries: Vec<_> = range.map(|at| Entry::new(false, 0, at)).collect();
    sort(&keys, &mut entries);
    entries.into_iter().map(Entry::at).collect()
}

/// Bytes of a key that stand beside those of others: most keys are not longer.
const BEGINNING: usize = 46;

/// The keys of some items while these are sorted. Records lie far apart, and to fetch one costs more than all
/// that is done with its key: so beginnings are copied side by side, which took 40 % of the time away.
struct Keys<'a> {
    items: &'a Items,
    first: At,
    beginnings: Vec<Beginning>,
}

struct Beginning {
    bytes: [u8; BEGINNING],
    /// Of the whole key.
    key_bytes: u16,
}

impl<'a> Keys<'a> {
    fn of(items: &'a Items, range: Range<At>) -> Self {
        let beginning = |at| {
            let key = items.get(at).key();
            let mut bytes = [0; BEGINNING];
            match key.first_chunk() {
                Some(beginning) => bytes = *beginning,
                None => bytes[..key.len()].copy_from_slice(key),
            }
            Beginning { bytes, key_bytes: key.len() as u16 }
        };
        Self { items, first: range.start, beginnings: range.map(beginning).collect() }
    }

    /// The first `bytes` of a key, or more; the whole key if it is shorter.
    fn get(&self, at: At, bytes: usize) -> &[u8] {
        let beginning = &self.beginnings[(at - self.first) as usize];
        let length = usize::from(beginning.key_bytes);
        if length.min(bytes) <= BEGINNING {
            &beginning.bytes[..length.min(BEGINNING)]
        } else {
            self.items.get(at).key()
        }
    }

    fn whole(&self, at: At) -> &[u8] {
        self.get(at, usize::MAX)
    }
}

/// What is sorted: whether the key goes on behind a depth, its next eight bytes, and the item, the newest
/// first; in one number, so that comparisons are cheap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

impl Entry {
    fn new(goes_on: bool, head: u64, at: At) -> Self {
        Self(u128::from(goes_on) << 96 | u128::from(head) << 32 | u128::from(!at))
    }

    fn of(key: &[u8], depth: usize, at: At) -> Self {
        let rest = &key[depth..];
        let head = match rest.first_chunk() {
            Some(head) => u64::from_be_bytes(*head),
            None => {
                let mut head = [0; 8];
                head[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(head)
            }
        };
        Self::new(!rest.is_empty(), head, at)
    }

    fn at(self) -> At {
        !(self.0 as u32)
    }

    /// The same for keys that do not differ so far.
    fn head(self) -> u128 {
        self.0 >> 32
    }

    fn goes_on(self) -> bool {
        self.0 >> 96 != 0
    }
}

/// Sorts entries. Keys are long and begin alike, so they are sorted by eight bytes behind what all have in
/// common, and then those that still agree, in the same way. Each step either ends a key or gets deeper.
fn sort(keys: &Keys<'_>, entries: &mut [Entry]) {
    // Parts whose keys agree in their first `depth` bytes.
    let mut left = vec![(0..entries.len(), 0)];
    while let Some((part, depth)) = left.pop() {
        let mut from = part.start;
        let entries = &mut entries[part];
        if entries.len() <= FEW {
            let rest = |entry: &Entry| &keys.whole(entry.at())[depth..];
            entries.sort_unstable_by(|a, b| rest(a).cmp(rest(b)).then(b.at().cmp(&a.at())));
            continue;
        }
        let depth = skip_common(keys, entries, depth);
        entries.sort_unstable();
        // Those that end here are equal, and in order; padding with zeros puts no other key in a wrong place.
        for alike in entries.chunk_by(|a, b| a.head() == b.head()) {
            let to = from + alike.len();
            if alike.len() > 1 && alike[0].goes_on() {
                left.push((from..to, depth));
            }
            from = to;
        }
    }
}

/// Lets entries begin behind what all keys have in common, and returns how much that is; the first `depth`
/// bytes they have. It is guessed from a few keys, and the guess is checked on the way.
fn skip_common(keys: &Keys<'_>, entries: &mut [Entry], depth: usize) -> usize {
    let step = entries.len() / 4;
    let common = common_prefix(keys, entries.iter().step_by(step).chain(entries.last()), depth);
    if begin_at(keys, entries, depth, common) {
        return common;
    }
    let common = common_prefix(keys, entries.iter(), depth);
    assert!(begin_at(keys, entries, depth, common), "keys changed");
    common
}

/// Lets entries begin at `common`; false, and half done, if a key differs before that.
fn begin_at(keys: &Keys<'_>, entries: &mut [Entry], depth: usize, common: usize) -> bool {
    let first = &keys.whole(entries[0].at())[depth..common];
    entries.iter_mut().all(|entry| {
        let key = keys.get(entry.at(), common + 8);
        let agrees = key.get(depth..common) == Some(first);
        if agrees {
            *entry = Entry::of(key, common, entry.at());
        }
        agrees
    })
}

/// How many bytes the keys have in common; the first `depth` bytes they have.
fn common_prefix<'a>(
    keys: &Keys<'_>,
    mut entries: impl Iterator<Item = &'a Entry>,
    depth: usize,
) -> usize {
    let first = entries.next().map_or(&[][..], |entry| keys.whole(entry.at()));
    entries.fold(first.len(), |common, entry| {
        let key = keys.whole(entry.at());
        let pairs = first.iter().zip(key).take(common).skip(depth);
        depth + pairs.take_while(|(a, b)| a == b).count()
    })
}

/// Merges two runs; `newer` follows `older`.
fn merged(items: &Items, older: &[At], newer: &[At]) -> Vec<At> {
    let mut merged = Vec::with_capacity(older.len() + newer.len());
    let (mut a, mut b) = (0, 0);
    while let (Some(old), Some(new)) = (older.get(a), newer.get(b)) {
        // Of one key all newer items come first.
        if items.get(*old).key() < items.get(*new).key() {
            merged.push(*old);
            a += 1;
        } else {
            merged.push(*new);
            b += 1;
        }
    }
    merged.extend_from_slice(&older[a..]);
    merged.extend_from_slice(&newer[b..]);
    merged
}

/// A walk over a part of a run that gives of each key the newest item below an end.
pub(crate) struct Cursor<'a> {
    items: &'a Items,
    run: Arc<[At]>,
    end: At,
    left: Range<usize>,
}

impl<'a> Cursor<'a> {
    fn next(&mut self, direction: Direction) -> Option<&'a Item> {
        match direction {
            Direction::Forward => self.forward(),
            Direction::Backward => self.backward(),
        }
    }

    fn forward(&mut self) -> Option<&'a Item> {
        loop {
            let at = self.run[self.left.next()?];
            if at >= self.end {
                continue;
            }
            let item = self.items.get(at);
            let mut behind = item.previous;
            while let Some(at) = behind.filter(|_| !self.left.is_empty()) {
                if self.run[self.left.start] != at {
                    break;
                }
                self.left.start += 1;
                behind = self.items.get(at).previous;
            }
            return Some(item);
        }
    }

    fn backward(&mut self) -> Option<&'a Item> {
        loop {
            let mut at = self.run[self.left.next_back()?];
            let mut newest = None;
            loop {
                newest = Some(at).filter(|at| *at < self.end).or(newest);
                let before = self.left.end.checked_sub(1).filter(|_| !self.left.is_empty());
                let before = before.map(|before| self.run[before]);
                match before.filter(|before| self.items.get(*before).previous == Some(at)) {
                    Some(newer) => at = newer,
                    None => break,
                }
                self.left.end -= 1;
            }
            if let Some(newest) = newest {
                return Some(self.items.get(newest));
            }
        }
    }
}

/// Several cursors as one, in the order of keys or its reverse: of each key the newest item.
pub(crate) struct Merged<'a> {
    direction: Direction,
    /// Newest first, each with its next item; none is empty.
    sources: Vec<(&'a Item, Cursor<'a>)>,
}

impl<'a> Merged<'a> {
    /// Of `cursors`, newest first.
    pub(crate) fn new(cursors: Vec<Cursor<'a>>, direction: Direction) -> Self {
        let filled = |mut cursor: Cursor<'a>| Some((cursor.next(direction)?, cursor));
        Self { direction, sources: cursors.into_iter().filter_map(filled).collect() }
    }

    /// The number of the source whose item comes next.
    fn nearest(&self) -> usize {
        let mut nearest = 0;
        for (number, (item, _)) in self.sources.iter().enumerate().skip(1) {
            let order = item.key().cmp(self.sources[nearest].0.key());
            let order = if self.direction == Direction::Forward { order } else { order.reverse() };
            if order == Ordering::Less {
                nearest = number;
            }
        }
        nearest
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = &'a Item;

    fn next(&mut self) -> Option<&'a Item> {
        let nearest = self.nearest();
        let item = self.sources.get(nearest)?.0;
        let direction = self.direction;
        // Older items of the key are passed over.
        let mut number = 0;
        self.sources.retain_mut(|(next, cursor)| {
            number += 1;
            if number <= nearest || (number > nearest + 1 && next.key() != item.key()) {
                return true;
            }
            cursor.next(direction).map(|after| *next = after).is_some()
        });
        Some(item)
    }
}
