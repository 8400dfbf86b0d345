//! Which membership is in force, and which change may follow.
//!
//! A membership counts from the moment its entry is in the log, committed or not, and stops counting
//! when the entry is cut (contract 19). One change differs by one member, so any two consecutive
//! memberships have overlapping majorities (Ongaro's thesis, 4.1); the next change waits until the last
//! is applied, and for a commit in the leader's own term (the bug that Ongaro published in 2015).

use std::collections::VecDeque;

use crate::limits::{MAX_CONTEXT_BYTES, MAX_MEMBERS, MAX_REMOVED};
use crate::{Entry, LogIndex, Membership, NodeId, Payload, Refusal};

/// The memberships in the log: the last committed one, and all behind it.
#[derive(Debug)]
pub(super) struct Members {
    history: VecDeque<(LogIndex, Membership)>,
}

impl Members {
    /// Starts with the membership as of `index`.
    pub(super) fn new(index: LogIndex, membership: Membership) -> Self {
        Self { history: VecDeque::from([(index, membership)]) }
    }

    fn newest(&self) -> &(LogIndex, Membership) {
        self.history.back().expect("the base is never removed")
    }

    /// The membership in force.
    pub(super) fn current(&self) -> &Membership {
        &self.newest().1
    }

    /// Where it stands in the log.
    pub(super) fn index(&self) -> LogIndex {
        self.newest().0
    }

    /// Whether `id` alone decides.
    pub(super) fn is_sole_voter(&self, id: NodeId) -> bool {
        self.current().voters().eq([id])
    }

    /// Whether `id` votes in the last committed membership or in any behind it.
    pub(super) fn may_vote(&self, id: NodeId) -> bool {
        self.history.iter().any(|(_, membership)| membership.is_voter(id))
    }

    /// Takes note of an appended entry; says whether the membership changed.
    pub(super) fn appended(&mut self, entry: &Entry) -> bool {
        let Payload::Membership { membership, .. } = &entry.payload else { return false };
        self.history.push_back((entry.index, membership.clone()));
        true
    }

    /// Entries from `from` on were cut.
    pub(super) fn truncated(&mut self, from: LogIndex) {
        while self.history.len() > 1 && self.index() >= from {
            self.history.pop_back();
        }
        assert!(self.index() < from || from.0 == 0, "a committed membership was cut");
    }

    /// Everything up to `index` is committed: older memberships can never return.
    pub(super) fn committed(&mut self, index: LogIndex) {
        while self.history.get(1).is_some_and(|(at, _)| *at <= index) {
            self.history.pop_front();
        }
    }

    /// A snapshot replaced everything up to `index`; `keep` says whether the log behind it stays.
    pub(super) fn installed(&mut self, index: LogIndex, membership: Membership, keep: bool) {
        self.history.retain(|(at, _)| keep && *at > index);
        self.history.push_front((index, membership));
    }
}

/// Checks a membership by itself: sorted, unique, within bounds, with a voter, without removed ids.
pub(super) fn is_well_formed(membership: &Membership) -> bool {
    let members = &membership.members;
    let removed = &membership.removed;
    members.len() <= MAX_MEMBERS
        && removed.len() <= MAX_REMOVED
        && membership.voters().next().is_some()
        && members.iter().all(|m| m.id.0 != 0 && m.context.len() <= MAX_CONTEXT_BYTES)
        && members.windows(2).all(|pair| pair[0].id < pair[1].id)
        && removed.windows(2).all(|pair| pair[0] < pair[1])
        && members.iter().all(|m| removed.binary_search(&m.id).is_err())
}

/// Whether `new` follows from `old` by one step: one member added, removed, promoted or with a new
/// context. A removed id must be recorded as removed; a voter is never made a learner.
pub(super) fn check_change(old: &Membership, new: &Membership) -> Result<(), Refusal> {
    if !is_well_formed(new) {
        return Err(Refusal::InvalidChange);
    }
    let added = new.members.iter().filter(|m| old.get(m.id).is_none()).count();
    let gone: Vec<NodeId> =
        old.members.iter().map(|m| m.id).filter(|id| new.get(*id).is_none()).collect();
    let changed = new.members.iter().filter(|m| old.get(m.id).is_some_and(|o| o != *m)).count();
    let demoted = new.members.iter().any(|m| m.learner && old.is_voter(m.id));
    let mut removed = old.removed.clone();
    removed.extend(&gone);
    removed.sort_unstable();
    if added + gone.len() + changed == 1 && !demoted && removed == new.removed {
        Ok(())
    } else {
        Err(Refusal::InvalidChange)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Member;

    fn members(voters: &[u64], learners: &[u64], removed: &[u64]) -> Membership {
        let member =
            |learner| move |id: &u64| Member { id: NodeId(*id), learner, context: Bytes::new() };
        let mut members: Vec<Member> = voters.iter().map(member(false)).collect();
        members.extend(learners.iter().map(member(true)));
        members.sort_by_key(|m| m.id);
        Membership { members, removed: removed.iter().copied().map(NodeId).collect() }
    }

    #[test]
    fn one_step_at_a_time() {
        let old = members(&[1, 2, 3], &[4], &[9]);
        let allowed = [
            members(&[1, 2, 3, 4], &[], &[9]),
            members(&[1, 2, 3], &[4, 5], &[9]),
            members(&[1, 2, 3, 5], &[4], &[9]),
            members(&[1, 2, 3], &[], &[4, 9]),
            members(&[2, 3], &[4], &[1, 9]),
        ];
        for new in &allowed {
            assert_eq!(check_change(&old, new), Ok(()), "{new:?}");
        }
        let forbidden = [
            old.clone(),
            members(&[1, 2, 3], &[], &[9]),
            members(&[1, 2, 3], &[4], &[]),
            members(&[1, 2, 3, 9], &[4], &[9]),
            members(&[1, 2, 3, 9], &[4], &[]),
            members(&[1, 2], &[3, 4], &[9]),
            members(&[2, 3, 5], &[4], &[1, 9]),
            members(&[], &[4], &[1, 2, 3, 9]),
            members(&[1, 2, 3, 0], &[4], &[9]),
            members(&[1, 2, 3], &[4], &[8, 9]),
        ];
        for new in &forbidden {
            assert_eq!(check_change(&old, new), Err(Refusal::InvalidChange), "{new:?}");
        }
    }

    #[test]
    fn a_new_context_is_one_step() {
        let old = members(&[1, 2], &[], &[]);
        let mut new = old.clone();
        new.members[1].context = Bytes::from_static(b"moved");
        assert_eq!(check_change(&old, &new), Ok(()));
        new.members[0].context = Bytes::from_static(b"moved too");
        assert_eq!(check_change(&old, &new), Err(Refusal::InvalidChange));
    }
}
