//! What the leader knows about one peer's log, and how fast it may send.
//!
//! ```text
//!            accepted                     rejected, unreachable
//!   Probe ───────────────► Replicate ───────────────────────────► Probe
//!     │  ▲                     │
//!     │  └─────────────────────┼───── snapshot sent or failed ── Snapshot
//!     └────────────────────────┴──────── entries are gone ──────────▲
//! ```
//!
//! *Probe*: one append at a time until the peer's log is found to match. *Replicate*: the next position
//! moves on with each send, without waiting (pipelining), within a window of messages and bytes.
//! *Snapshot*: nothing is sent until the driver reports how the transfer ended.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::Limits;
use crate::{Entry, LogIndex};

/// How the leader feeds a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Looking for the position where the logs match.
    Probe {
        /// One probe is out; the next waits for its answer or for a heartbeat's.
        waiting: bool,
    },
    /// Streaming.
    Replicate,
    /// A snapshot is on its way.
    Snapshot,
}

/// One peer, as the leader sees it.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The peer's log equals the leader's up to here, durably.
    pub matched: LogIndex,
    /// The next position to send.
    pub next: LogIndex,
    /// How it is fed.
    pub flow: Flow,
    /// When it was last heard of.
    pub heard: Duration,
    /// The last confirmation round it answered.
    pub(super) round: u64,
    /// The commit index it has been sent, as far as the leader knows.
    pub(super) told_commit: LogIndex,
    /// Position being read from disk for it.
    pub(super) reading: Option<LogIndex>,
    /// From here on its log is known to differ, as of the last entries sent.
    differs: Option<LogIndex>,
    inflight: VecDeque<(LogIndex, usize)>,
    inflight_bytes: usize,
}

impl Progress {
    pub(super) fn new(next: LogIndex, now: Duration) -> Self {
        Self {
            matched: LogIndex(0),
            next,
            flow: Flow::Probe { waiting: false },
            heard: now,
            round: 0,
            told_commit: LogIndex(0),
            reading: None,
            differs: None,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    /// Whether entries may be sent now.
    pub(super) fn may_send(&self, limits: &Limits) -> bool {
        if self.reading.is_some() {
            return false;
        }
        match self.flow {
            Flow::Probe { waiting } => !waiting,
            Flow::Replicate => {
                self.inflight.len() < limits.inflight_messages
                    && self.inflight_bytes < limits.inflight_bytes
            }
            Flow::Snapshot => false,
        }
    }

    /// `entries` (not empty) left for the peer.
    pub(super) fn sent(&mut self, entries: &[Entry]) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        self.differs = None; // it may take them, and its answer may be lost
        match self.flow {
            Flow::Replicate => {
                let bytes = entries.iter().map(Entry::size).sum();
                self.inflight.push_back((last, bytes));
                self.inflight_bytes += bytes;
                self.next = last.next();
            }
            Flow::Probe { .. } => self.flow = Flow::Probe { waiting: true },
            Flow::Snapshot => {}
        }
    }

    /// The peer holds everything up to `last`; says whether that is news.
    pub(super) fn accepted(&mut self, last: LogIndex) -> bool {
        while let Some((_, bytes)) = self.inflight.pop_front_if(|(at, _)| *at <= last) {
            self.inflight_bytes -= bytes;
        }
        self.differs.take_if(|at| *at <= last);
        let news = last > self.matched;
        self.matched = self.matched.max(last);
        self.next = self.next.max(self.matched.next());
        if matches!(self.flow, Flow::Probe { .. }) {
            self.flow = Flow::Replicate;
        }
        news
    }

    /// The peer's log does not match at `prev`; `resume` is where it may. Old news is ignored.
    pub(super) fn rejected(&mut self, prev: LogIndex, resume: LogIndex) {
        let stale = match self.flow {
            Flow::Replicate => prev <= self.matched,
            Flow::Probe { .. } => prev.next() != self.next,
            Flow::Snapshot => true,
        };
        if !stale {
            let resume = resume.min(prev.prev()).max(self.matched);
            self.probe_from(resume.next());
            self.differs = Some(resume.next());
        }
    }

    /// Whether its log is known to have nothing, or something else, at `index`.
    pub(super) fn differs_at(&self, index: LogIndex) -> bool {
        self.differs.is_some_and(|at| at <= index)
    }

    /// Whatever was under way is lost: find the matching position again.
    pub(super) fn probe_from(&mut self, next: LogIndex) {
        self.flow = Flow::Probe { waiting: false };
        self.next = next;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// Entries that it needs are gone: nothing is sent until a snapshot arrived.
    pub(super) fn needs_snapshot(&mut self) {
        self.probe_from(self.next);
        self.flow = Flow::Snapshot;
        self.reading = None;
    }

    /// A snapshot was not installed; perhaps it is not needed any more.
    pub(super) fn snapshot_failed(&mut self) {
        self.flow = Flow::Probe { waiting: true };
        self.differs = None;
    }

    /// Bytes of entries under way.
    #[must_use]
    pub fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    pub(super) fn invariants(&self, last: LogIndex) {
        assert!(self.matched < self.next && self.matched <= last && self.next <= last.next());
        let bytes: usize = self.inflight.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, self.inflight_bytes);
    }
}
