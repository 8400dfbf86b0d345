//! Commands that were proposed here and are not answered yet.
//!
//! Each has the sequence number of its origin; whoever applies the entry with that origin answers it.
//! All wait equally long, so that the oldest is always the first to run out.
//!
//! A command enters the log in the term of the leader that it was addressed to, or never, and terms do not go back along
//! the log. So once an entry of a later term is applied here, a command that is still waiting **will never be applied**:
//! it is refused then, long before its time is over, and may safely be asked for again. Two have no such end: a change
//! of membership, which is answered by an entry of whatever leader acts on it; and whatever waited while a
//! snapshot jumped over the entries that would have told.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_consensus::{NodeId, Term};
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

#[derive(Debug)]
struct Waiting {
    deadline: Duration,
    /// It can enter the log in this term at the latest; `None`: nobody knows.
    term: Option<Term>,
    waiter: Waiter,
}

/// The table of waiters.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    last_seq: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Commands that were refused or timed out since the start.
    pub(crate) failed: u64,
}

impl Pending {
    /// Registers a waiter until `deadline`; returns the sequence number for the origin.
    pub(crate) fn add(&mut self, deadline: Duration, waiter: Waiter) -> u64 {
        self.last_seq += 1;
        self.waiting.insert(self.last_seq, Waiting { deadline, term: None, waiter });
        self.last_seq
    }

    /// The command with this number was addressed to the leader of `term`, or of an earlier one.
    pub(crate) fn addressed(&mut self, seq: u64, term: Term) {
        let waiting = self.waiting.get_mut(&seq);
        if let Some(waiting) = waiting.filter(|one| !matches!(one.waiter, Waiter::Member(..))) {
            waiting.term = Some(term);
        }
    }

    /// An entry of `term` is applied: takes out the waiters whose commands were addressed to earlier terms.
    pub(crate) fn take_superseded(&mut self, term: Term) -> Vec<Waiter> {
        let is_over = |waiting: &Waiting| waiting.term.is_some_and(|addressed| addressed < term);
        let over = self.waiting.iter().filter(|(_, waiting)| is_over(waiting));
        let over: Vec<u64> = over.map(|(seq, _)| *seq).collect();
        self.failed += over.len() as u64;
        over.into_iter().filter_map(|seq| self.take(seq)).collect()
    }

    /// Entries were jumped over: what became of those that wait will not be seen here.
    pub(crate) fn lose_sight(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.term = None);
    }

    /// Takes out the waiter with this number; `None` if it was answered or has run out.
    pub(crate) fn take(&mut self, seq: u64) -> Option<Waiter> {
        self.waiting.remove(&seq).map(|waiting| waiting.waiter)
    }

    /// Takes out a waiter whose time is over.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Option<Waiter> {
        let (&seq, oldest) = self.waiting.first_key_value()?;
        (oldest.deadline <= now).then(|| {
            self.failed += 1;
            self.take(seq)
        })?
    }

    /// When the oldest runs out.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|(_, oldest)| oldest.deadline)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Deadlines grow with sequence numbers, so that looking at the first is enough.
    pub(crate) fn invariants(&self) {
        let deadlines: Vec<_> = self.waiting.values().map(|one| one.deadline).collect();
        assert!(deadlines.is_sorted(), "a younger command runs out before an older one");
        assert!(self.waiting.keys().all(|seq| *seq <= self.last_seq));
    }
}
