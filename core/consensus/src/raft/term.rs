//! Terms and roles (5.1): who is newer wins, who is older is told, and what waited for the old role is
//! refused.

use std::time::Duration;

use super::follower::Follower;
use super::{Raft, State, clock};
use crate::{Body, NodeId, Output, Seq, Term};

impl Raft {
    /// Terms (5.1): adopts a higher one, answers a lower one with its own. Says whether the message is
    /// still of interest.
    pub(super) fn settle_term(
        &mut self,
        from: NodeId,
        term: Term,
        body: &Body,
        out: &mut Vec<Output>,
    ) -> bool {
        if term > self.term {
            match body {
                // Asking changes nothing.
                Body::PreVote { .. } => return true,
                // A live leader is protected from those who cannot hear it (thesis, 4.2.3).
                Body::Vote { transfer: false, .. } if self.hears_leader() => return false,
                _ => self.become_follower(term, out),
            }
            return true;
        }
        if term == self.term {
            return true;
        }
        match body {
            Body::PreVote { .. } | Body::PreVoteReply { .. } => return true,
            Body::Vote { .. } => self.send(from, Seq(0), Body::VoteReply { granted: false }, out),
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::TimeoutNow
            | Body::Forward { .. }
            | Body::ReadRequest { .. } => self.send(from, Seq(0), Body::NewerTerm, out),
            // Late answers to what this node said in an older term.
            _ => {}
        }
        false
    }

    /// Whether a leader of this term was heard within an election timeout (or is this node).
    pub(super) fn hears_leader(&self) -> bool {
        if matches!(self.state, State::Leader(_)) {
            return true;
        }
        let timeout = self.config.election_timeout;
        self.leader.is_some() && self.contact.is_some_and(|at| self.now < at + timeout)
    }

    /// Drops what the present role was doing and follows, in `term`, a leader yet unknown.
    pub(super) fn become_follower(&mut self, term: Term, out: &mut Vec<Output>) {
        assert!(term >= self.term, "terms never go back");
        let was_follower = matches!(self.state, State::Follower(_));
        self.leave_role(State::Follower(Follower::default()), out);
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.leader = None;
        self.contact = None;
        // A follower's patience is not renewed by a term alone, only by a leader or a granted vote.
        if !was_follower {
            self.reset_election_timer();
        }
    }

    /// Changes the state and refuses everything that waited for the old one.
    pub(super) fn leave_role(&mut self, next: State, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.state, next) {
            State::Follower(follower) => follower.abandon(out),
            State::Candidate(_) => {}
            State::Leader(leader) => leader.reads.abandon(out),
        }
    }

    pub(super) fn reset_election_timer(&mut self) {
        let wait = if self.members.is_sole_voter(self.config.id) {
            Duration::ZERO
        } else {
            clock::timeout(&mut self.rng, self.config.election_timeout)
        };
        self.election_at = self.now + wait;
    }
}
