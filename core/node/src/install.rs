//! Snapshots between members (contract 9). The bytes travel outside of this crate: the shell scans the
//! view it is handed here, and writes what it receives into the directory of the engine's next generation.
//!
//! On the receiving side: the complete, synced copy is *offered*; if it still brings this node forward, the
//! log records it as `Installed`, which is the commit point, and from then until the new engine is handed
//! in nothing else is taken from peers or clients: a message lost is nothing new to either.

use std::time::Duration;

use quorate_consensus::{self as consensus, LogIndex, LogStart, Membership, NodeId};
use quorate_engine::Engine;
use quorate_kv::Kv;

use crate::node::{Halt, Node};
use crate::{Failure, Input, Output, members};

/// A snapshot whose `Installed` record is on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Installing {
    start: LogStart,
    membership: Membership,
    generation: u64,
}

impl<E: Engine> Node<E> {
    /// A peer needs the whole state: hands out a view that says of itself how far it goes.
    pub(crate) fn send_snapshot(
        &mut self,
        to: NodeId,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        self.kv.checkpoint(&mut self.engine)?;
        self.engine.publish();
        let snapshot = self.engine.snapshot();
        let (group, start, membership) = (self.config.group, self.applied, self.membership.clone());
        out.push(Output::SendSnapshot { to, group, start, membership, snapshot });
        Ok(())
    }

    /// A complete and synced copy lies in the engine directory `generation`.
    pub(crate) fn snapshot_offered(
        &mut self,
        start: LogStart,
        membership: Membership,
        generation: u64,
        out: &mut Vec<Output<E::Snapshot>>,
    ) {
        let wanted = self.raft.wants_snapshot(start.index, start.term);
        if !wanted || self.installing.is_some() || generation <= self.config.generation {
            out.push(Output::DropSnapshot { generation });
            return;
        }
        let group = self.config.group;
        self.installing = Some(Installing { start, membership: membership.clone(), generation });
        out.push(Output::Install { group, start, membership, generation });
    }

    /// The `Installed` record is durable: from here on the node stands on `engine`, which is the
    /// directory that was offered.
    ///
    /// # Errors
    /// `Halt`: the engine is not what was offered, or fails.
    ///
    /// # Panics
    /// When nothing is being installed.
    pub fn install(
        &mut self,
        now: Duration,
        engine: E,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let installing = self.installing.take().expect("the shell installs what it was told to");
        let Installing { start, membership, generation } = installing;
        let kv = Kv::open(&engine)?;
        if kv.applied() != start.index.0 {
            let (index, applied) = (start.index.0, kv.applied());
            return Err(Halt::LogAndEngineApart { start: index, last: index, applied });
        }
        (self.kv, self.engine) = (kv, engine);
        (self.applied, self.membership) = (start, membership.clone());
        self.config.generation = generation;
        self.checkpoints.clear();
        // Committed, so the snapshot contains them.
        self.unapplied.clear();
        self.pending.lose_sight();
        self.sealed = start.index;
        self.next_compaction = Some(now);
        self.tell_jump(out);
        let LogStart { index, term, time } = start;
        self.raft(now, consensus::Input::SnapshotInstalled { index, term, time, membership }, out)
    }

    /// Watch hubs must not mistake the gap for silence.
    fn tell_jump(&self, out: &mut Vec<Output<E::Snapshot>>) {
        for keyspace in self.kv.keyspaces() {
            let revision = self.kv.revision(keyspace);
            let compact_revision = self.kv.compact_revision(keyspace);
            out.push(Output::Jumped { keyspace, revision, compact_revision });
        }
        out.push(Output::Members(members::infos(&self.membership)));
    }

    /// While a snapshot is being installed only the disk is listened to.
    pub(crate) fn while_installing(
        &mut self,
        now: Duration,
        input: Input,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        match input {
            Input::Persisted { seq } => self.persisted(now, seq, out),
            Input::Request { id, .. } => {
                self.fail(id, Failure::NoLeader, out);
                Ok(())
            }
            Input::SnapshotOffered { generation, .. } => {
                out.push(Output::DropSnapshot { generation });
                Ok(())
            }
            Input::DiskSpace { full } => {
                self.disk_full = full;
                Ok(())
            }
            Input::AttemptDone { attempt, result } => self.attempt_done(now, attempt, result, out),
            Input::WallClock { now_ms } => {
                self.layers.set_wall_clock(now, now_ms);
                Ok(())
            }
            // Of the old generation: nothing depends on it any more.
            Input::EngineDurable { .. } | Input::Defragmented => Ok(()),
            Input::Message { .. }
            | Input::Unreachable { .. }
            | Input::LogRead { .. }
            | Input::SnapshotSent { .. }
            | Input::Flush
            | Input::Apply
            | Input::Tick => Ok(()),
        }
    }

    pub(crate) fn snapshot_sent(
        &mut self,
        now: Duration,
        to: NodeId,
        installed: Option<LogIndex>,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        self.raft(now, consensus::Input::SnapshotSent { to, installed }, out)
    }
}
