//! Making room at once, for whoever asks for it (etcd's Defragment).
//!
//! Space comes back by itself, but not soon: what was removed stands as tombstones in the active table
//! until that is full, and below them files are merged only when new ones push. A request goes through
//! three stages, and each end of a burst moves it on:
//!
//! 1. Physical compaction finishes; then the active table is sealed, however little is in it, under the
//!    same rules as a full one. A checkpoint needs a new applied index: on a quiet node an entry
//!    without effect is proposed to have one.
//! 2. `Output::Defragment`: the engine's thread writes the sealed tables out, then merges all files.
//! 3. `Input::Defragmented`, after the checkpoint was reported durable: the request is answered. The
//!    merge of one request may serve an earlier or later one: it began after every checkpoint
//!    that was reported before its end, because one thread does both, in order.
//!
//! A request whose time runs out is answered too: with `Done` if its checkpoint is durable (the merge goes
//! on), with `Timeout` otherwise. Purely local: nothing here is replicated but the entry without effect.
//!
//! Who only wants to know that compacted history is gone (`Request::FinishCompaction`, etcd's physical
//! compaction) waits for the first half of stage 1, as long as it takes: a table that the sweep has filled is
//! sealed for it as above, since on a quiet node nothing else would, and the sweep stands still at a full one.

use std::time::Duration;

use quorate_consensus::{self as consensus, LogIndex};
use quorate_engine::Engine;
use quorate_kv::{Command, KeyspaceId};

use crate::limits::MAX_DEFRAGMENTS;
use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::{Failure, Output, Reply, RequestId, Stamp};

/// Who waits for room, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Defragments {
    waiting: Vec<Waiting>,
    /// Who waits for the sweep alone.
    sweeping: Vec<RequestId>,
    /// Where the last entry without effect was proposed, and until when it is waited for: one for each
    /// applied index, unless it was lost.
    nudged: (LogIndex, Duration),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: RequestId,
    deadline: Duration,
    /// The checkpoint that holds everything this request is about, once it is sealed.
    sealed: Option<LogIndex>,
}

impl Defragments {
    /// When the oldest runs out.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.first().map(|waiting| waiting.deadline)
    }

    fn any_unsealed(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.sealed.is_none())
    }

    /// Deadlines ascend, so that looking at the first is enough.
    pub(crate) fn invariants(&self) {
        assert!(
            self.waiting.is_sorted_by_key(|waiting| waiting.deadline),
            "deadlines out of order"
        );
        assert!(self.waiting.len() <= MAX_DEFRAGMENTS, "too many wait for room");
        assert!(self.sweeping.len() <= MAX_DEFRAGMENTS, "too many wait for the sweep");
    }

    /// Takes out those for which `ends` holds.
    fn take(&mut self, ends: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (ended, rest) = self.waiting.iter().partition(|waiting| ends(waiting));
        self.waiting = rest;
        ended
    }
}

impl<E: Engine> Node<E> {
    pub(crate) fn defragment(&mut self, now: Duration, id: RequestId) -> Result<(), Failure> {
        if self.defragments.waiting.len() >= MAX_DEFRAGMENTS {
            return Err(Failure::Overloaded);
        }
        let deadline = now + self.config.request_timeout;
        self.defragments.waiting.push(Waiting { id, deadline, sealed: None });
        // An earlier entry without effect may have been lost with a leader.
        self.defragments.nudged = (LogIndex(0), Duration::ZERO);
        Ok(())
    }

    pub(crate) fn finish_compaction(&mut self, id: RequestId) -> Result<(), Failure> {
        if self.defragments.sweeping.len() >= MAX_DEFRAGMENTS {
            return Err(Failure::Overloaded);
        }
        self.defragments.sweeping.push(id);
        Ok(())
    }

    /// At the end of a burst, after physical compaction had its share of it.
    pub(crate) fn go_on_defragmenting(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let finished = !self.kv.has_garbage();
        if finished {
            let swept = std::mem::take(&mut self.defragments.sweeping);
            swept.into_iter().for_each(|id| self.defragment_done(id, out));
        }
        if !self.defragments.any_unsealed() && self.defragments.sweeping.is_empty() {
            return Ok(());
        }
        if !finished && !self.table_is_full() {
            return Ok(());
        }
        if self.engine.usage().active_bytes > 0 {
            if !self.may_seal() {
                return self.nudge(now, out);
            }
            self.seal(out)?;
        }
        if finished {
            self.defragments.waiting.iter_mut().for_each(|waiting| {
                waiting.sealed.get_or_insert(self.sealed);
            });
            out.push(Output::Defragment);
        }
        Ok(())
    }

    /// The active table waits for an entry to be named after: proposes one that changes nothing.
    fn nudge(&mut self, now: Duration, out: &mut Vec<Output<E::Snapshot>>) -> Result<(), Halt> {
        let at = self.applied.index;
        let (nudged, until) = self.defragments.nudged;
        if at > self.sealed || (nudged == at && now < until) {
            return Ok(());
        }
        self.defragments.nudged = (at, now + self.config.request_timeout);
        let nothing = Command::LeaseRenew { ids: Vec::new() };
        self.propose_own(now, Waiter::Nobody, KeyspaceId::ETCD, &nothing, out)?;
        // The burst's own flush of the log is over, and on a quiet node the next one may be far.
        self.raft(now, consensus::Input::Flush, out)
    }

    /// All files have been merged.
    pub(crate) fn defragmented(&mut self, out: &mut Vec<Output<E::Snapshot>>) {
        let volatile = self.oldest_volatile();
        let done = self.defragments.take(|waiting| waiting.is_durable(volatile));
        done.into_iter().for_each(|waiting| self.defragment_done(waiting.id, out));
    }

    pub(crate) fn expire_defragments(&mut self, now: Duration, out: &mut Vec<Output<E::Snapshot>>) {
        let volatile = self.oldest_volatile();
        for waiting in self.defragments.take(|waiting| waiting.deadline <= now) {
            if waiting.is_durable(volatile) {
                self.defragment_done(waiting.id, out);
            } else {
                self.fail(waiting.id, Failure::Timeout, out);
            }
        }
    }

    fn defragment_done(&self, id: RequestId, out: &mut Vec<Output<E::Snapshot>>) {
        let stamp = Stamp { term: self.raft.term(), ..Stamp::default() };
        out.push(Output::Reply { id, reply: Reply::Done { stamp } });
    }

    /// The oldest sealed checkpoint that is not durable yet.
    fn oldest_volatile(&self) -> Option<LogIndex> {
        self.checkpoints.front().map(|(start, _)| start.index)
    }
}

impl Waiting {
    fn is_durable(&self, volatile: Option<LogIndex>) -> bool {
        self.sealed.is_some_and(|sealed| volatile.is_none_or(|volatile| sealed < volatile))
    }
}
