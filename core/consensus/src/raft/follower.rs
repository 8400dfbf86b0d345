//! Following: taking entries from the leader, and saying how far the log matches.
//!
//! - An append whose predecessor is not in the log is refused with a hint. Otherwise what conflicts is
//!   cut, what is new is appended; committed entries are never cut: that is a `Halt`.
//! - Acknowledgements gather until the flush: one for a burst, naming the last matching position, sent
//!   when that position (and the term it was accepted in) is durable here.
//! - A heartbeat is answered at once: it promises nothing that a crash could take back.

use std::time::Duration;

use super::forward::Outbox;
use super::install::are_consecutive;
use super::read::Asking;
use super::{Halt, PlantedBug, Raft, State};
use crate::{Body, Entry, LogIndex, LogStart, NodeId, Output, Refusal, Seq, Term};

/// What only a follower keeps.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// Matching position to acknowledge with the next flush.
    pub(super) ack: Option<LogIndex>,
    pub(super) asking: Asking,
    pub(super) outbox: Outbox,
}

impl Follower {
    /// The leader these were meant for is no more.
    pub(super) fn abandon(self, out: &mut Vec<Output>) {
        self.asking.abandon(out);
        self.outbox.abandon(Refusal::LeaderChanged, out);
    }

    pub(super) fn read_deadline(&self) -> Option<Duration> {
        self.asking.deadline()
    }
}

impl Raft {
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: (LogIndex, Term),
        commit: LogIndex,
        mut entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        self.follow(from, out)?;
        if !self.is_plausible(prev, &entries) {
            return Ok(());
        }
        let (prev_index, prev_term) = prev;
        let last_new = LogIndex(prev_index.0 + entries.len() as u64);
        if prev_index > self.commit && !self.has_predecessor(prev_index, prev_term) {
            self.reject(from, prev_index, prev_term, out);
            return Ok(());
        }
        // What is committed here is in every later leader's log (leader completeness).
        self.check_committed(from, prev, &entries)?;
        entries.retain(|entry| entry.index > self.commit);
        self.take_entries(from, entries)?;
        self.raise_commit(self.commit.max(commit.min(last_new)));
        self.acknowledge(last_new.max(self.commit.min(self.log.last())));
        Ok(())
    }

    /// Whether the entry before an append's first one is here (log matching, by induction).
    fn has_predecessor(&self, index: LogIndex, term: Term) -> bool {
        let known = self.log.term_at(index);
        known == Some(term) || known.is_some() && self.is_planted(PlantedBug::SkipPredecessor)
    }

    /// Whether an append is one that a leader of this term could send. Others are dropped: a peer that
    /// talks nonsense must not stop this node.
    fn is_plausible(&self, prev: (LogIndex, Term), entries: &[Entry]) -> bool {
        let time = entries.first().map_or_else(Default::default, |entry| entry.time);
        let start = LogStart { index: prev.0, term: prev.1, time };
        let newest = entries.last().map_or(prev.1, |entry| entry.term);
        newest <= self.term && are_consecutive(&start, entries)
    }

    /// Committed entries that the leader mentions must be the ones here.
    fn check_committed(
        &self,
        leader: NodeId,
        prev: (LogIndex, Term),
        entries: &[Entry],
    ) -> Result<(), Halt> {
        let mentioned = entries.iter().map(|entry| (entry.index, entry.term));
        for (index, term) in std::iter::once(prev).chain(mentioned) {
            let known = self.log.term_at(index).filter(|_| index <= self.commit);
            if known.is_some_and(|known| known != term) {
                return Err(Halt::CommittedConflict { index, leader, term: self.term });
            }
        }
        Ok(())
    }

    /// Appends what the log lacks; the first entry that differs cuts the rest (5.3).
    fn take_entries(&mut self, leader: NodeId, entries: Vec<Entry>) -> Result<(), Halt> {
        for entry in entries {
            let index = entry.index;
            if self.log.term_at(index) == Some(entry.term) {
                continue;
            }
            if index <= self.log.last() {
                if index <= self.commit {
                    return Err(Halt::CommittedConflict { index, leader, term: self.term });
                }
                self.log.truncate(index);
                self.members.truncated(index);
            }
            self.append_entry(entry);
        }
        Ok(())
    }

    /// Hints at the last position that may match: not above the leader's term there.
    fn reject(&self, to: NodeId, prev_index: LogIndex, prev_term: Term, out: &mut Vec<Output>) {
        let hint_index = self.log.last_not_above(prev_index.prev(), prev_term).max(self.commit);
        let hint_term = self.log.term_at(hint_index).unwrap_or_default();
        self.send(to, Seq(0), Body::Rejected { prev_index, hint_index, hint_term }, out);
    }

    fn acknowledge(&mut self, last: LogIndex) {
        if let State::Follower(follower) = &mut self.state {
            follower.ack = follower.ack.max(Some(last));
        }
    }

    /// A snapshot reached `index`: the leader may go on from there.
    pub(super) fn snapshot_acknowledged(&mut self, index: LogIndex) {
        if self.leader.is_some() {
            self.acknowledge(index);
        }
    }

    pub(super) fn flush_follower(&mut self, out: &mut Vec<Output>) {
        let Some(leader) = self.leader else { return };
        let State::Follower(follower) = &mut self.state else { return };
        if let Some(last) = follower.ack.take() {
            let after = self.vote_seq(out).max(self.log.durable_after(last));
            self.send(leader, after, Body::Accepted { last }, out);
        }
        self.flush_forwards(leader, out);
        self.flush_reads(leader, out);
    }

    pub(super) fn on_heartbeat(
        &mut self,
        from: NodeId,
        commit: LogIndex,
        round: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        self.on_commit_of(from, commit, out)?;
        self.send(from, Seq(0), Body::HeartbeatReply { round }, out);
        Ok(())
    }

    /// The leader commits up to `commit`, all of which this node acknowledged.
    pub(super) fn on_commit_of(
        &mut self,
        from: NodeId,
        commit: LogIndex,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        self.follow(from, out)?;
        if commit > self.log.last() {
            return Err(Halt::LostLog { seen: commit, last: self.log.last() });
        }
        self.raise_commit(commit);
        Ok(())
    }
}
