//! Commands that were proposed here and are not answered yet.
//!
//! Each has the sequence number of its origin; whoever applies the entry with that origin answers it.
//! All wait equally long, so that the oldest is always the first to run out.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_consensus::NodeId;
use quorate_global_txn::TxnId;
use quorate_kv::{KeyspaceId, LeaseId};

use crate::RequestId;

/// Who waits for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A client.
    Client(RequestId),
    /// Clients whose lease renewals were put into one command, in the order of its ids.
    Renewals(Vec<RequestId>),
    /// A client that changes the membership, with the id that it touches.
    Member(RequestId, NodeId),
    /// The node itself, which proposed that a lease expire.
    Expiry(KeyspaceId, LeaseId),
    /// A client that found the quota used up, and waits for the alarm that this raises.
    Alarm(RequestId),
    /// The machine of global transactions.
    GlobalTxn(TxnId),
    /// The node itself, which does not look at the answer.
    Nobody,
}

/// The table of waiters.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    last_seq: u64,
    waiting: BTreeMap<u64, (Duration, Waiter)>,
    /// Commands that were refused or timed out since the start.
    pub(crate) failed: u64,
}

impl Pending {
    /// Registers a waiter until `deadline`; returns the sequence number for the origin.
    pub(crate) fn add(&mut self, deadline: Duration, waiter: Waiter) -> u64 {
        self.last_seq += 1;
        self.waiting.insert(self.last_seq, (deadline, waiter));
        self.last_seq
    }

    /// Takes out the waiter with this number; `None` if it was answered or has run out.
    pub(crate) fn take(&mut self, seq: u64) -> Option<Waiter> {
        self.waiting.remove(&seq).map(|(_, waiter)| waiter)
    }

    /// Takes out a waiter whose time is over.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Option<Waiter> {
        let (&seq, &(deadline, _)) = self.waiting.first_key_value()?;
        (deadline <= now).then(|| {
            self.failed += 1;
            self.take(seq)
        })?
    }

    /// When the oldest runs out.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|(_, (deadline, _))| *deadline)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Deadlines grow with sequence numbers, so that looking at the first is enough.
    pub(crate) fn invariants(&self) {
        let deadlines: Vec<_> = self.waiting.values().map(|(deadline, _)| *deadline).collect();
        assert!(deadlines.is_sorted(), "a younger command runs out before an older one");
        assert!(self.waiting.keys().all(|seq| *seq <= self.last_seq));
    }
}
