//! Looking at the machine without touching it, and checking that it agrees with itself.

use std::time::Duration;

use super::{Progress, Raft, State};
use crate::{GroupTime, LogIndex, LogStart, Membership, NodeId, Role, Term};

impl Raft {
    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.state {
            State::Follower(_) => Role::Follower,
            State::Candidate(candidate) if candidate.pre => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// Whether it believes to lead. Another may have been elected since.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader(_))
    }

    /// The latest term it has seen, perhaps not durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The leader of that term, if known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known to be committed.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// Highest index that the driver reported as applied.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Highest index durable here.
    #[must_use]
    pub fn persisted(&self) -> LogIndex {
        self.log.persisted()
    }

    /// The last entry's index, durable or not.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.log.last()
    }

    /// The term of the entry at `index`, if the log still knows.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The position before the log on disk, as of the last `Compact` or snapshot. Its time is exact
    /// when no entry follows, else a lower bound.
    #[must_use]
    pub fn log_start(&self) -> LogStart {
        self.log.disk_start()
    }

    /// The membership in force: the latest in the log, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.members.current()
    }

    /// Where the membership in force stands in the log.
    #[must_use]
    pub fn membership_index(&self) -> LogIndex {
        self.members.index()
    }

    /// Group time at `now`: on the leader the stamp that an entry would get; elsewhere the last stamp
    /// in the log, which stands still between entries.
    #[must_use]
    pub fn group_time(&self, now: Duration) -> GroupTime {
        match &self.state {
            State::Leader(leader) => leader.clock.time(now).max(self.last_stamp()),
            _ => self.last_stamp(),
        }
    }

    /// On the leader, what it knows of each peer; elsewhere nothing.
    pub fn progress(&self) -> impl Iterator<Item = (NodeId, &Progress)> + '_ {
        let progress = match &self.state {
            State::Leader(leader) => Some(&leader.progress),
            _ => None,
        };
        progress.into_iter().flatten().map(|(id, progress)| (*id, progress))
    }

    /// On the leader, how far `peer`'s log is known to match durably.
    #[must_use]
    pub fn match_index(&self, peer: NodeId) -> Option<LogIndex> {
        match &self.state {
            State::Leader(leader) => leader.progress.get(&peer).map(|progress| progress.matched),
            _ => None,
        }
    }

    /// On the leader, bytes appended and not committed.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> usize {
        match &self.state {
            State::Leader(leader) => leader.uncommitted_bytes,
            _ => 0,
        }
    }

    /// On the leader, to whom leadership is being transferred.
    #[must_use]
    pub fn transferring_to(&self) -> Option<NodeId> {
        match &self.state {
            State::Leader(leader) => leader.transfer.as_ref().map(|transfer| transfer.to),
            _ => None,
        }
    }

    /// When `step` wants to be called again if nothing else happens; `None`: only for inputs. Due at
    /// once before the first step.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.started {
            return Some(Duration::ZERO);
        }
        let waits = self.may_campaign() || self.leader.is_some();
        let election = waits.then_some(self.election_at);
        match &self.state {
            State::Leader(leader) => self.leader_deadline(leader),
            State::Candidate(_) => election,
            State::Follower(follower) => election.into_iter().chain(follower.read_deadline()).min(),
        }
    }

    /// Checks everything that holds between steps.
    ///
    /// # Panics
    /// When something does not: a bug, never bad input.
    pub fn invariants(&self) {
        self.log.invariants();
        assert!(self.applied <= self.handed && self.handed <= self.commit);
        assert!(self.handed <= self.log.persisted(), "only durable entries are applied");
        assert!(self.commit <= self.log.last());
        assert!(self.log.disk_start().index <= self.applied);
        assert!(self.term >= self.log.last_term());
        assert!(self.disk.durable <= self.disk.handed && self.disk.vote_seq <= self.disk.handed);
        assert!(self.disk.saved.term <= self.term);
        assert!(self.members.index() <= self.log.last());
        if let State::Leader(leader) = &self.state {
            self.leader_invariants(leader);
        }
    }

    fn leader_invariants(&self, leader: &super::Leader) {
        assert_eq!(self.leader, Some(self.config.id));
        assert_eq!(self.disk.saved.term, self.term, "a leader's term is durable");
        assert!(self.disk.vote_seq <= self.disk.durable, "a leader's term is durable");
        assert!(leader.progress.keys().copied().eq(self.peers()));
        leader.progress.values().for_each(|progress| progress.invariants(self.log.last()));
        let first = self.log.term_at(leader.first_index);
        assert!(first.is_none_or(|term| term == self.term));
        let bytes = self.log.bytes_between(self.commit.next(), self.log.last());
        assert_eq!(bytes, leader.uncommitted_bytes);
        leader.reads.invariants();
    }
}
