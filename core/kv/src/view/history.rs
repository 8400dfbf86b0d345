//! History: what happened from a revision on, for watchers that are behind.
//!
//! The changes of a keyspace stand in `r/` in the order in which they were made; each names its key and
//! the version that it replaced, so an event costs two point reads at most. `prev_kv` is exactly the
//! pair that the change replaced. It is absent when that was out of reach for compaction, whether or
//! not it has been removed physically: what a watcher is told must not depend on which member it asks.

use std::sync::Arc;

use bytes::Bytes;
use quorate_engine::{Direction, EngineError, Read};

use crate::error::{ReadError, corrupt};
use crate::layout::{self, Position};
use crate::limits::HISTORY_SCAN_RECORDS;
use crate::record::{Change, Version};
use crate::types::{Event, EventBatch, EventKind, KeyRange, KeyValue, Refusal, Revision};

use super::View;

/// A piece of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Changes of the range asked for, one batch a revision, ascending; revisions without any are
    /// left out.
    pub batches: Vec<EventBatch>,
    /// Where to go on; everything before it has been looked at. One past the view's revision: this
    /// was all.
    pub next: Revision,
}

impl<S: Read> View<S> {
    /// Changes of `range` from revision `from` on, whole revisions, until `max_bytes` of keys and
    /// values are gathered (one revision at least, if there is one) or `HISTORY_SCAN_RECORDS` changes
    /// have been looked at (`next` always moves on).
    ///
    /// # Errors
    /// `Compacted` when `from` is below the compact revision, or in the past of a keyspace that keeps no history; or the
    /// engine failed.
    pub fn history(
        &self,
        range: &KeyRange,
        from: Revision,
        max_bytes: usize,
    ) -> Result<History, ReadError> {
        let from = from.max(Revision(0));
        let is_kept = self.keyspace.keeps_history() || from > self.revision;
        if from < self.compact_revision || !is_kept {
            return Err(Refusal::Compacted.into());
        }
        let mut gathering = Gathering { next: from, ..Gathering::default() };
        let until = Position::last_of(self.revision);
        let bounds = layout::changes(self.keyspace, Position::first_of(from), until);
        for pair in self.snapshot.scan(layout::borrow(&bounds), Direction::Forward) {
            let (key, value) = pair?;
            let at = layout::change_position(&key)?;
            if at.revision > gathering.next && gathering.is_full(max_bytes) {
                return Ok(gathering.finish(self, at.revision));
            }
            if at.revision > gathering.next {
                gathering.close(self);
                gathering.next = at.revision;
            }
            gathering.looked_at += 1;
            let change = Change::take(&value)?;
            if range.contains(&change.key) {
                gathering.add(self.event(at, change)?);
            }
        }
        let end = self.revision.next().max(from);
        Ok(gathering.finish(self, end))
    }

    fn event(&self, at: Position, change: Change) -> Result<Event, EngineError> {
        let prev = match change.replaced {
            Some(old) if self.is_kept(old, at) => self.replaced(&change.key, old)?,
            _ => None,
        };
        let prev_kv = prev.and_then(|old| Some(old.live?.with_key(change.key.clone(), old.at)));
        let kv = match change.kind {
            EventKind::Put => self.put_at(change.key, at)?,
            EventKind::Delete => {
                KeyValue { key: change.key, mod_revision: at.revision, ..KeyValue::default() }
            }
        };
        Ok(Event { kind: change.kind, kv, prev_kv })
    }

    /// Whether compaction keeps a version that was replaced at `by`.
    fn is_kept(&self, old: Position, by: Position) -> bool {
        old.revision >= self.compact_revision || by.revision > self.compact_revision
    }

    /// A version that was replaced. A tombstone before the compact revision may be gone.
    fn replaced(&self, key: &Bytes, at: Position) -> Result<Option<Version>, EngineError> {
        let bytes = self.snapshot.get(&layout::version(self.keyspace, key, at))?;
        bytes.as_ref().map(Version::take).transpose()
    }

    fn put_at(&self, key: Bytes, at: Position) -> Result<KeyValue, EngineError> {
        let head = self.keys().head(&key)?;
        let version = match head {
            Some(head) if head.at == at => Some(head),
            _ => self.replaced(&key, at)?,
        };
        let live = version.filter(|version| version.at == at).and_then(|version| version.live);
        let live = live.ok_or_else(|| corrupt("a change without its version"))?;
        Ok(live.with_key(key, at))
    }
}

/// Batches in the making; `events` are those of revision `next`.
#[derive(Default)]
struct Gathering {
    batches: Vec<EventBatch>,
    next: Revision,
    events: Vec<Event>,
    bytes: usize,
    looked_at: usize,
}

impl Gathering {
    fn add(&mut self, event: Event) {
        self.bytes += event.size();
        self.events.push(event);
    }

    fn is_full(&self, max_bytes: usize) -> bool {
        self.bytes >= max_bytes.max(1) || self.looked_at >= HISTORY_SCAN_RECORDS
    }

    /// Ends the revision under way.
    fn close<S>(&mut self, view: &View<S>) {
        if self.events.is_empty() {
            return;
        }
        let events: Arc<[Event]> = std::mem::take(&mut self.events).into();
        self.batches.push(EventBatch { keyspace: view.keyspace, revision: self.next, events });
    }

    fn finish<S>(mut self, view: &View<S>, next: Revision) -> History {
        self.close(view);
        History { batches: self.batches, next }
    }
}
