//! What the members of a group say to each other.
//!
//! A message carries its group and its sender's term; sender and receiver are proved by the
//! connection and are not repeated. Every message may be lost, doubled, delayed or reordered.

use bytes::Bytes;

use crate::{Entry, GroupId, LogIndex, Origin, Refusal, Term};

/// A message between two members of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The group.
    pub group: GroupId,
    /// The sender's term. For `Forward` and `ReadRequest` this is the term of the leader addressed.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Would you vote for me in the term after mine?" Changes nothing at either end.
    PreVote {
        /// The sender's last index.
        last_index: LogIndex,
        /// Its term.
        last_term: Term,
    },
    /// Answer to `PreVote`; the message's term is the voter's own.
    PreVoteReply {
        /// The pre-candidate's term in the question: tells answers to an older question apart.
        asked: Term,
        /// Whether the voter would.
        granted: bool,
    },
    /// RequestVote (Raft, section 5.2), in the candidate's new term.
    Vote {
        /// The candidate's last index.
        last_index: LogIndex,
        /// Its term.
        last_term: Term,
        /// The leader asked for this election: voters do not protect it.
        transfer: bool,
    },
    /// Answer to `Vote`; a granted one leaves only after the vote is durable.
    VoteReply {
        /// Whether the sender voted for the receiver in the message's term.
        granted: bool,
    },
    /// AppendEntries (section 5.3). Without entries it asks whether the log matches at `prev_index`.
    Append {
        /// Position before the first entry.
        prev_index: LogIndex,
        /// Its term.
        prev_term: Term,
        /// The leader's commit index.
        commit: LogIndex,
        /// Consecutive entries from `prev_index + 1`.
        entries: Vec<Entry>,
    },
    /// The sender's log equals the leader's up to `last`, durably.
    Accepted {
        /// Last position known to match.
        last: LogIndex,
    },
    /// The sender's log does not match at `prev_index`.
    Rejected {
        /// The `prev_index` that was refused.
        prev_index: LogIndex,
        /// The last position that may still match.
        hint_index: LogIndex,
        /// Its term in the sender's log.
        hint_term: Term,
    },
    /// "I still lead"; asks for an answer.
    Heartbeat {
        /// Committed and known to be in the receiver's log.
        commit: LogIndex,
        /// The latest confirmation round of reads; 0 before the first.
        round: u64,
    },
    /// Answer to `Heartbeat`: the sender knew of no higher term when it saw that round.
    HeartbeatReply {
        /// The round of the heartbeat.
        round: u64,
    },
    /// News of commitment between heartbeats; not answered.
    Commit {
        /// Committed and known to be in the receiver's log.
        commit: LogIndex,
    },
    /// Start an election now (leadership transfer; Ongaro's thesis, 3.10).
    TimeoutNow,
    /// Proposals for the leader of exactly the message's term.
    Forward {
        /// Origins, each of the sender and ascending, with their commands.
        proposals: Vec<(Origin, Bytes)>,
    },
    /// The leader of the message's term has not appended these and never will.
    ForwardRefused {
        /// The proposals.
        origins: Vec<Origin>,
        /// Why.
        reason: Refusal,
    },
    /// Asks the leader of the message's term for a read barrier.
    ReadRequest {
        /// Names the request among all of the sender, earlier boots included.
        context: u64,
    },
    /// Answer to `ReadRequest`.
    ReadReply {
        /// The request.
        context: u64,
        /// The barrier, or why there is none.
        result: Result<LogIndex, Refusal>,
    },
    /// "Your message was of an older term than mine."
    NewerTerm,
}
