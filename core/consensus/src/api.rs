//! What goes into a consensus machine and what comes out: the contract that Raft fills now and a
//! second protocol can fill later.
//!
//! The driver (`core/node`) calls `step(now, input, &mut out)` and carries out the outputs:
//!
//! 1. `Persist` goes to the log's writer, in order. Several may be under way; `Input::Persisted`
//!    is cumulative.
//! 2. `Send` may leave once everything up to its `after` is persisted (0 = at once).
//! 3. `Apply` hands over entries that are committed **and** persisted here, in log order, each once.
//! 4. Proposals and appends are gathered: the driver ends each burst of inputs with `Input::Flush`,
//!    and only then are entries handed to the disk and to the followers.

use bytes::Bytes;

use crate::{Entry, HardState, LogIndex, Membership, Message, NodeId, Origin, Payload, Seq, Term};

/// What the driver tells the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message of a peer, already checked for cluster and group.
    Message {
        /// The sender, as proved by the connection.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// Append this (a leader) or forward it to the leader (anyone else). Answered by `Apply` of an
    /// entry with this origin, or by `Refused`, or never: then the outcome is unknown.
    Propose {
        /// Who is to be answered.
        origin: Origin,
        /// The command.
        data: Bytes,
    },
    /// Append an empty entry that carries the group time (leader only; ignored otherwise).
    ProposeTime,
    /// Change the membership by one member. Refused unless this is the leader, has committed in its
    /// term, and no other change is unapplied (contract 19).
    ChangeMembership {
        /// Who is to be answered.
        origin: Origin,
        /// The complete new membership.
        membership: Membership,
    },
    /// Ask for a read barrier; answered by `ReadReady` or `ReadRefused` with this id.
    Read {
        /// Chosen by the driver, unique among its outstanding reads.
        id: u64,
    },
    /// Everything up to `seq` is durable.
    Persisted {
        /// The last durable `Persist`.
        seq: Seq,
    },
    /// The state machine has applied up to `index`.
    Applied {
        /// The last applied position.
        index: LogIndex,
    },
    /// The engine's durable checkpoint contains everything up to `index`: the log before it may go.
    Compact {
        /// The last position that is no longer needed for recovery.
        index: LogIndex,
    },
    /// Entries asked for by `ReadLog`.
    LogRead {
        /// For whom.
        to: NodeId,
        /// Consecutive entries from where `ReadLog` said; empty: they are gone from the log.
        entries: Vec<Entry>,
    },
    /// A snapshot has been installed here: log and state now start after `index`.
    SnapshotInstalled {
        /// Last position that the snapshot contains.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// Its group time.
        time: crate::GroupTime,
        /// The membership as of `index`.
        membership: Membership,
    },
    /// How sending a snapshot to a peer ended.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// `Some(index)` when the peer says it installed up to there; `None` when it failed.
        installed: Option<LogIndex>,
    },
    /// The connection to this peer broke: what was in flight may be lost.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Hand leadership to this voter (leader only).
    TransferLeadership {
        /// The successor.
        to: NodeId,
    },
    /// End of a burst of inputs: hand over what was gathered.
    Flush,
    /// Nothing happened but time.
    Tick,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this durable, after everything handed over before.
    Persist(Persist),
    /// Send to a peer once `after` is durable here.
    Send {
        /// The peer.
        to: NodeId,
        /// What must be durable first; 0 = nothing.
        after: Seq,
        /// The message.
        message: Message,
    },
    /// These are committed and durable here; apply them in order, each once.
    Apply {
        /// Consecutive entries.
        entries: Vec<Entry>,
    },
    /// The barrier with this id stands: a state with `applied >= index` is linearizable.
    ReadReady {
        /// The id of `Input::Read`.
        id: u64,
        /// What must have been applied.
        index: LogIndex,
    },
    /// The barrier could not be had; nothing was read. Safe to retry.
    ReadRefused {
        /// The id of `Input::Read`.
        id: u64,
        /// Why.
        reason: Refusal,
    },
    /// The proposal was not and will not be appended by this machine. Safe to retry.
    Refused {
        /// The origin of the proposal.
        origin: Origin,
        /// Why.
        reason: Refusal,
    },
    /// Role, term or known leader changed.
    Role(RoleChange),
    /// Read entries `[from, to)` (at most `max_bytes`, at least one) from the log on disk.
    ReadLog {
        /// For which peer.
        to: NodeId,
        /// First position wanted.
        from: LogIndex,
        /// Position after the last wanted.
        until: LogIndex,
        /// Bound on the answer.
        max_bytes: usize,
    },
    /// This peer needs entries that are gone: send it a snapshot of the applied state.
    SendSnapshot {
        /// The peer.
        to: NodeId,
    },
}

/// One durable step of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Its place in the FIFO.
    pub seq: Seq,
    /// Term, vote, commit, if they changed.
    pub hard_state: Option<HardState>,
    /// Consecutive entries. If the first is not after the log's last, everything from its index on
    /// is cut first: a later entry at an index replaces the earlier one and all behind it.
    pub entries: Vec<Entry>,
}

/// What this machine believes about its place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
}

/// Raft's roles, and the learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows, or looks for, a leader.
    Follower,
    /// Asks whether an election could succeed (pre-vote; Ongaro's thesis, 9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a proposal, a read or a change was refused. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No leader is known. Retry later.
    #[error("no leader")]
    NoLeader,
    /// The leader changed before this was appended or confirmed. Retry.
    #[error("leader changed")]
    LeaderChanged,
    /// Leadership is being handed over. Retry later.
    #[error("leadership is being transferred")]
    Transferring,
    /// Too many bytes are appended but not committed. Retry later.
    #[error("too many uncommitted proposals")]
    Overloaded,
    /// Only the leader does this.
    #[error("not leader")]
    NotLeader,
    /// Another membership change is not applied yet, or the leader has not committed in its term.
    #[error("a membership change is under way")]
    ChangePending,
    /// The new membership differs by more than one member, or has no voter, or is malformed.
    #[error("invalid membership change")]
    InvalidChange,
}

/// What recovery found for a group: the machine's whole starting point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Position before the first entry in the log (what the engine's checkpoint or the snapshot
    /// contains), its term and its group time.
    pub start: LogStart,
    /// The membership as of `start`.
    pub membership: Membership,
    /// All entries after `start`.
    pub entries: Vec<Entry>,
    /// The engine's applied index; `start.index <= applied <= last index`.
    pub applied: LogIndex,
}

/// The position before the first entry of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// Its index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Its group time.
    pub time: crate::GroupTime,
}

/// Ready-made payload for the log of a fresh group, so that every member starts from equal bytes.
#[must_use]
pub fn first_entries(membership: Membership) -> Vec<Entry> {
    vec![Entry {
        term: Term(1),
        index: LogIndex(1),
        time: crate::GroupTime(0),
        payload: Payload::Membership { origin: Origin::default(), membership },
    }]
}
