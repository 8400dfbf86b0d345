//! Leases on the leader: renewals of a burst become one entry, deadlines that have passed become
//! `Expire` entries, and the group's time is written down while it matters (contracts 4 and 11).

use std::time::Duration;

use quorate_consensus as consensus;
use quorate_engine::Engine;
use quorate_kv::{Command, KeyspaceId, LeaseId};

use crate::limits::{MAX_EXPIRIES_PER_BURST, MAX_PENDING, TIME_ENTRY_MS};
use crate::node::{Halt, Node};
use crate::pending::Waiter;
use crate::{Failure, Output, RequestId};

/// How soon to look again at leases whose expiry is under way.
const EXPIRY_RECHECK: Duration = Duration::from_millis(100);

impl<E: Engine> Node<E> {
    pub(crate) fn keep_alive(
        &mut self,
        id: RequestId,
        keyspace: KeyspaceId,
        lease: LeaseId,
    ) -> Result<(), Failure> {
        if self.is_learner() {
            return Err(Failure::Learner);
        }
        let renewals = self.renewals.entry(keyspace).or_default();
        if renewals.ids.len() >= MAX_PENDING {
            return Err(Failure::Overloaded);
        }
        renewals.ids.push(lease);
        renewals.requests.push(id);
        Ok(())
    }

    /// Proposes what was gathered in this burst, one entry a keyspace.
    pub(crate) fn propose_renewals(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        while let Some((keyspace, renewals)) = self.renewals.pop_first() {
            let command = Command::LeaseRenew { ids: renewals.ids };
            let waiter = Waiter::Renewals(renewals.requests);
            self.propose_own(now, waiter, keyspace, &command, out)?;
        }
        Ok(())
    }

    /// On the leader: proposes the expiry of what is due, and writes the time down when it has drifted.
    pub(crate) fn keep_leases(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if !self.raft.is_leader() {
            self.expiring.clear();
            return Ok(());
        }
        let time = self.raft.group_time(now);
        for (keyspace, id, deadline_ms) in self.kv.due_leases(time.0, MAX_EXPIRIES_PER_BURST) {
            if self.expiring.insert((keyspace, id)) {
                let command = Command::LeaseExpire { id, deadline_ms };
                self.propose_own(now, Waiter::Expiry(keyspace, id), keyspace, &command, out)?;
            }
        }
        let interval = self.time_entry_ms();
        if interval.is_some_and(|ms| time.0 >= self.raft.last_stamp().0 + ms) {
            self.raft(now, consensus::Input::ProposeTime, out)?;
        }
        Ok(())
    }

    /// When `keep_leases` has something to do again.
    pub(crate) fn next_lease_work(&self, now: Duration) -> Option<Duration> {
        let interval = self.time_entry_ms().filter(|_| self.raft.is_leader())?;
        if !self.expiring.is_empty() {
            return Some(now + EXPIRY_RECHECK);
        }
        let next_entry = self.raft.last_stamp().0 + interval;
        let at = self.kv.next_lease_deadline().map_or(next_entry, |at| at.min(next_entry));
        let wait = at.saturating_sub(self.raft.group_time(now).0);
        Some(now + Duration::from_millis(wait))
    }

    /// How far group time may run ahead of the log, in ms: anything that waits for a moment of it is put off
    /// by a failover by at most that. `None`: nothing waits.
    fn time_entry_ms(&self) -> Option<u64> {
        if self.kv.lease_count() > 0 { Some(TIME_ENTRY_MS) } else { self.layers.time_entry_ms() }
    }

    /// The least TTL: one and a half election timeouts, in whole seconds (etcd's rule), so that a
    /// change of leaders alone never costs a lease.
    pub(crate) fn shortest_lease_s(&self) -> i64 {
        let ms = self.config.election_timeout.as_millis() * 3 / 2;
        i64::try_from(ms.div_ceil(1_000)).unwrap_or(i64::MAX)
    }

    /// A positive id that no lease of the keyspace has.
    pub(crate) fn free_lease_id(&mut self, keyspace: KeyspaceId) -> LeaseId {
        loop {
            let id = LeaseId((self.rng.next() >> 1).cast_signed());
            if id != LeaseId::NONE && self.kv.lease(keyspace, id).is_none() {
                return id;
            }
        }
    }
}
