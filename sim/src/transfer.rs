//! What a lagging server gets: entries from a peer's log on disk, or a snapshot of the state.

use std::ops::Bound;

use quorate_consensus::{Entry, LogIndex, LogStart, Membership, NodeId};
use quorate_engine::{Direction, MemEngine, MemSnapshot, Read};
use quorate_node::Input;
use quorate_wal::{ReadError, read_entries};

use crate::check::Property;
use crate::disk::Crash;
use crate::server::State;
use crate::storage::GROUP;
use crate::world::{Event, SnapshotOnItsWay, World};

impl World {
    /// Reads entries for a peer that is behind the cache.
    pub(crate) fn read_log(
        &mut self,
        id: NodeId,
        to: NodeId,
        from: LogIndex,
        until: LogIndex,
        max_bytes: usize,
    ) {
        let us = self.rng_disk.between(100, 3_000);
        let server = self.server(id);
        let (life, flipped) = (server.life, server.flipped);
        let Some(up) = server.up() else { return };
        let plan = up.writer.plan_read(GROUP, from, until);
        let found = plan.map(|plan| read_entries(&server.disk, &plan, max_bytes));
        let entries = match found {
            None | Some(Err(ReadError::Gone)) => Vec::new(),
            Some(Ok(entries)) => entries,
            Some(Err(error)) if flipped || matches!(error, ReadError::Disk(_)) => {
                // The process stops; the next start refuses the damaged log.
                return self.restart(id, Crash::Kill, 200_000);
            }
            Some(Err(error)) => {
                return self.violated(Property::Durability, format!("node {id} reads: {error}"));
            }
        };
        self.queue.after_us(us, Event::LogRead { at: id, life, to, entries });
    }

    pub(crate) fn log_read(&mut self, at: NodeId, life: u64, to: NodeId, entries: Vec<Entry>) {
        if self.server(at).life == life {
            self.input(at, Input::LogRead { to, entries });
        }
    }

    /// Sends every pair of a view; a cut link or a crash loses all of it.
    pub(crate) fn send_snapshot(
        &mut self,
        from: NodeId,
        to: NodeId,
        start: LogStart,
        membership: Membership,
        snapshot: &MemSnapshot,
    ) {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let pairs: Result<Vec<_>, _> = snapshot.scan(all, Direction::Forward).collect();
        let pairs = pairs.expect("the in-memory engine does not fail");
        let from_life = self.server(from).life;
        let us = self.rng_net.between(5_000, 400_000);
        let way = SnapshotOnItsWay { from, from_life, to, start, membership, pairs };
        self.queue.after_us(us, Event::Snapshot(Box::new(way)));
    }

    pub(crate) fn snapshot_arrived(&mut self, way: SnapshotOnItsWay) {
        let SnapshotOnItsWay { from, from_life, to, start, membership, pairs } = way;
        let lost = self.network.is_cut(from, to) || self.server(from).life != from_life;
        let lost = lost || !self.server(to).is_up() || self.rng_net.chance(50);
        if lost {
            let event = Event::SnapshotEnded { at: from, life: from_life, to, installed: None };
            return self.queue.after_us(50_000, event);
        }
        let server = self.server(to);
        let newest = server.received.last_key_value().map_or(0, |(generation, _)| *generation);
        let generation = newest.max(server.generation) + 1;
        let engine = MemEngine::with_checkpoint(start.index.0, pairs);
        server.received.insert(generation, (engine, from));
        self.input(to, Input::SnapshotOffered { start, membership, generation });
        // Refused or never acknowledged, the sender must not wait for ever.
        let event = Event::SnapshotEnded { at: from, life: from_life, to, installed: None };
        self.queue.after_us(2_000_000, event);
    }

    /// A snapshot was installed: its sender is told, unless that message is lost.
    pub(crate) fn tell_installed(&mut self, at: NodeId, sender: NodeId, start: LogStart) {
        if self.network.is_cut(at, sender) || self.rng_net.chance(50) {
            return;
        }
        let (life, us) = (self.server(sender).life, self.rng_net.between(500, 5_000));
        let event = Event::SnapshotEnded { at: sender, life, to: at, installed: Some(start) };
        self.queue.after_us(us, event);
    }

    pub(crate) fn snapshot_ended(
        &mut self,
        at: NodeId,
        life: u64,
        to: NodeId,
        installed: Option<LogStart>,
    ) {
        let server = self.server(at);
        if server.life == life && matches!(server.state, State::Up(_)) {
            let installed = installed.map(|start| start.index);
            self.input(at, Input::SnapshotSent { to, installed });
        }
    }
}
