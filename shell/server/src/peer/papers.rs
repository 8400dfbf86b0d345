//! What one side of a handshake shows of itself and says of the other.
//!
//! | offset | group record | bytes |
//! |---|---|---|
//! | 0 | group | 4 |
//! | 4 | index and term where the speaker's log ends, durably | 8, 8 |
//! | 20 | index and term of the last committed entry that the other side acknowledged to the speaker; 0: none | 8, 8 |
//! | 36 | last term in which the speaker knows the other side to have voted, and for whom; 0: none | 8, 8 |

use bytes::{Buf, BufMut};
use quorate_consensus::{GroupId, LogIndex, NodeId, Raft, Term, Witness};

/// A group record, in bytes.
pub(super) const GROUP_BYTES: usize = 52;

/// Where a log ends, durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The last index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
}

impl LogEnd {
    /// Of this log.
    #[must_use]
    pub fn of(raft: &Raft) -> Self {
        let index = raft.persisted();
        Self { index, term: raft.term_at(index).unwrap_or_default() }
    }
}

/// What one side says about one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupPapers {
    pub(super) group: GroupId,
    /// Where its own log ends.
    pub(super) end: LogEnd,
    /// What it has seen of the other side.
    pub(super) seen: Witness,
}

/// What one side shows of itself and says of the other. Empty in a question, and to strangers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Papers {
    /// Its own data directory; 0: it does not say.
    pub(super) directory: u64,
    /// The other side's, as it knows it; 0: not yet.
    pub(super) yours: u64,
    /// At most 255.
    pub(super) groups: Vec<GroupPapers>,
}

impl Papers {
    /// What they say of this group.
    pub(super) fn group(&self, group: GroupId) -> Option<&GroupPapers> {
        self.groups.iter().find(|papers| papers.group == group)
    }

    /// How many group records they have.
    pub(super) fn count(&self) -> u8 {
        u8::try_from(self.groups.len()).expect("there is one group until placement is built")
    }

    /// Appends the directories and the group records.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.put_u64_le(self.directory);
        bytes.put_u64_le(self.yours);
        for GroupPapers { group, end, seen } in &self.groups {
            bytes.put_u32_le(group.0);
            for number in [end.index.0, end.term.0, seen.index.0, seen.index_term.0] {
                bytes.put_u64_le(number);
            }
            bytes.put_u64_le(seen.vote_term.0);
            bytes.put_u64_le(seen.vote.0);
        }
    }

    /// Of `bytes` that hold the directories and `groups` records.
    pub(super) fn decode(mut bytes: &[u8], groups: u8) -> Self {
        let (directory, yours) = (bytes.get_u64_le(), bytes.get_u64_le());
        let group = |_| GroupPapers {
            group: GroupId(bytes.get_u32_le()),
            end: LogEnd { index: LogIndex(bytes.get_u64_le()), term: Term(bytes.get_u64_le()) },
            seen: Witness {
                index: LogIndex(bytes.get_u64_le()),
                index_term: Term(bytes.get_u64_le()),
                vote_term: Term(bytes.get_u64_le()),
                vote: NodeId(bytes.get_u64_le()),
            },
        };
        Self { directory, yours, groups: (0..groups).map(group).collect() }
    }
}
