//! Reads on their way: gathered in a burst, confirmed by one barrier, held until the state machine has
//! caught up, then answered together from one snapshot at the end of a burst (contract 10).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_consensus::{LogIndex, NodeId};
use quorate_kv::{KeyspaceId, LeaseId};

use crate::RequestId;

/// What a read wants once its barrier stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadKind {
    /// A view of a keyspace.
    View(KeyspaceId),
    /// One lease.
    Lease(KeyspaceId, LeaseId),
    /// All leases.
    Leases(KeyspaceId),
    /// The members.
    Members,
}

/// One read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) id: RequestId,
    pub(crate) kind: ReadKind,
}

#[derive(Debug)]
struct Barrier {
    deadline: Duration,
    reads: Vec<Read>,
}

/// All reads that are not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    last_barrier: u64,
    gathered: Vec<Read>,
    barriers: BTreeMap<u64, Barrier>,
    confirmed: BTreeMap<LogIndex, Vec<Read>>,
    ready: Vec<Read>,
}

impl Reads {
    /// A read that needs a barrier: it joins the burst.
    pub(crate) fn gather(&mut self, read: Read) {
        self.gathered.push(read);
    }

    /// A read that needs none.
    pub(crate) fn ready(&mut self, read: Read) {
        self.ready.push(read);
    }

    /// Starts one barrier for everything gathered; returns its id.
    pub(crate) fn start_barrier(&mut self, deadline: Duration) -> Option<u64> {
        if self.gathered.is_empty() {
            return None;
        }
        self.last_barrier += 1;
        let reads = std::mem::take(&mut self.gathered);
        self.barriers.insert(self.last_barrier, Barrier { deadline, reads });
        Some(self.last_barrier)
    }

    /// The barrier stands at `index`. One that has run out meanwhile is ignored.
    pub(crate) fn confirmed(&mut self, barrier: u64, index: LogIndex) {
        if let Some(barrier) = self.barriers.remove(&barrier) {
            self.confirmed.entry(index).or_default().extend(barrier.reads);
        }
    }

    /// The barrier was refused: its reads.
    pub(crate) fn refused(&mut self, barrier: u64) -> Vec<Read> {
        self.barriers.remove(&barrier).map(|barrier| barrier.reads).unwrap_or_default()
    }

    /// Everything up to `applied` is in the state: the reads that can be answered now.
    pub(crate) fn take_ready(&mut self, applied: LogIndex) -> Vec<Read> {
        let mut ready = std::mem::take(&mut self.ready);
        while let Some(first) = self.confirmed.first_entry() {
            if *first.key() > applied {
                break;
            }
            ready.extend(first.remove());
        }
        ready
    }

    /// Takes out the reads of a barrier whose time is over.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<Read> {
        let mut expired = Vec::new();
        while let Some(first) = self.barriers.first_entry() {
            if first.get().deadline > now {
                break;
            }
            expired.extend(first.remove().reads);
        }
        expired
    }

    /// When the oldest barrier runs out.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.barriers.first_key_value().map(|(_, barrier)| barrier.deadline)
    }

    /// Reads that wait, in whatever stage.
    pub(crate) fn len(&self) -> usize {
        let in_barriers: usize = self.barriers.values().map(|barrier| barrier.reads.len()).sum();
        let confirmed: usize = self.confirmed.values().map(Vec::len).sum();
        self.gathered.len() + in_barriers + confirmed + self.ready.len()
    }
}

/// Members are read without a keyspace; everything else names one.
impl ReadKind {
    /// The keyspace whose revision the reply tells.
    pub(crate) fn keyspace(self) -> Option<KeyspaceId> {
        match self {
            Self::View(keyspace) | Self::Lease(keyspace, _) | Self::Leases(keyspace) => {
                Some(keyspace)
            }
            Self::Members => None,
        }
    }
}

/// A hand-over of leadership that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) id: RequestId,
    pub(crate) to: NodeId,
    pub(crate) deadline: Duration,
}
