//! Elections: pre-vote, vote, and what a voter answers.
//!
//! - A node whose election timer fires first asks whether an election *could* succeed (pre-vote; thesis
//!   9.6). Nothing changes at either end, so a node that was cut off cannot depose a working leader by
//!   the terms it ran up.
//! - Then it raises its term and asks for votes. The requests, the votes and **its own vote** count only
//!   once the term and vote that they rest on are durable (contract 2).
//! - A voter grants at most one vote a term, and only to a log that holds at least what its own does
//!   (5.4.1). Its own membership does not matter: the candidate's may be newer.
//! - A node that no membership in its log, from the last committed one on, names as a voter never
//!   campaigns. A sole voter elects itself without waiting.

use std::collections::BTreeMap;

use super::{Raft, State};
use crate::quorum::{Tally, tally};
use crate::{Body, LogIndex, NodeId, Output, Seq, Term};

/// An election in progress.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Asking only (pre-vote).
    pub(super) pre: bool,
    votes: BTreeMap<NodeId, bool>,
}

impl Raft {
    /// Only voters start elections, and those whose removal is not known to be committed: without the
    /// last entries that only they may hold, the rest could be unable to elect (thesis, 4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        self.members.may_vote(self.config.id)
    }

    pub(super) fn run_election_timer(&mut self, out: &mut Vec<Output>) {
        if self.now < self.election_at {
            return;
        }
        if !self.may_campaign() {
            // It cannot replace the leader, but need not send it anything any more either.
            if self.leader.is_some() {
                self.become_follower(self.term, out);
            }
            return;
        }
        if self.members.is_sole_voter(self.config.id) {
            // Its own vote may be on its way to the disk: asking again would restart it forever.
            if matches!(self.state, State::Candidate(_)) {
                self.election_at = self.now + self.config.election_timeout;
            } else {
                self.campaign(false, out);
            }
        } else {
            self.pre_campaign(out);
        }
    }

    /// Asks every voter whether it would vote for this node in the next term.
    fn pre_campaign(&mut self, out: &mut Vec<Output>) {
        let votes = BTreeMap::from([(self.config.id, true)]);
        self.leave_role(State::Candidate(Candidate { pre: true, votes }), out);
        self.leader = None;
        self.reset_election_timer();
        let (last_index, last_term) = (self.log.last(), self.log.last_term());
        for voter in self.other_voters() {
            self.send(voter, Seq(0), Body::PreVote { last_index, last_term }, out);
        }
    }

    /// Raises the term, votes for itself and asks for votes.
    pub(super) fn campaign(&mut self, transfer: bool, out: &mut Vec<Output>) {
        let candidate = Candidate { pre: false, votes: BTreeMap::new() };
        self.leave_role(State::Candidate(candidate), out);
        self.term = Term(self.term.0 + 1);
        self.vote = Some(self.config.id);
        self.leader = None;
        self.contact = None;
        self.reset_election_timer();
        if self.election_at == self.now {
            self.election_at += self.config.election_timeout;
        }
        let after = self.vote_seq(out);
        let (last_index, last_term) = (self.log.last(), self.log.last_term());
        for voter in self.other_voters() {
            self.send(voter, after, Body::Vote { last_index, last_term, transfer }, out);
        }
    }

    fn other_voters(&self) -> Vec<NodeId> {
        self.members.current().voters().filter(|id| *id != self.config.id).collect()
    }

    /// The own vote counts like any other: when it cannot be forgotten any more.
    pub(super) fn count_own_vote(&mut self, out: &mut Vec<Output>) {
        let durable = self.disk.durable >= self.disk.vote_seq;
        let State::Candidate(candidate) = &self.state else { return };
        if durable && !candidate.pre {
            self.count_vote(self.config.id, true, out);
        }
    }

    fn count_vote(&mut self, from: NodeId, granted: bool, out: &mut Vec<Output>) {
        let id = self.config.id;
        let State::Candidate(candidate) = &mut self.state else { return };
        // An answer stands: a late refusal does not take back a vote.
        let vote = candidate.votes.entry(from).or_insert(granted);
        *vote |= granted;
        let votes = &candidate.votes;
        let result = tally(self.members.current().voters().map(|id| votes.get(&id).copied()));
        let own = votes.get(&id) == Some(&true);
        match (result, candidate.pre) {
            (Tally::Won, true) => self.campaign(false, out),
            // Without its own durable vote it could later vote for another in this term.
            (Tally::Won, false) if own => self.become_leader(out),
            (Tally::Lost, _) => self.give_up(out),
            _ => {}
        }
    }

    /// Lost: follows again, with the timer that is running.
    fn give_up(&mut self, out: &mut Vec<Output>) {
        let election_at = self.election_at;
        self.become_follower(self.term, out);
        self.election_at = election_at;
    }

    /// Answers a question about an election in the term after `term`.
    pub(super) fn on_pre_vote(
        &mut self,
        from: NodeId,
        term: Term,
        last_index: LogIndex,
        last_term: Term,
        out: &mut Vec<Output>,
    ) {
        let granted = term >= self.term
            && !self.hears_leader()
            && self.log.is_covered_by(last_index, last_term);
        self.send(from, Seq(0), Body::PreVoteReply { asked: term, granted }, out);
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        from: NodeId,
        asked: Term,
        granted: bool,
        out: &mut Vec<Output>,
    ) {
        let State::Candidate(candidate) = &self.state else { return };
        if candidate.pre && asked == self.term {
            self.count_vote(from, granted, out);
        }
    }

    /// A request for a vote in the current term.
    pub(super) fn on_vote(
        &mut self,
        from: NodeId,
        last_index: LogIndex,
        last_term: Term,
        out: &mut Vec<Output>,
    ) {
        let free = match self.vote {
            Some(vote) => vote == from,
            None => self.leader.is_none(),
        };
        let granted = free && self.log.is_covered_by(last_index, last_term);
        let mut after = Seq(0);
        if granted {
            if matches!(self.state, State::Candidate(_)) {
                // Asking for pre-votes in the same term: vote instead.
                self.become_follower(self.term, out);
            }
            self.vote = Some(from);
            self.reset_election_timer();
            after = self.vote_seq(out);
        }
        self.send(from, after, Body::VoteReply { granted }, out);
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool, out: &mut Vec<Output>) {
        let State::Candidate(candidate) = &self.state else { return };
        if !candidate.pre {
            self.count_vote(from, granted, out);
        }
    }

    /// The leader hands over: an election without pre-vote (contract 19).
    pub(super) fn on_timeout_now(&mut self, from: NodeId, out: &mut Vec<Output>) {
        if self.leader == Some(from) && !self.is_leader() && self.may_campaign() {
            self.campaign(true, out);
        }
    }
}
