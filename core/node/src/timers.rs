//! What happens because time has passed: requests run out, leases expire, history is compacted.

use std::time::Duration;

use quorate_engine::Engine;
use quorate_kv::{Command, KeyspaceId};

use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::{Failure, Output};

impl<E: Engine> Node<E> {
    /// When `Input::Tick` is due at the latest, if no input comes before.
    #[must_use]
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        if !self.unapplied.is_empty() {
            return Some(now);
        }
        let compaction = self.next_compaction;
        [
            self.raft.next_deadline(),
            self.pending.next_deadline(),
            self.reads.next_deadline(),
            self.transfer.map(|transfer| transfer.deadline),
            self.defragments.next_deadline(),
            self.next_lease_work(now),
            self.autocompact.next_deadline(),
            self.layers.next_deadline(),
            compaction,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn timers(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        while let Some(waiter) = self.pending.take_expired(now) {
            self.fail_waiter(waiter, Failure::Timeout, out);
        }
        for read in self.reads.take_expired(now) {
            self.fail(read.id, Failure::Timeout, out);
        }
        if let Some(transfer) = self.transfer.take_if(|transfer| transfer.deadline <= now) {
            self.fail(transfer.id, Failure::TransferTimeout, out);
        }
        self.expire_defragments(now, out);
        self.layers.timers(now);
        self.keep_leases(now, out)?;
        self.compact_automatically(now, out)
    }

    fn compact_automatically(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let keyspace = KeyspaceId::ETCD;
        let due = self.autocompact.check(now, self.kv.revision(keyspace));
        let Some(target) = due.filter(|_| self.raft.is_leader()) else { return Ok(()) };
        if target <= self.kv.compact_revision(keyspace) {
            return Ok(());
        }
        let command = Command::Compact { revision: target.0 };
        self.propose_own(now, Waiter::Nobody, keyspace, &command, out)
    }
}
