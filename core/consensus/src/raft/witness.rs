//! What members have seen of each other's promises, and whether those are kept (contract 8).
//!
//! A member that comes back with an old copy of its disk has forgotten entries that it acknowledged and votes
//! that it gave. By its old name it could help to elect a leader without those entries, or vote twice in
//! a term. So each member remembers what it saw of the others, tells them when they meet, and whoever
//! finds that it has forgotten something of that goes no further.
//!
//! Only what holds **for ever** is remembered; then no order of messages, crashes and restarts can make a
//! true statement false, and nobody is ever refused wrongly:
//!
//! - *Entries:* what the peer acknowledged **and** the leader knows to be committed, `min(matched, commit)`.
//!   An acknowledged entry that is not committed may be cut by a later leader; a committed one stays in
//!   the log of everybody who holds it, or in the state that took its place (leader completeness, 5.4).
//! - *Votes:* a vote that was granted, a candidacy or a leadership that was announced: all of them leave only when
//!   the term and the vote are durable (contract 2). Afterwards the term grows, or the vote stands.
//!
//! Left out: what a leader itself held in its own term. It acknowledges that to nobody.

use std::fmt;

use super::Raft;
use crate::{Body, LogIndex, Message, NodeId, Term};

/// What one member has seen another promise, of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Last position that the other holds durably and that is committed; 0 = none.
    pub index: LogIndex,
    /// Its term.
    pub index_term: Term,
    /// The last term in which the other is known to have voted; 0 = none.
    pub vote_term: Term,
    /// For whom; 0 = none.
    pub vote: NodeId,
}

/// What a member has forgotten although another saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// A committed entry that it had acknowledged.
    Entry {
        /// Its position.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// A vote.
    Vote {
        /// Its term.
        term: Term,
    },
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { index, term } => write!(f, "entry {index} of term {term}"),
            Self::Vote { term } => write!(f, "its vote in term {term}"),
        }
    }
}

impl Witness {
    /// What both say. Committed positions are one line, and a term has one vote of a member, so the later of
    /// two holds with the earlier.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (entry, vote) = (
            if other.index > self.index { other } else { self },
            if other.vote_term > self.vote_term { other } else { self },
        );
        Self {
            index: entry.index,
            index_term: entry.index_term,
            vote_term: vote.vote_term,
            vote: vote.vote,
        }
    }

    /// What a message says about its sender's vote; nothing if it promises none. `to` received it.
    #[must_use]
    pub fn of_message(from: NodeId, to: NodeId, message: &Message) -> Self {
        let vote = match &message.body {
            Body::VoteReply { granted: true } => to,
            Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::TimeoutNow => from,
            _ => return Self::default(),
        };
        Self { vote_term: message.term, vote, ..Self::default() }
    }
}

impl Raft {
    /// On the leader, what `peer` holds durably of what is committed; elsewhere, and of strangers, nothing.
    #[must_use]
    pub fn witnessed(&self, peer: NodeId) -> Witness {
        let index = self.match_index(peer).unwrap_or_default().min(self.commit);
        let Some(index_term) = self.log.term_at(index) else { return Witness::default() };
        Witness { index, index_term, ..Witness::default() }
    }

    /// What this member has lost of what another saw of it; `None`: nothing. What it says of a member whose
    /// disk keeps what it confirms is always `None`, however old `seen` is.
    #[must_use]
    pub fn forgotten(&self, seen: &Witness) -> Option<Forgotten> {
        let Witness { index, index_term, vote_term, vote } = *seen;
        // Of what is committed there is only one version, even where its terms are forgotten.
        let holds = self.log.term_at(index).map_or(index <= self.commit, |term| term == index_term);
        if !holds {
            return Some(Forgotten::Entry { index, term: index_term });
        }
        let voted = self.term > vote_term || self.term == vote_term && self.vote == Some(vote);
        let never = vote_term == Term(0);
        (!never && !voted).then_some(Forgotten::Vote { term: vote_term })
    }
}
