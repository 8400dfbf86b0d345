//! Leading: taking proposals, counting what is durable, noticing that nobody listens any more, and
//! handing over.
//!
//! - A new leader appends an empty entry at once. Only entries of its own term are committed by counting
//!   (5.4.2); those before follow by the log's nature.
//! - It counts itself by what **its own disk** confirmed (contract 2); a leader that has left the
//!   voters does not count itself at all, and steps down once that is committed.
//! - It steps down when a majority of the voters was silent for an election timeout (thesis 6.2).
//! - Entries are stamped with group time. Uncommitted bytes are bounded.
//! - A sole voter has nobody to speak to and no timer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::clock::Clock;
use super::follower::Follower;
use super::membership::check_change;
use super::read::Reads;
use super::{PlantedBug, Progress, Raft, State};
use crate::quorum::reached;
use crate::{Body, Entry, LogIndex, Membership, NodeId, Origin, Output, Payload, Refusal, Seq};

/// What only a leader knows.
pub(super) struct Leader {
    /// Peers, voting or not.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// The first entry of its term.
    pub(super) first_index: LogIndex,
    pub(super) reads: Reads,
    pub(super) transfer: Option<Transfer>,
    /// The highest forwarded sequence number seen, by (node, boot): contract 15.
    pub(super) marks: BTreeMap<(NodeId, u64), u64>,
    pub(super) clock: Clock,
    pub(super) heartbeat_at: Duration,
    pub(super) uncommitted_bytes: usize,
}

/// A handing over of leadership.
pub(super) struct Transfer {
    pub(super) to: NodeId,
    /// When it is given up.
    pub(super) until: Duration,
    told: bool,
}

impl Raft {
    pub(super) fn become_leader(&mut self, out: &mut Vec<Output>) {
        let base = self.last_stamp();
        let leader = Leader {
            progress: BTreeMap::new(),
            first_index: self.log.last().next(),
            reads: Reads::default(),
            transfer: None,
            marks: BTreeMap::new(),
            clock: Clock::new(base, self.now, self.config.election_timeout),
            // The append of its first entry tells everybody before that.
            heartbeat_at: self.now + self.config.heartbeat,
            uncommitted_bytes: self.log.bytes_between(self.commit.next(), self.log.last()),
        };
        self.leave_role(State::Leader(Box::new(leader)), out);
        self.leader = Some(self.config.id);
        self.sync_progress();
        self.append_as_leader(Payload::Empty);
    }

    /// Stamps and appends. Durable and sent with the next flush.
    pub(super) fn append_as_leader(&mut self, payload: Payload) {
        let time = self.group_time(self.now);
        let entry = Entry { term: self.term, index: self.log.last().next(), time, payload };
        let State::Leader(leader) = &mut self.state else { unreachable!("only leaders append") };
        leader.uncommitted_bytes += entry.size();
        self.append_entry(entry);
    }

    /// Why a command of `bytes` cannot be appended now, if so.
    pub(super) fn refusal(&self, bytes: usize) -> Option<Refusal> {
        let State::Leader(leader) = &self.state else { return Some(Refusal::NotLeader) };
        if leader.transfer.is_some() {
            return Some(Refusal::Transferring);
        }
        let total = leader.uncommitted_bytes.saturating_add(bytes);
        let full = leader.uncommitted_bytes > 0 && total > self.config.limits.uncommitted_bytes;
        full.then_some(Refusal::Overloaded)
    }

    pub(super) fn on_propose(&mut self, origin: Origin, data: Bytes, out: &mut Vec<Output>) {
        if !self.is_leader() {
            return self.gather_forward(origin, data, out);
        }
        match self.refusal(data.len()) {
            Some(reason) => out.push(Output::Refused { origin, reason }),
            None => self.append_as_leader(Payload::Command { origin, data }),
        }
    }

    pub(super) fn on_propose_time(&mut self) {
        if self.refusal(0).is_none() {
            self.append_as_leader(Payload::Empty);
        }
    }

    pub(super) fn on_change(
        &mut self,
        origin: Origin,
        membership: Membership,
        out: &mut Vec<Output>,
    ) {
        match self.check_change(&membership) {
            Err(reason) => out.push(Output::Refused { origin, reason }),
            Ok(()) => self.append_as_leader(Payload::Membership { origin, membership }),
        }
    }

    fn check_change(&self, membership: &Membership) -> Result<(), Refusal> {
        if let Some(reason) = self.refusal(0) {
            return Err(reason);
        }
        if !self.has_committed_in_term() || self.members.index() > self.applied {
            return Err(Refusal::ChangePending);
        }
        check_change(self.members.current(), membership)
    }

    /// Whether this leader's term has a committed entry: only then is its commit index current (5.4.2,
    /// section 8).
    pub(super) fn has_committed_in_term(&self) -> bool {
        matches!(&self.state, State::Leader(leader) if self.commit >= leader.first_index)
    }

    /// Makes the list of peers that of the membership.
    pub(super) fn sync_progress(&mut self) {
        let peers = self.peers();
        let (next, now) = (self.log.last().next(), self.now);
        let State::Leader(leader) = &mut self.state else { return };
        leader.progress.retain(|id, _| peers.contains(id));
        for id in peers {
            leader.progress.entry(id).or_insert_with(|| Progress::new(next, now));
        }
        let voters = self.members.current();
        leader.transfer.take_if(|transfer| !voters.is_voter(transfer.to));
    }

    /// What a majority of the voters has reached of whatever `of` says about a peer; `own` stands for
    /// this node, if it votes.
    pub(super) fn majority<T: Ord + Copy>(&self, own: T, of: impl Fn(&Progress) -> T) -> Option<T> {
        let State::Leader(leader) = &self.state else { return None };
        let id = self.config.id;
        let value =
            |voter| if voter == id { Some(own) } else { leader.progress.get(&voter).map(&of) };
        let mut values: Vec<T> = self.members.current().voters().filter_map(value).collect();
        reached(&mut values)
    }

    /// Raises the commit index to what a majority holds durably, if that is an entry of this term.
    pub(super) fn advance_commit(&mut self, out: &mut Vec<Output>) {
        let Some(index) = self.majority(self.log.persisted(), |progress| progress.matched) else {
            return;
        };
        let counts =
            self.log.term_at(index) == Some(self.term) || self.is_planted(PlantedBug::CountOldTerm);
        if index <= self.commit || !counts {
            return;
        }
        let bytes = self.log.bytes_between(self.commit.next(), index);
        self.raise_commit(index);
        if let State::Leader(leader) = &mut self.state {
            leader.uncommitted_bytes -= bytes;
        }
        self.release_reads(out);
        self.leave_if_removed(out);
    }

    /// A leader that is no voter any more has done its last duty when that is committed (thesis 4.2.2).
    fn leave_if_removed(&mut self, out: &mut Vec<Output>) {
        let removed = !self.members.current().is_voter(self.config.id);
        if removed && self.members.index() <= self.commit {
            self.send_heartbeats(out);
            self.become_follower(self.term, out);
        }
    }

    pub(super) fn flush_leader(&mut self, out: &mut Vec<Output>) {
        // A change of membership may have made a smaller majority sufficient.
        self.advance_commit(out);
        self.start_read_round(out);
        self.feed_all(out);
        self.hand_leadership(out);
    }

    pub(super) fn run_leader_timers(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        if self.quorum_deadline().is_some_and(|at| now >= at) {
            return self.become_follower(self.term, out);
        }
        let State::Leader(leader) = &mut self.state else { return };
        leader.transfer.take_if(|transfer| now >= transfer.until);
        if !leader.progress.is_empty() && now >= leader.heartbeat_at {
            self.send_heartbeats(out);
        }
    }

    /// When a majority will have been silent for too long, if others vote.
    fn quorum_deadline(&self) -> Option<Duration> {
        if self.members.is_sole_voter(self.config.id) {
            return None;
        }
        let heard = self.majority(self.now, |progress| progress.heard)?;
        Some(heard + self.config.election_timeout)
    }

    pub(super) fn leader_deadline(&self, leader: &Leader) -> Option<Duration> {
        let heartbeat = (!leader.progress.is_empty()).then_some(leader.heartbeat_at);
        let transfer = leader.transfer.as_ref().map(|transfer| transfer.until);
        [heartbeat, transfer, self.quorum_deadline()].into_iter().flatten().min()
    }

    pub(super) fn on_transfer(&mut self, to: NodeId, out: &mut Vec<Output>) {
        let until = self.now + self.config.election_timeout;
        let votes = self.members.current().is_voter(to) && to != self.config.id;
        let State::Leader(leader) = &mut self.state else { return };
        let other = leader.transfer.as_ref().is_none_or(|transfer| transfer.to != to);
        if votes && other {
            leader.transfer = Some(Transfer { to, until, told: false });
            self.hand_leadership(out);
        }
    }

    /// Tells the successor to start once its log is complete.
    fn hand_leadership(&mut self, out: &mut Vec<Output>) {
        let last = self.log.last();
        let State::Leader(leader) = &mut self.state else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let complete = leader.progress.get(&transfer.to).is_some_and(|p| p.matched == last);
        if complete && !transfer.told {
            transfer.told = true;
            let to = transfer.to;
            self.send(to, Seq(0), Body::TimeoutNow, out);
        }
    }

    /// Two leaders in one term would be the end of everything above.
    pub(super) fn follow(
        &mut self,
        from: NodeId,
        out: &mut Vec<Output>,
    ) -> Result<(), super::Halt> {
        let (term, one) = (self.term, self.leader.unwrap_or(from));
        if one != from {
            return Err(super::Halt::TwoLeaders { term, one, other: from });
        }
        if matches!(self.state, State::Candidate(_)) {
            self.leave_role(State::Follower(Follower::default()), out);
        }
        self.leader = Some(from);
        self.contact = Some(self.now);
        self.reset_election_timer();
        Ok(())
    }
}
