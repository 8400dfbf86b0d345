//! Identities, positions and the entry: the words that every layer above the log shares.
//!
//! All of them outlive the process (log, snapshots, messages), so their encodings are fixed in
//! `docs/format.md`. Arithmetic on positions is explicit (`next`, `prev`), never on the bare number.

use std::fmt;

use bytes::Bytes;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A member of the cluster; what etcd calls a member id. 0 means "none" on the wire only.
    NodeId(u64)
}
number! {
    /// A group of consensus: one log, one set of members. The first group is 1.
    GroupId(u32)
}
number! {
    /// Raft's term (section 5.1); 0 before the first election.
    Term(u64)
}
number! {
    /// A position in a group's log; the first entry is 1, 0 is "before the first".
    LogIndex(u64)
}
number! {
    /// Position in the FIFO of things handed to the disk; 0 is "nothing to wait for".
    Seq(u64)
}
number! {
    /// Milliseconds of *group time*: what the log itself says the time is (architecture, contract 4).
    /// Starts at 0 with the group and never goes back; unrelated to any wall clock.
    GroupTime(u64)
}

impl LogIndex {
    /// The following position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The preceding position; 0 stays 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Who asked for a command: its identity from proposal to reply.
///
/// Every replica applies every command; the one whose `node` and `boot` match answers its client.
/// The leader uses (node, boot, seq) to refuse a forward that it has already appended in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node that the client is connected to.
    pub node: NodeId,
    /// That node's random boot number: a restarted node never takes an old reply for its own.
    pub boot: u64,
    /// Grows by at least one with each command of this boot.
    pub seq: u64,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry, and the carrier of group time while leases exist.
    Empty,
    /// A command of the state machine, opaque here.
    Command {
        /// Who is to be answered.
        origin: Origin,
        /// The command's bytes.
        data: Bytes,
    },
    /// A new membership, in force from the moment it is appended (contract 19).
    Membership {
        /// Who is to be answered.
        origin: Origin,
        /// The complete new membership.
        membership: Membership,
    },
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that appended it.
    pub term: Term,
    /// Position.
    pub index: LogIndex,
    /// Group time at which the leader appended it; never less than the entry before.
    pub time: GroupTime,
    /// The content.
    pub payload: Payload,
}

impl Entry {
    /// Bytes that this entry is counted as against every bound: its data and a fixed share.
    #[must_use]
    pub fn size(&self) -> usize {
        const FIXED: usize = 64;
        match &self.payload {
            Payload::Empty => FIXED,
            Payload::Command { data, .. } => FIXED + data.len(),
            Payload::Membership { membership, .. } => FIXED + membership.size(),
        }
    }
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity, never reused after removal.
    pub id: NodeId,
    /// A learner receives the log but neither votes nor counts.
    pub learner: bool,
    /// Opaque to consensus: names and addresses, encoded by `core/node`.
    pub context: Bytes,
}

/// All members of a group, sorted by id, and the ids that may never come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Voters and learners, sorted by id, ids unique.
    pub members: Vec<Member>,
    /// Removed ids, sorted: a removed member never rejoins under its old id.
    pub removed: Vec<NodeId>,
}

impl Membership {
    /// The member with this id.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.members.binary_search_by_key(&id, |m| m.id).ok().map(|at| &self.members[at])
    }

    /// Ids of the members that vote, in order.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|m| !m.learner).map(|m| m.id)
    }

    /// Whether `id` is a member that votes.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|m| !m.learner)
    }

    /// Voters needed for a decision: ⌊n/2⌋ + 1.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    fn size(&self) -> usize {
        self.members.iter().map(|m| 32 + m.context.len()).sum::<usize>() + self.removed.len() * 8
    }
}

/// What a node must never forget about a group (Raft, figure 2: persistent state), and the commit
/// index it knew, which saves work after a restart but is not needed for safety.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Whom this node voted for in `term`.
    pub vote: Option<NodeId>,
    /// Highest index known to be committed.
    pub commit: LogIndex,
}
