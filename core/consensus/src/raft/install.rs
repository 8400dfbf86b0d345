//! The log's head: what recovery found, what the engine's checkpoint made superfluous, and snapshots
//! that take the place of entries.

use super::membership::is_well_formed;
use super::{Halt, Raft, State};
use crate::{Entry, HardState, LogIndex, LogStart, Membership, Output, Recovered};

/// Checks what recovery found before anything is built on it.
pub(super) fn check_recovered(recovered: &Recovered) -> Result<(), Halt> {
    let Recovered { hard_state, start, membership, entries, applied } = recovered;
    if *membership != Membership::default() && !is_well_formed(membership) {
        return Err(Halt::Recovery("malformed membership"));
    }
    if !are_consecutive(start, entries) {
        return Err(Halt::Recovery("entries are not consecutive, or term or time falls"));
    }
    let last = entries.last().map_or((start.index, start.term), |entry| (entry.index, entry.term));
    if *applied < start.index || *applied > last.0 {
        return Err(Halt::Recovery("the engine's applied index lies outside the log"));
    }
    if hard_state.commit > last.0 {
        return Err(Halt::Recovery("committed entries are missing at the log's end"));
    }
    // Only the ready-made log of a fresh group has entries before anybody recorded a term. (A snapshot
    // may be of a later term than the recorded one.)
    let fresh = *hard_state == HardState::default() && last.0 <= LogIndex(1);
    if !entries.is_empty() && hard_state.term < last.1 && !fresh {
        return Err(Halt::Recovery("the log holds a later term than the recorded one"));
    }
    Ok(())
}

/// Whether `entries` continue a log that ends at `start`, terms and times never falling.
pub(super) fn are_consecutive(start: &LogStart, entries: &[Entry]) -> bool {
    let mut end = *start;
    entries.iter().all(|entry| {
        let fits =
            entry.index == end.index.next() && entry.term >= end.term && entry.time >= end.time;
        end = LogStart { index: entry.index, term: entry.term, time: entry.time };
        fits
    })
}

impl Raft {
    pub(super) fn on_applied(&mut self, index: LogIndex) -> Result<(), Halt> {
        if index > self.handed {
            return Err(Halt::ImpossibleIndex { index, bound: self.handed });
        }
        self.applied = self.applied.max(index);
        self.evict();
        Ok(())
    }

    pub(super) fn on_compact(&mut self, index: LogIndex) -> Result<(), Halt> {
        if index > self.applied {
            return Err(Halt::ImpossibleIndex { index, bound: self.applied });
        }
        self.log.compact(index);
        Ok(())
    }

    /// Whether a snapshot as of (`index`, `term`) would bring this node forward. The driver asks before
    /// it accepts one and again before its commit point.
    #[must_use]
    pub fn wants_snapshot(&self, index: LogIndex, term: crate::Term) -> bool {
        index > self.commit && self.log.term_at(index) != Some(term)
    }

    /// The state is now that of `start`. Entries behind it are kept only if the log agreed with the
    /// snapshot there, and go to the disk again with the next flush.
    pub(super) fn on_installed(
        &mut self,
        start: LogStart,
        membership: Membership,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        if start.index < self.handed {
            return Err(Halt::ImpossibleIndex { index: start.index, bound: self.handed });
        }
        if !is_well_formed(&membership) {
            return Err(Halt::Recovery("the snapshot's membership is malformed"));
        }
        let agrees = self.log.term_at(start.index) == Some(start.term);
        if !agrees && start.index <= self.commit {
            return Err(Halt::CommittedConflict {
                index: start.index,
                leader: self.leader.unwrap_or_default(),
                term: start.term,
            });
        }
        if start.term > self.term || !matches!(self.state, State::Follower(_)) {
            self.become_follower(self.term.max(start.term), out);
        }
        self.log.install(start);
        self.members.installed(start.index, membership, agrees);
        self.handed = start.index;
        self.applied = start.index;
        self.raise_commit(start.index);
        self.snapshot_acknowledged(start.index);
        Ok(())
    }
}
