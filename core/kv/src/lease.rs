//! The table of a keyspace's leases: all of it in memory, and every change of it in the engine too.
//!
//! A lease is a time to live and a deadline in group time (contract 11). Which keys are attached to
//! it stands in the engine alone (`a/`), since there may be more of them than memory holds.
//!
//! Invariant: `by_deadline` holds exactly the table's (deadline, id) pairs.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{LeaseId, LeaseStatus};

/// A keyspace's leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<LeaseId, LeaseStatus>,
    by_deadline: BTreeSet<(u64, LeaseId)>,
}

impl LeaseTable {
    /// The lease of this id.
    pub(crate) fn get(&self, id: LeaseId) -> Option<&LeaseStatus> {
        self.leases.get(&id)
    }

    /// Whether a key may be attached to `id`: it exists, or it means "none".
    pub(crate) fn accepts(&self, id: LeaseId) -> bool {
        id == LeaseId::NONE || self.leases.contains_key(&id)
    }

    /// Adds a lease or moves its deadline.
    pub(crate) fn set(&mut self, lease: LeaseStatus) {
        self.remove(lease.id);
        self.by_deadline.insert((lease.deadline_ms, lease.id));
        self.leases.insert(lease.id, lease);
    }

    /// Removes a lease.
    pub(crate) fn remove(&mut self, id: LeaseId) {
        if let Some(old) = self.leases.remove(&id) {
            self.by_deadline.remove(&(old.deadline_ms, id));
        }
    }

    /// Leases with the earliest deadline first, ties by id.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &LeaseStatus> {
        self.by_deadline.iter().map(|(_, id)| &self.leases[id])
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Checks the table; panics where it is broken.
    pub(crate) fn invariants(&self) {
        assert_eq!(self.leases.len(), self.by_deadline.len(), "a lease without its deadline");
        for (deadline, id) in &self.by_deadline {
            let lease = self.leases.get(id).expect("a deadline without its lease");
            assert_eq!((lease.deadline_ms, lease.id), (*deadline, *id), "deadlines differ");
        }
        assert!(!self.leases.contains_key(&LeaseId::NONE), "lease 0 exists");
    }
}
