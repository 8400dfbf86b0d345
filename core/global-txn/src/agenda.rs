//! The near part of the due index in memory: what waits for its time.
//!
//! Invariant: every transaction whose entry in the index lies within the *horizon*, and that the driver is
//! not working on, is here. Changes of records keep it true; a read of the index moves the horizon on; when there
//! is no more room it moves back. What lies behind the horizon is not here.

use std::collections::{BTreeMap, BTreeSet};

use crate::gid::GlobalTxnId;

/// A place in the due index: a time, and the last gid of that time that is meant; `None`: all of them.
pub(crate) type Horizon = (u64, Option<GlobalTxnId>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Agenda {
    by_time: BTreeSet<(u64, GlobalTxnId)>,
    due_of: BTreeMap<GlobalTxnId, u64>,
    horizon: Option<Horizon>,
    room: usize,
}

impl Agenda {
    /// Nothing is known.
    pub(crate) fn new(room: usize) -> Self {
        Self { by_time: BTreeSet::new(), due_of: BTreeMap::new(), horizon: None, room }
    }

    pub(crate) fn horizon(&self) -> Option<&Horizon> {
        self.horizon.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether so many more find room, so that none of them is read in vain.
    pub(crate) fn has_room_for(&self, more: usize) -> bool {
        self.len() + more <= self.room
    }

    /// Everything up to here has been noted.
    pub(crate) fn reach(&mut self, horizon: Horizon) {
        self.horizon = Some(horizon);
        self.shrink();
    }

    /// A transaction waits until this time.
    pub(crate) fn note(&mut self, gid: &GlobalTxnId, due_ms: u64) {
        self.forget(gid);
        let within = self.horizon.as_ref().is_some_and(|(ms, last)| {
            due_ms < *ms || due_ms == *ms && last.as_ref().is_none_or(|last| gid <= last)
        });
        if within {
            self.insert(gid, due_ms);
            self.shrink();
        }
    }

    /// The same, of an entry that a read of the index brought: the horizon follows.
    pub(crate) fn read(&mut self, gid: &GlobalTxnId, due_ms: u64) {
        self.forget(gid);
        self.insert(gid, due_ms);
    }

    /// A transaction waits no longer.
    pub(crate) fn forget(&mut self, gid: &GlobalTxnId) {
        if let Some(ms) = self.due_of.remove(gid) {
            self.by_time.remove(&(ms, gid.clone()));
        }
    }

    /// The earliest time that something waits for.
    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(ms, _)| *ms)
    }

    /// Takes out the next one whose time has come.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<GlobalTxnId> {
        self.first_ms().filter(|ms| *ms <= now_ms)?;
        let (_, gid) = self.by_time.pop_first()?;
        self.due_of.remove(&gid);
        Some(gid)
    }

    fn insert(&mut self, gid: &GlobalTxnId, due_ms: u64) {
        self.by_time.insert((due_ms, gid.clone()));
        self.due_of.insert(gid.clone(), due_ms);
    }

    /// What has no room is forgotten, latest first, and the horizon goes back before it.
    fn shrink(&mut self) {
        while self.by_time.len() > self.room {
            let Some((_, gid)) = self.by_time.pop_last() else { return };
            self.due_of.remove(&gid);
            self.horizon = self.by_time.last().map(|(ms, gid)| (*ms, Some(gid.clone())));
        }
    }

    pub(crate) fn invariants(&self) {
        assert_eq!(self.by_time.len(), self.due_of.len(), "one entry a transaction");
        assert!(self.by_time.len() <= self.room, "the agenda has grown over its room");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(text: &str) -> GlobalTxnId {
        GlobalTxnId::parse(text).unwrap()
    }

    #[test]
    fn only_what_lies_within_the_horizon_is_kept() {
        let mut agenda = Agenda::new(9);
        agenda.note(&gid("a"), 1);
        assert_eq!(agenda.len(), 0, "nothing is known of the index yet");
        agenda.reach((10, Some(gid("m"))));
        for (text, ms) in [("a", 9), ("b", 10), ("z", 10), ("c", 11)] {
            agenda.note(&gid(text), ms);
        }
        assert_eq!(agenda.len(), 2);
        agenda.note(&gid("a"), 12);
        assert_eq!(agenda.pop_due(20), Some(gid("b")));
        assert_eq!(agenda.pop_due(20), None);
        agenda.invariants();
    }

    #[test]
    fn a_full_agenda_forgets_the_latest() {
        let mut agenda = Agenda::new(2);
        agenda.reach((100, None));
        for (text, ms) in [("a", 30), ("b", 10), ("c", 20)] {
            agenda.note(&gid(text), ms);
        }
        assert_eq!(agenda.horizon(), Some(&(20, Some(gid("c")))));
        agenda.note(&gid("d"), 25);
        assert_eq!(agenda.len(), 2);
        assert_eq!(agenda.pop_due(9), None);
        assert_eq!((agenda.pop_due(99), agenda.first_ms()), (Some(gid("b")), Some(20)));
        agenda.invariants();
    }
}
