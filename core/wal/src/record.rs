//! What the log says: identities and records.

use std::fmt;

use quorate_consensus::{
    Entry, GroupId, GroupTime, HardState, LogIndex, LogStart, Membership, NodeId, Persist, Term,
};

/// Identity of a cluster, the same on all of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Whose log this is; stands in the header of every sync group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// Which directory of a group's engine is in force; each installed snapshot takes the next
/// (contract 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One durable fact about a group of consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry at the end of the group's log, or one that replaces an entry there and cuts off
    /// all behind it.
    Entry {
        /// The group.
        group: GroupId,
        /// The entry.
        entry: Entry,
    },
    /// Term, vote and commit index from here on.
    HardState {
        /// The group.
        group: GroupId,
        /// Their values.
        hard_state: HardState,
    },
    /// The entries up to `start` may go: the engine's durable checkpoint contains them.
    Release {
        /// The group.
        group: GroupId,
        /// The new beginning of the log.
        start: LogStart,
        /// The membership as of `start`.
        membership: Membership,
        /// The engine directory that contains them.
        generation: Generation,
        /// How far that engine's durable checkpoint goes, at least `start.index`.
        applied: LogIndex,
    },
    /// The commit point of an installed snapshot: the whole log is replaced by it.
    Installed {
        /// The group.
        group: GroupId,
        /// Last position that the snapshot contains, with its term and time.
        start: LogStart,
        /// The membership as of `start`.
        membership: Membership,
        /// The engine directory that holds it.
        generation: Generation,
    },
}

impl Record {
    /// The group that it is about.
    #[must_use]
    pub fn group(&self) -> GroupId {
        match self {
            Self::Entry { group, .. }
            | Self::HardState { group, .. }
            | Self::Release { group, .. }
            | Self::Installed { group, .. } => *group,
        }
    }

    /// Bytes that it takes in the log, padding aside.
    #[must_use]
    pub fn size(&self) -> usize {
        crate::frame::framed_len(self)
    }

    /// Appends the records of one `Persist` to `records`: the entries first, then term, vote and
    /// commit. A torn write may cut between them, and then no commit index may survive the entries
    /// that it speaks of. (An entry may survive its term: see [`crate::RecoveredGroup`].)
    pub fn push_persist(group: GroupId, persist: Persist, records: &mut Vec<Self>) {
        records.extend(persist.entries.into_iter().map(|entry| Self::Entry { group, entry }));
        if let Some(hard_state) = persist.hard_state {
            records.push(Self::HardState { group, hard_state });
        }
    }
}

/// Everything that a log knows about one group, except its entries: what each segment opens with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// The position before the first entry.
    pub start: LogStart,
    /// The membership as of `start`.
    pub membership: Membership,
    /// The engine directory in force.
    pub generation: Generation,
    /// What the last `Release` or `Installed` said about the engine.
    pub applied: LogIndex,
    /// Position of the last entry, or `start.index`. Recovery checks that it finds them all.
    pub last: LogIndex,
    /// Term of the last entry, or `start.term`.
    pub last_term: Term,
    /// Group time of the last entry, or `start.time`.
    pub last_time: GroupTime,
}

/// First record of a segment: where the log came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Segment that the log continues from, or `None` for the first.
    pub predecessor: Option<Predecessor>,
    /// How many checkpoints follow.
    pub checkpoints: u32,
}

/// Where a segment's predecessor ends. Bytes behind that are never read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// The segment.
    pub segment: crate::SegmentId,
    /// Number of its last good sync group.
    pub last_group: u64,
    /// Offset just behind that group, in bytes.
    pub end: u64,
}
