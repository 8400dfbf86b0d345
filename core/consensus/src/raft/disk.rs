//! Persist before you promise (contract 2): what goes to the disk, what came back, and what may be
//! applied.
//!
//! Writes are numbered and confirmed in order. Whoever promises something asks which number must be
//! durable first: `vote_seq` for the term and the vote, `Log::durable_after` for entries. Term and vote go
//! out when they are promised, entries with the flush, and a commit index only along with either.

use super::{Halt, Raft, State};
use crate::{HardState, Output, Persist, Seq};

/// The FIFO to the disk: what was handed out and what came back.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) handed: Seq,
    pub(super) durable: Seq,
    /// The `Persist` that holds the current term and vote.
    pub(super) vote_seq: Seq,
    /// The hard state last handed out.
    pub(super) saved: HardState,
}

impl Raft {
    /// The seq that holds the current term and vote, handing them out if that has not been done.
    pub(super) fn vote_seq(&mut self, out: &mut Vec<Output>) -> Seq {
        if (self.term, self.vote) != (self.disk.saved.term, self.disk.saved.vote) {
            self.persist(false, out);
        }
        self.disk.vote_seq
    }

    /// Hands term, vote and (if asked) new entries to the disk. A commit index alone is not worth a
    /// write: it rides along, never ahead of the entries that the disk has been given.
    pub(super) fn persist(&mut self, with_entries: bool, out: &mut Vec<Output>) {
        let voted = (self.term, self.vote) != (self.disk.saved.term, self.disk.saved.vote);
        let grown = with_entries && self.log.emitted() < self.log.last();
        if !voted && !grown {
            return;
        }
        let seq = Seq(self.disk.handed.0 + 1);
        self.disk.handed = seq;
        let entries = if with_entries { self.log.emit(seq) } else { Vec::new() };
        let commit = self.commit.min(self.log.emitted()).max(self.disk.saved.commit);
        let state = HardState { term: self.term, vote: self.vote, commit };
        let hard_state = (state != self.disk.saved).then_some(state);
        self.disk.saved = state;
        if voted {
            self.disk.vote_seq = seq;
        }
        out.push(Output::Persist(Persist { seq, hard_state, entries }));
    }

    pub(super) fn on_persisted(&mut self, seq: Seq, out: &mut Vec<Output>) -> Result<(), Halt> {
        if seq > self.disk.handed {
            return Err(Halt::UnknownSeq { seq, handed: self.disk.handed });
        }
        self.disk.durable = self.disk.durable.max(seq);
        self.log.on_persisted(self.disk.durable);
        match self.state {
            State::Candidate(_) => self.count_own_vote(out),
            State::Leader(_) => self.advance_commit(out),
            State::Follower(_) => {}
        }
        Ok(())
    }

    /// Gives the state machine what is committed and durable here (contract 2).
    pub(super) fn hand_over(&mut self, out: &mut Vec<Output>) {
        let until = self.commit.min(self.log.persisted());
        if until <= self.handed {
            return;
        }
        let entries = self.log.entries(self.handed.next(), until, usize::MAX, usize::MAX);
        assert_eq!(entries.first().map(|e| e.index), Some(self.handed.next()), "apply order");
        assert_eq!(entries.last().map(|e| e.index), Some(until), "apply order");
        self.handed = until;
        out.push(Output::Apply { entries });
    }

    pub(super) fn evict(&mut self) {
        let keep = self.applied.min(self.log.persisted());
        self.log.evict(self.config.limits.log_cache_bytes, keep);
    }
}
