//! A keyspace as the hub sees it: how far it is, its recent events, and who is watching what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::types::{EventBatch, KeyRange, Revision};

use super::intervals::{Interval, Intervals};
use super::{StreamId, WatchId};

/// A watcher's name within the hub.
pub(super) type Name = (StreamId, WatchId);

/// One keyspace.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// The last revision whose events the hub has seen.
    pub(super) revision: Revision,
    /// Events below this revision can no longer be read.
    pub(super) compact_revision: Revision,
    /// The last revisions, without gaps, up to `revision`.
    ring: VecDeque<EventBatch>,
    ring_bytes: usize,
    /// Live watchers of one key each.
    exact: BTreeMap<Bytes, BTreeSet<Name>>,
    /// Live watchers of ranges.
    ranges: Intervals<Name>,
}

impl Space {
    /// A keyspace that nobody has written to.
    pub(super) fn empty() -> Self {
        Self { revision: Revision::FIRST, ..Self::default() }
    }

    /// Takes a new revision into the ring, and drops what no longer fits.
    pub(super) fn push(&mut self, batch: EventBatch, ring_bytes: usize) {
        assert_eq!(batch.revision, self.revision.next(), "events of a revision are missing");
        self.revision = batch.revision;
        self.ring_bytes += size(&batch);
        self.ring.push_back(batch);
        while self.ring_bytes > ring_bytes {
            let oldest = self.ring.pop_front().expect("an empty ring has no bytes");
            self.ring_bytes -= size(&oldest);
        }
    }

    /// Jumps to a revision whose events the hub will not see.
    pub(super) fn jump(&mut self, revision: Revision) {
        self.revision = revision;
        self.ring.clear();
        self.ring_bytes = 0;
    }

    /// The ring from a revision on, if it reaches back that far.
    pub(super) fn recent(&self, from: Revision) -> Option<impl Iterator<Item = &EventBatch>> {
        let first = self.ring.front().map_or_else(|| self.revision.next(), |batch| batch.revision);
        let skip = usize::try_from(from.0 - first.0).ok()?;
        Some(self.ring.range(skip.min(self.ring.len())..))
    }

    pub(super) fn watch(&mut self, range: &KeyRange, name: Name) {
        if range.is_single() {
            self.exact.entry(range.key.clone()).or_default().insert(name);
        } else {
            self.ranges.insert(interval(range), name);
        }
    }

    pub(super) fn unwatch(&mut self, range: &KeyRange, name: Name) {
        if !range.is_single() {
            self.ranges.remove(&interval(range), name);
        } else if let Some(names) = self.exact.get_mut(&range.key) {
            names.remove(&name);
            if names.is_empty() {
                self.exact.remove(&range.key);
            }
        }
    }

    /// Calls `found` with every live watcher of a key.
    pub(super) fn watchers(&self, key: &[u8], found: &mut impl FnMut(Name)) {
        self.exact.get(key).into_iter().flatten().for_each(|name| found(*name));
        self.ranges.holding(key, found);
    }

    /// Checks the ring; panics where it is broken.
    pub(super) fn invariants(&self) {
        let bytes: usize = self.ring.iter().map(size).sum();
        assert_eq!(bytes, self.ring_bytes, "bytes of the ring");
        for (back, batch) in self.ring.iter().rev().enumerate() {
            assert_eq!(batch.revision.0 + back as i64, self.revision.0, "a gap in the ring");
        }
    }
}

fn size(batch: &EventBatch) -> usize {
    batch.events.iter().map(crate::types::Event::size).sum()
}

fn interval(range: &KeyRange) -> Interval {
    let end = (!range.is_open_ended()).then(|| range.range_end.clone());
    Interval { start: range.key.clone(), end }
}
