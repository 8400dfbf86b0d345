//! A client's watch stream and its watchers.

use std::collections::{BTreeMap, VecDeque};

use crate::types::{Event, EventKind, KeyRange, KeyspaceId, Revision};

use super::{WatchCreate, WatchId};

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) keyspace: KeyspaceId,
    pub(super) watchers: BTreeMap<WatchId, Watcher>,
    /// Watchers that are behind and wait for a turn, in order.
    pub(super) behind: VecDeque<WatchId>,
    /// Bytes handed to the connection and not drained yet.
    pub(super) outstanding: usize,
    /// Whether it stands in the hub's queue.
    pub(super) queued: bool,
    /// The id to try first for a watcher that brings none.
    next_id: WatchId,
}

impl Stream {
    pub(super) fn new(keyspace: KeyspaceId) -> Self {
        Self {
            keyspace,
            watchers: BTreeMap::new(),
            behind: VecDeque::new(),
            outstanding: 0,
            queued: false,
            next_id: WatchId(0),
        }
    }

    /// The id of a new watcher, or `None` if the one asked for is taken.
    pub(super) fn choose_id(&mut self, asked: WatchId) -> Option<WatchId> {
        if asked != WatchId(0) {
            return (!self.watchers.contains_key(&asked)).then_some(asked);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id.0 += 1;
        }
        let id = self.next_id;
        self.next_id.0 += 1;
        Some(id)
    }

    /// Whether every watcher has been sent everything up to `revision`, so that progress may be told
    /// (false without any: etcd says nothing then).
    ///
    /// A watcher that compaction has cancelled counts as one that never gets there, until the client
    /// cancels it: that is what etcd 3.5.30 does, and a client cannot mistake silence for progress.
    pub(super) fn is_past(&self, revision: Revision) -> bool {
        let past = |watcher: &Watcher| watcher.is_past(revision);
        !self.watchers.is_empty() && self.watchers.values().all(past)
    }
}

/// Where a watcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has seen every revision that the hub has seen; it stands in the index.
    Live,
    /// It has seen everything before this revision, and waits for a turn.
    Behind(Revision),
    /// The same, and a read of history is under way for it.
    Reading(Revision, u64),
    /// Compaction has passed it.
    Compacted,
}

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) range: KeyRange,
    /// The revision it asked to start at; 0: now.
    pub(super) start: Revision,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    no_put: bool,
    no_delete: bool,
    pub(super) place: Place,
    /// Whether it was sent anything since the last tick.
    pub(super) sent: bool,
}

impl Watcher {
    pub(super) fn new(request: WatchCreate, place: Place) -> Self {
        Self {
            range: request.range,
            start: Revision(request.start_revision),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            no_put: request.no_put,
            no_delete: request.no_delete,
            place,
            sent: false,
        }
    }

    pub(super) fn is_past(&self, revision: Revision) -> bool {
        self.place == Place::Live && self.start <= revision
    }

    /// Whether its filters let an event of its range through.
    pub(super) fn wants(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }
}
