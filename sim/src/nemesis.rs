//! The hand that breaks things: at random intervals one of the seed's kinds of fault, with an end.

use quorate_consensus::{LogIndex, NodeId};
use quorate_engine::Engine;
use quorate_node::{Input, MemberChange, Request, RequestId, to_info};
use quorate_wal::{Input as WalInput, inspect};

use crate::clients::FIRST_FOREIGN_REQUEST;
use crate::disk::{Crash, Fault, Latency};
use crate::faults::FaultKind;
use crate::planted::Planted;
use crate::queue::Time;
use crate::server::Server;
use crate::world::{CALM_UNTIL_MS, Event, World};

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Undo {
    /// All links are whole again.
    Mend,
    /// A process runs again.
    Resume(NodeId),
    /// There is space again.
    Space(NodeId),
    /// Syncs are fast again.
    Sync(NodeId),
    /// An orderly stop, after leadership had time to move.
    Stop(NodeId),
    /// Power fails after a promise.
    PowerLoss(NodeId),
    /// Power fails everywhere, right after an election.
    PowerLossAll(NodeId),
    /// A leader stops soon after its election; who could replace its entries.
    LeaderStops(NodeId, Option<NodeId>),
    /// One more step of a clock that jumps in steps (planted).
    JumpOn(NodeId, u32),
}

impl World {
    pub(crate) fn faults_may_happen(&self, kind: FaultKind) -> bool {
        let begun = self.now() >= Time::from_ms(CALM_UNTIL_MS);
        begun && self.healed.is_none() && self.options.faults.contains(&kind)
    }

    pub(crate) fn something_breaks(&mut self) {
        if self.healed.is_some() {
            return;
        }
        self.retire(false);
        let kinds: Vec<FaultKind> =
            self.options.faults.iter().copied().filter(|kind| kind.is_broken_by_hand()).collect();
        if !kinds.is_empty() {
            let kind = *self.rng_fault.pick(&kinds);
            let id = self.any_inside();
            if let Some(id) = id {
                self.break_one(kind, id);
            }
        }
        let mean = self.options.fault_every_ms;
        let ms = self.rng_fault.between(mean / 4, mean * 7 / 4);
        self.queue.after_us(ms * 1_000, Event::Nemesis);
    }

    fn any_inside(&mut self) -> Option<NodeId> {
        let inside = self.servers.iter().filter(|(_, s)| !s.outside && !s.is_dead());
        let inside: Vec<NodeId> = inside.map(|(id, _)| *id).collect();
        (!inside.is_empty()).then(|| *self.rng_fault.pick(&inside))
    }

    fn duration_us(&mut self) -> u64 {
        let longest = self.options.fault_ms;
        self.rng_fault.between(100, longest.max(101)) * 1_000
    }

    /// How long a server stays down.
    pub(crate) fn down_us(&mut self) -> u64 {
        match self.options.quick {
            true => self.rng_fault.between(1_000, 30_000),
            false => self.duration_us(),
        }
    }

    fn hit(&mut self, kind: FaultKind, id: NodeId) {
        let now = self.now();
        self.trace.line(now, || format!("fault: {kind} (node {id})"));
        self.tally.faults.hit(kind);
    }

    fn break_one(&mut self, kind: FaultKind, id: NodeId) {
        match kind {
            FaultKind::Partition | FaultKind::OneWay | FaultKind::SlowLink => {
                self.break_network(kind, id);
                self.cut_services_off(id);
            }
            FaultKind::PowerLoss | FaultKind::Kill => {
                self.hit(kind, id);
                let power = kind == FaultKind::PowerLoss;
                let crash = if power { Crash::PowerLoss } else { Crash::Kill };
                let us = self.down_us();
                self.restart(id, crash, us);
            }
            FaultKind::CrashInRecovery => {
                let us = self.duration_us() / 8;
                self.restart(id, Crash::Kill, us);
            }
            FaultKind::PowerLossAll => {
                self.hit(kind, id);
                let alive = self.servers.iter().filter(|(_, server)| !server.is_dead());
                let ids: Vec<NodeId> = alive.map(|(id, _)| *id).collect();
                for id in ids {
                    let us = self.down_us();
                    self.restart(id, Crash::PowerLoss, us);
                }
            }
            FaultKind::Pause => {
                self.hit(kind, id);
                self.server(id).paused = true;
                let us = self.duration_us();
                self.queue.after_us(us, Event::Undo(Undo::Resume(id)));
            }
            FaultKind::LeaderFails => {
                let us = self.rng_fault.between(6, 20) * 1_000_000;
                self.unrest_until = self.now().after_us(us);
            }
            FaultKind::Jump => self.jump(id),
            FaultKind::Transfer | FaultKind::Graceful => self.move_leader(kind, id),
            FaultKind::Members => self.change_members(),
            FaultKind::Defragment => self.defragment(id),
            _ => self.break_disk(kind, id),
        }
    }

    /// Someone was elected. Entries that one or two servers have, of one term and of the next, are what the
    /// rules about old terms are for (Raft, figure 8). So leaders keep their entries to themselves, until one
    /// of them comes back with old ones that a rival can still replace: then others get them before
    /// its own disk has anything of the new term.
    pub(crate) fn leader_fails(&mut self, id: NodeId) {
        if self.healed.is_some() || self.now() >= self.unrest_until {
            return;
        }
        let rival = self.checks.rival_of(id);
        if rival.is_some() {
            let slow = Latency { sync_us: 400_000, slow_one_in: 0, slow_us: 0 };
            self.server(id).disk.set_latency(slow);
        } else if self.rng_fault.chance(850) {
            self.cut_off(id);
        } else {
            return;
        }
        self.hit(FaultKind::LeaderFails, id);
        let us = self.rng_fault.between(10_000, 300_000);
        self.queue.after_us(us, Event::Undo(Undo::LeaderStops(id, rival)));
    }

    /// What it sends reaches nobody, or only one.
    fn cut_off(&mut self, id: NodeId) {
        let inside = self.servers.iter().filter(|(other, server)| **other != id && !server.outside);
        let others: Vec<NodeId> = inside.map(|(other, _)| *other).collect();
        if others.is_empty() {
            return;
        }
        let reached = self.rng_fault.chance(150).then(|| *self.rng_fault.pick(&others));
        let alone = others.iter().filter(|other| Some(**other) != reached);
        alone.for_each(|other| self.network.cut(id, *other));
    }

    /// It stops; if it has a rival, without what was not synced, and a third server, perhaps the one that
    /// had taken its entries, is not there for the next election.
    fn leader_stops(&mut self, id: NodeId, rival: Option<NodeId>) {
        self.network.mend();
        self.usual_syncs(id);
        if self.healed.is_some() || !self.server(id).is_up() {
            return;
        }
        let Some(rival) = rival else {
            let crash = if self.rng_fault.chance(700) { Crash::Kill } else { Crash::PowerLoss };
            let us = self.rng_fault.between(10_000, 2_000_000);
            return self.restart(id, crash, us);
        };
        let us = self.rng_fault.between(10_000, 400_000);
        self.restart(id, Crash::PowerLoss, us);
        let inside = self.servers.iter().filter(|(_, server)| !server.outside);
        let third: Vec<NodeId> =
            inside.map(|(other, _)| *other).filter(|other| ![id, rival].contains(other)).collect();
        if third.is_empty() {
            return;
        }
        let away = *self.rng_fault.pick(&third);
        let others: Vec<NodeId> =
            self.servers.keys().copied().filter(|other| *other != away).collect();
        self.network.partition(&[away], &others);
        self.queue.after_us(3_000_000, Event::Undo(Undo::Mend));
    }

    fn break_network(&mut self, kind: FaultKind, id: NodeId) {
        let others: Vec<NodeId> =
            self.servers.keys().copied().filter(|other| *other != id).collect();
        let other = *self.rng_fault.pick(&others);
        match kind {
            FaultKind::Partition => {
                let rng = &mut self.rng_fault;
                let (mut one, mut two) = (vec![id], Vec::new());
                for other in others {
                    if rng.chance(400) { one.push(other) } else { two.push(other) }
                }
                self.network.partition(&one, &two);
            }
            FaultKind::OneWay if self.rng_fault.chance(500) => self.network.cut(id, other),
            FaultKind::OneWay => self.network.cut(other, id),
            _ => {
                let us = self.rng_fault.between(20_000, 600_000);
                self.network.slow_down(id, other, us);
            }
        }
        self.hit(kind, id);
        let us = self.duration_us();
        self.queue.after_us(us, Event::Undo(Undo::Mend));
    }

    fn break_disk(&mut self, kind: FaultKind, id: NodeId) {
        let us = self.duration_us();
        let (after, room) = (self.rng_fault.below(24), self.rng_fault.below(3));
        let segment = self.options.segment_bytes;
        let disk = &self.server(id).disk;
        match kind {
            FaultKind::CrashAtWrite => disk.plan_fault(after, Fault::Crash),
            FaultKind::DiskError => disk.plan_fault(after, Fault::Error),
            FaultKind::SlowSync => {
                let slow = Latency { sync_us: 20_000, slow_one_in: 6, slow_us: 900_000 };
                disk.set_latency(slow);
                self.queue.after_us(us, Event::Undo(Undo::Sync(id)));
                self.hit(kind, id);
            }
            FaultKind::DiskFull => {
                disk.set_capacity(disk.used() + room * segment / 2);
                self.queue.after_us(us * 2, Event::Undo(Undo::Space(id)));
            }
            FaultKind::BitFlip => self.flip_a_bit(id),
            _ => {} // of the network's weather, or it comes with a stop
        }
    }

    /// Below the last sync group, and only as long as a majority of undamaged voters is left.
    fn flip_a_bit(&mut self, id: NodeId) {
        let damaged = self.servers.values().filter(|server| server.flipped).count();
        if (damaged + 1) * 2 >= self.options.nodes || !self.server(id).founder {
            return;
        }
        if !self.majority_stays_whole(id) {
            return;
        }
        let Ok(found) = inspect(&self.server(id).disk) else { return };
        let closed = found.segments.len().saturating_sub(2);
        let closed: Vec<_> = found.segments[..closed].iter().filter(|s| s.end > 0).collect();
        if closed.is_empty() {
            return;
        }
        let segment = *self.rng_fault.pick(&closed);
        let (offset, bit) = (self.rng_fault.below(segment.end), self.rng_fault.below(8) as u8);
        self.hit(FaultKind::BitFlip, id);
        let server = self.server(id);
        server.disk.flip_bit(segment.segment, offset, bit);
        server.flipped = true;
        self.restart(id, Crash::Kill, 300_000);
    }

    /// Whether a majority of the voters, as whoever runs knows them, would be undamaged without `id`:
    /// members that were removed since the start do not count.
    fn majority_stays_whole(&self, id: NodeId) -> bool {
        self.servers.values().filter_map(Server::up).all(|up| {
            let voters: Vec<NodeId> = up.node.raft_machine().membership().voters().collect();
            let whole = |voter: &&NodeId| {
                **voter != id && self.servers.get(voter).is_some_and(|s| !s.flipped)
            };
            voters.iter().filter(whole).count() * 2 > voters.len()
        })
    }

    fn jump(&mut self, id: NodeId) {
        self.hit(FaultKind::Jump, id);
        let (now, ms) = (self.now(), self.rng_fault.between(50, self.options.jump_ms));
        self.checks.clock_jumped(now);
        if self.is_planted(Planted::LeaseByJumpingClock) {
            return self.undo(Undo::JumpOn(id, (ms / 400).min(50) as u32));
        }
        // All at once is what makes elections collide.
        let all: Vec<NodeId> = self.servers.keys().copied().collect();
        let jumping = if self.rng_fault.chance(500) { all } else { vec![id] };
        for id in jumping {
            self.checks.clock_jumped(now);
            self.server(id).clock.jump(now, ms * 1_000);
            self.input(id, Input::Tick);
        }
    }

    pub(crate) fn foreign(&mut self, id: NodeId, request: Request) -> u64 {
        let number = FIRST_FOREIGN_REQUEST + self.rng_fault.below(1 << 20);
        self.input(id, Input::Request { id: RequestId(number), request });
        number
    }

    /// Also of those that do not run, or are not to be reached: then nothing happens.
    fn defragment(&mut self, id: NodeId) {
        let Some(up) = self.server(id).up_mut() else { return };
        let unwritten = up.node.engine_mut().usage().active_bytes > 0;
        let asked = LogIndex(if unwritten { up.node.kv().applied() } else { 0 });
        if self.rng_fault.chance(250) {
            self.foreign(id, Request::FinishCompaction);
            return;
        }
        let number = self.foreign(id, Request::Defragment);
        let up = self.server(id).up_mut().expect("it has just been running");
        up.defragmenting.insert(number, asked);
    }

    fn move_leader(&mut self, kind: FaultKind, id: NodeId) {
        self.hit(kind, id);
        let Some(leader) = self.leader() else { return };
        let up = self.server(leader).up().expect("leaders run");
        let voters: Vec<NodeId> = up.node.raft_machine().membership().voters().collect();
        let to = *self.rng_fault.pick(&voters);
        if kind == FaultKind::Transfer {
            self.foreign(leader, Request::MoveLeader { to });
            return;
        }
        if leader == id {
            self.foreign(leader, Request::MoveLeader { to });
        }
        self.queue.after_us(400_000, Event::Undo(Undo::Stop(id)));
    }

    /// One step of a member's life: joined as a learner, named, promoted, removed.
    fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        let up = self.server(leader).up().expect("leaders run");
        let membership = up.node.raft_machine().membership().clone();
        let started =
            |id: NodeId| membership.get(id).and_then(to_info).is_some_and(|m| !m.name.is_empty());
        let nameless = membership.members.iter().map(|m| m.id).find(|id| !started(*id));
        let learner = membership.members.iter().find(|m| m.learner).map(|m| m.id);
        let spare = self.servers.iter().find(|(id, server)| {
            server.outside && !membership.removed.contains(id) && membership.get(**id).is_none()
        });
        let spare = spare.map(|(id, _)| *id);
        let voters: Vec<NodeId> = membership.voters().collect();
        let change = match (nameless, learner, spare) {
            (Some(id), _, _) => {
                let (name, client_urls) = (format!("node-{id}"), Vec::new());
                MemberChange::Publish { id, name, client_urls }
            }
            (_, Some(id), _) if self.rng_fault.chance(800) => MemberChange::Promote { id },
            (_, None, Some(id)) if voters.len() <= self.options.nodes => {
                let info = Self::member_info(id, true);
                MemberChange::Add { id, peer_urls: info.peer_urls, learner: true }
            }
            _ => {
                let Some(id) = self.removable(&voters) else { return };
                MemberChange::Remove { id }
            }
        };
        self.hit(FaultKind::Members, change.id());
        if let MemberChange::Add { id, .. } = &change {
            self.server(*id).outside = false;
            self.queue.after_us(200_000, Event::Start(*id));
        }
        let at = self.any_inside().filter(|id| self.servers[id].is_up()).unwrap_or(leader);
        self.foreign(at, Request::ChangeMember(change));
    }

    /// Damaged ones first; nobody else while one of them is a voter, nor below three.
    fn removable(&mut self, voters: &[NodeId]) -> Option<NodeId> {
        let dead = voters.iter().find(|id| self.servers[id].is_dead());
        match dead {
            Some(id) => Some(*id),
            None if voters.len() > 3 => Some(*self.rng_fault.pick(voters)),
            None => None,
        }
    }

    /// Servers whose removal is committed are switched off for good; at the end, those that never
    /// became members too.
    pub(crate) fn retire(&mut self, strangers: bool) {
        let Some(leader) = self.leader() else { return };
        let up = self.server(leader).up().expect("leaders run");
        let raft = up.node.raft_machine();
        if raft.membership_index() > raft.commit() {
            return;
        }
        let membership = raft.membership().clone();
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        for id in ids {
            let stranger = strangers && membership.get(id).is_none();
            if stranger || membership.removed.contains(&id) {
                self.server(id).outside = true;
                if self.server(id).is_up() {
                    self.stop(id, Crash::Kill);
                }
            }
        }
    }

    pub(crate) fn undo(&mut self, undo: Undo) {
        let now = self.now();
        match undo {
            Undo::Mend => self.network.mend(),
            Undo::Resume(id) => self.resume(id),
            Undo::Space(id) => {
                self.server(id).disk.set_capacity(u64::MAX);
                self.step_writer(id, WalInput::Retry);
            }
            Undo::Sync(id) => self.usual_syncs(id),
            Undo::Stop(id) => {
                let us = 100_000 + self.duration_us() / 4;
                self.restart(id, Crash::Kill, us);
            }
            Undo::PowerLoss(id) if self.server(id).is_up() && self.healed.is_none() => {
                self.hit(FaultKind::CrashAfterPromise, id);
                let us = self.down_us();
                self.restart(id, Crash::PowerLoss, us);
            }
            Undo::PowerLossAll(id) if self.healed.is_none() => {
                self.break_one(FaultKind::PowerLossAll, id);
            }
            Undo::PowerLoss(_) | Undo::PowerLossAll(_) => {}
            Undo::LeaderStops(id, rival) => self.leader_stops(id, rival),
            Undo::JumpOn(id, left) => {
                self.server(id).clock.jump(now, 400_000);
                self.input(id, Input::Tick);
                if left > 0 {
                    self.queue.after_us(300, Event::Undo(Undo::JumpOn(id, left - 1)));
                }
            }
        }
    }

    pub(crate) fn usual_syncs(&mut self, id: NodeId) {
        let sync_us = self.options.sync_us;
        let usual = Latency { sync_us, slow_one_in: 0, slow_us: 0 };
        self.server(id).disk.set_latency(usual);
    }

    pub(crate) fn resume(&mut self, id: NodeId) {
        let server = self.server(id);
        server.paused = false;
        for event in std::mem::take(&mut server.deferred) {
            self.queue.after_us(1, event);
        }
        self.wake(id);
    }
}
