//! The end of a burst: what was gathered goes to the log and to the peers, reads that may be answered
//! are answered from one snapshot, tables are sealed, and physical compaction gets its share of time.

use std::time::Duration;

use quorate_consensus::{self as consensus, LogIndex};
use quorate_engine::Engine;

use crate::limits::{
    COMPACTION_KEYS_PER_BURST, COMPACTION_PAUSE, COMPACTION_WAIT, MAX_SEALED_TABLES,
};
use crate::node::{Halt, Node};
use crate::reads::{Read, ReadKind};
use crate::{Output, Reply, Stamp, Status, members};

impl<E: Engine> Node<E> {
    pub(crate) fn flush(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        self.propose_renewals(now, out)?;
        if let Some(id) = self.reads.start_barrier(now + self.config.request_timeout) {
            self.raft(now, consensus::Input::Read { id }, out)?;
        }
        self.timers(now, out)?;
        self.step_layers(now, out)?;
        self.raft(now, consensus::Input::Flush, out)?;
        self.end_burst(now, out)
    }

    /// What is committed is applied, some of it; what that leads to goes out.
    pub(crate) fn apply_burst(
        &mut self,
        now: Duration,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if self.unapplied.is_empty() {
            return Ok(());
        }
        self.apply_some(now, out)?;
        self.step_layers(now, out)?;
        self.raft(now, consensus::Input::Flush, out)?;
        self.end_burst(now, out)
    }

    fn end_burst(&mut self, now: Duration, out: &mut Vec<Output<E::Snapshot>>) -> Result<(), Halt> {
        self.seal_if_full(out)?;
        self.answer_reads(now, out);
        self.compact_some(now)?;
        self.go_on_defragmenting(now, out)
    }

    fn answer_reads(&mut self, now: Duration, out: &mut Vec<Output<E::Snapshot>>) {
        let ready = self.reads.take_ready(self.applied.index);
        if ready.is_empty() {
            return;
        }
        let snapshot = self.engine.snapshot();
        for read in ready {
            let reply = self.answer(now, read, &snapshot);
            out.push(Output::Reply { id: read.id, reply });
        }
    }

    fn answer(&self, now: Duration, read: Read, snapshot: &E::Snapshot) -> Reply<E::Snapshot> {
        let term = self.raft.term();
        let bare = Stamp { term, ..Stamp::default() };
        let stamp = read.kind.keyspace().map_or(bare, |keyspace| self.stamp(keyspace));
        match read.kind {
            ReadKind::View(keyspace) => {
                Reply::View { stamp, view: self.kv.view(keyspace, snapshot.clone()) }
            }
            ReadKind::Lease(keyspace, id) => Reply::Lease {
                stamp,
                lease: self.kv.lease(keyspace, id).cloned(),
                now_ms: self.raft.group_time(now).0,
                view: self.kv.view(keyspace, snapshot.clone()),
            },
            ReadKind::Leases(keyspace) => {
                Reply::Leases { stamp, leases: self.kv.leases(keyspace).cloned().collect() }
            }
            ReadKind::Members => {
                Reply::Members { stamp, members: members::infos(&self.membership), changed: None }
            }
        }
    }

    /// Seals the active table when it is large enough. The log before what it contains may go once it
    /// is durable ([`Node::engine_durable`]). A checkpoint is named by its applied index, so the next
    /// one waits for an entry: a table that physical compaction alone has filled is not sealed twice.
    fn seal_if_full(&mut self, out: &mut Vec<Output<E::Snapshot>>) -> Result<(), Halt> {
        if self.table_is_full() && self.may_seal() {
            self.seal(out)?;
        }
        Ok(())
    }

    pub(crate) fn may_seal(&self) -> bool {
        self.engine.usage().sealed_tables < MAX_SEALED_TABLES && self.applied.index > self.sealed
    }

    pub(crate) fn seal(&mut self, out: &mut Vec<Output<E::Snapshot>>) -> Result<(), Halt> {
        assert!(self.applied.index > self.sealed, "two checkpoints of one name");
        self.kv.checkpoint(&mut self.engine)?;
        self.engine.publish();
        self.engine.seal(self.applied.index.0)?;
        self.sealed = self.applied.index;
        self.checkpoints.push_back((self.applied, self.membership.clone()));
        out.push(Output::Sealed);
        Ok(())
    }

    pub(crate) fn table_is_full(&self) -> bool {
        self.engine.usage().active_bytes >= self.config.table_bytes
    }

    /// The engine completed the checkpoint that contains everything up to `applied`.
    pub(crate) fn engine_durable(
        &mut self,
        now: Duration,
        applied: LogIndex,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        assert!(applied <= self.applied.index, "a checkpoint of what was never applied");
        let mut newest = None;
        while self.checkpoints.front().is_some_and(|(start, _)| start.index <= applied) {
            newest = self.checkpoints.pop_front();
        }
        let Some((start, membership)) = newest else { return Ok(()) };
        let (group, generation) = (self.config.group, self.config.generation);
        out.push(Output::Release { group, start, membership, generation });
        self.raft(now, consensus::Input::Compact { index: start.index }, out)
    }

    /// Removes some of the history that a compaction made unreadable. While the active table is full
    /// and cannot be sealed, it must not grow: entries come first.
    fn compact_some(&mut self, now: Duration) -> Result<(), Halt> {
        if self.next_compaction.is_none_or(|at| now < at) {
            return Ok(());
        }
        if self.table_is_full() {
            self.next_compaction = Some(now + COMPACTION_WAIT);
            return Ok(());
        }
        let more = self.kv.compact_step(&mut self.engine, COMPACTION_KEYS_PER_BURST)?;
        self.engine.publish();
        self.next_compaction = more.then_some(now + COMPACTION_PAUSE);
        Ok(())
    }

    /// What this node knows of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let (_, leader, role) = self.leader;
        Status {
            id: self.config.id,
            role,
            term: self.raft.term(),
            leader,
            learner: self.is_learner(),
            commit: self.raft.commit(),
            applied: self.applied.index,
            last: self.raft.last_index(),
            revision: self.kv.revision(quorate_kv::KeyspaceId::ETCD),
            compact_revision: self.kv.compact_revision(quorate_kv::KeyspaceId::ETCD),
            usage: self.engine.usage(),
            quota_bytes: self.config.quota_bytes,
            alarms: self.kv.alarms().collect(),
            disk_full: self.disk_full,
            leader_changes: self.leader_changes,
            pending: self.pending.len(),
            failed: self.pending.failed,
            leases: self.kv.lease_count(),
        }
    }
}
