//! A cluster in memory: machines, disks that can lose what was not confirmed, and packets in flight.
//!
//! The state machine of a node is simply the list of entries it has applied; a snapshot is a copy of it.
//! Every step is followed by `invariants()` and by the checks of [`super::checks`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::checks::Checks;
use crate::limits::Limits;
use crate::{
    Config, Entry, GroupId, Halt, HardState, Input, LogIndex, LogStart, Member, Membership,
    Message, NodeId, Output, Payload, Persist, Raft, Recovered, Seq, Term, first_entries,
};

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub hard_state: HardState,
    pub start: LogStart,
    pub entries: Vec<Entry>,
    /// The engine's checkpoint.
    pub engine: Vec<Entry>,
}

impl Store {
    fn write(&mut self, persist: Persist) {
        if let Some(state) = persist.hard_state {
            assert!(state.term >= self.hard_state.term && state.commit >= self.hard_state.commit);
            let revoted = state.term == self.hard_state.term
                && self.hard_state.vote.is_some_and(|vote| state.vote != Some(vote));
            assert!(!revoted, "two votes in one term");
            self.hard_state = state;
        }
        if let Some(first) = persist.entries.first() {
            let keep = first.index.0.checked_sub(self.start.index.0 + 1).expect("below the log");
            assert!(keep as usize <= self.entries.len(), "a hole in the log on disk");
            self.entries.truncate(keep as usize);
            self.entries.extend(persist.entries);
        }
    }
}

/// The membership after `applied`.
pub(super) fn membership_of(applied: &[Entry]) -> Membership {
    let found = applied.iter().rev().find_map(|entry| match &entry.payload {
        Payload::Membership { membership, .. } => Some(membership.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// The position of the last of `applied`.
fn position(applied: &[Entry]) -> LogStart {
    applied.last().map_or_else(LogStart::default, |entry| LogStart {
        index: entry.index,
        term: entry.term,
        time: entry.time,
    })
}

/// One node.
pub(super) struct Node {
    pub raft: Option<Raft>,
    pub store: Store,
    pub boot: u64,
    pub writes: VecDeque<Persist>,
    pub held: Vec<(Seq, u64, Message)>,
    pub durable: Seq,
    pub machine: Vec<Entry>,
    pub halted: Option<Halt>,
    /// When false, writes wait for `persist`.
    pub quick_disk: bool,
}

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Parcel {
    Message(Message),
    Snapshot(Vec<Entry>),
    /// How a snapshot ended, told to its sender.
    SnapshotSent(Option<LogIndex>),
}

/// Something under way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub from: u64,
    pub to: u64,
    pub parcel: Parcel,
}

/// What happened, for transcripts.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Out(u64, Output),
    Halted(u64, Halt),
    Installed(u64, LogIndex),
}

pub(super) struct Cluster {
    pub now: Duration,
    pub nodes: BTreeMap<u64, Node>,
    pub packets: VecDeque<Packet>,
    /// One-way cuts.
    pub cut: BTreeSet<(u64, u64)>,
    pub events: Vec<Event>,
    pub checks: Checks,
    pub limits: Limits,
    pub seed: u64,
    /// Whether to keep events at all.
    pub record: bool,
}

pub(super) fn voters(ids: impl IntoIterator<Item = u64>) -> Membership {
    let member = |id| Member { id: NodeId(id), learner: false, context: bytes::Bytes::new() };
    Membership { members: ids.into_iter().map(member).collect(), removed: Vec::new() }
}

impl Cluster {
    pub(super) fn new(nodes: u64, seed: u64, limits: Limits) -> Self {
        let mut cluster = Self {
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            packets: VecDeque::new(),
            cut: BTreeSet::new(),
            events: Vec::new(),
            checks: Checks::default(),
            limits,
            seed,
            record: true,
        };
        let entries = first_entries(voters(1..=nodes));
        for id in 1..=nodes {
            cluster.join(id, entries.clone());
        }
        cluster
    }

    /// Adds a running node whose log holds `entries` (none: it waits to be added by the others).
    pub(super) fn join(&mut self, id: u64, entries: Vec<Entry>) {
        let node = Node {
            raft: None,
            store: Store { entries, ..Store::default() },
            boot: 0,
            writes: VecDeque::new(),
            held: Vec::new(),
            durable: Seq(0),
            machine: Vec::new(),
            halted: None,
            quick_disk: true,
        };
        self.nodes.insert(id, node);
        self.restart(id);
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("no such node")
    }

    pub(super) fn raft(&self, id: u64) -> Option<&Raft> {
        self.nodes.get(&id)?.raft.as_ref()
    }

    /// Everything that was not confirmed is gone, except the first `survivors` writes.
    pub(super) fn crash(&mut self, id: u64, survivors: usize) {
        let node = self.node(id);
        node.raft = None;
        for write in std::mem::take(&mut node.writes).into_iter().take(survivors) {
            node.store.write(write);
        }
        node.held.clear();
        node.machine = node.store.engine.clone();
    }

    pub(super) fn restart(&mut self, id: u64) {
        let (seed, limits) = (self.seed, self.limits.clone());
        let node = self.node(id);
        node.boot += 1;
        node.durable = Seq(0);
        node.halted = None;
        node.machine = node.store.engine.clone();
        let config =
            Config { limits, ..Config::new(NodeId(id), GroupId(1), seed ^ (id << 32) ^ node.boot) };
        let recovered = Recovered {
            hard_state: node.store.hard_state,
            start: node.store.start,
            membership: membership_of(&node.machine[..node.store.start.index.0 as usize]),
            entries: node.store.entries.clone(),
            applied: LogIndex(node.machine.len() as u64),
        };
        let raft = Raft::new(config, recovered).expect("what was written can be recovered");
        raft.invariants();
        node.raft = Some(raft);
        self.input(id, Input::Tick);
        self.flush(id);
    }

    /// One input and everything that follows from it here, without the end of the burst.
    pub(super) fn input(&mut self, id: u64, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.now;
            let node = self.node(id);
            let Some(raft) = node.raft.as_mut() else { return };
            let mut out = Vec::new();
            if let Err(halt) = raft.step(now, input, &mut out) {
                assert!(out.is_empty(), "no output leaves a step that halts");
                node.raft = None;
                node.halted = Some(halt.clone());
                assert!(self.record, "n{id} halts in a simulation: {halt}");
                self.events.push(Event::Halted(id, halt));
                return;
            }
            raft.invariants();
            self.checks.witness(id, node_raft(&self.nodes, id));
            self.nothing_forgotten(id);
            for output in out {
                self.checks.output(id, node_raft(&self.nodes, id), &output);
                if self.record {
                    self.events.push(Event::Out(id, output.clone()));
                }
                self.carry_out(id, output, &mut inputs);
            }
            if self.nodes[&id].quick_disk {
                inputs.extend(self.write_all(id));
            }
        }
    }

    /// No peer may be able to refuse a node whose disk keeps what it confirms.
    fn nothing_forgotten(&self, id: u64) {
        if !self.record {
            let forgotten = self.checks.forgotten(id, node_raft(&self.nodes, id));
            assert_eq!(forgotten, None, "n{id} would be refused");
        }
    }

    /// Ends a burst.
    pub(super) fn flush(&mut self, id: u64) {
        self.input(id, Input::Flush);
    }

    fn carry_out(&mut self, id: u64, output: Output, inputs: &mut VecDeque<Input>) {
        let node = self.node(id);
        match output {
            Output::Persist(persist) => node.writes.push_back(persist),
            Output::Send { to, after, message } => {
                node.held.push((after, to.0, message));
                self.release(id);
            }
            Output::Apply { entries } => {
                assert_eq!(entries[0].index.0 as usize, node.machine.len() + 1);
                node.machine.extend(entries);
                let index = LogIndex(node.machine.len() as u64);
                inputs.push_back(Input::Applied { index });
            }
            Output::ReadLog { to, from, until, max_bytes } => {
                let skip = from.0 as i64 - node.store.start.index.0 as i64 - 1;
                let mut entries = Vec::new();
                let mut bytes = 0;
                for entry in node.store.entries.iter().skip(skip.max(0) as usize) {
                    bytes += entry.size();
                    if skip < 0
                        || entry.index >= until
                        || (bytes > max_bytes && !entries.is_empty())
                    {
                        break;
                    }
                    entries.push(entry.clone());
                }
                inputs.push_back(Input::LogRead { to, entries });
            }
            Output::SendSnapshot { to } => {
                let parcel = Parcel::Snapshot(node.machine.clone());
                self.post(Packet { from: id, to: to.0, parcel });
            }
            _ => {}
        }
    }

    fn post(&mut self, packet: Packet) {
        self.packets.push_back(packet);
    }

    /// Sends what no longer waits for the disk.
    fn release(&mut self, id: u64) {
        let node = self.node(id);
        let durable = node.durable;
        let (ready, held) =
            std::mem::take(&mut node.held).into_iter().partition(|(after, _, _)| *after <= durable);
        node.held = held;
        let ready: Vec<(Seq, u64, Message)> = ready;
        for (_, to, message) in ready {
            self.post(Packet { from: id, to, parcel: Parcel::Message(message) });
        }
    }

    /// Writes everything pending; the confirmation to be fed.
    fn write_all(&mut self, id: u64) -> Option<Input> {
        let count = self.nodes[&id].writes.len();
        self.write_some(id, count)
    }

    fn write_some(&mut self, id: u64, count: usize) -> Option<Input> {
        let node = self.node(id);
        let mut seq = None;
        for _ in 0..count.min(node.writes.len()) {
            let write = node.writes.pop_front()?;
            seq = Some(write.seq);
            node.store.write(write);
        }
        let seq = seq?;
        node.durable = seq;
        self.release(id);
        Some(Input::Persisted { seq })
    }

    /// The disk confirms the first `count` writes.
    pub(super) fn persist(&mut self, id: u64, count: usize) {
        if let Some(input) = self.write_some(id, count) {
            self.input(id, input);
            self.flush(id);
        }
    }

    /// Delivers one packet, unless the way is cut or the receiver is down.
    pub(super) fn deliver(&mut self, packet: Packet) {
        let Packet { from, to, parcel } = packet;
        let lost = self.cut.contains(&(from, to)) || self.raft(to).is_none();
        match parcel {
            Parcel::Message(message) if !lost => {
                // What a transport does: through bytes.
                let mut raw = Vec::new();
                crate::codec::encode_message(&message, &mut raw);
                let message = crate::codec::decode_message(raw.into()).expect("our own bytes");
                self.checks.message(from, to, &message);
                self.input(to, Input::Message { from: NodeId(from), message });
            }
            Parcel::Message(_) => {}
            Parcel::Snapshot(machine) => {
                let installed = if lost { None } else { self.install(to, machine) };
                let parcel = Parcel::SnapshotSent(installed);
                self.post(Packet { from: to, to: from, parcel });
            }
            // The sender's own transport reports this, whatever the network does.
            Parcel::SnapshotSent(installed) => {
                self.input(to, Input::SnapshotSent { to: NodeId(from), installed });
            }
        }
    }

    fn install(&mut self, id: u64, machine: Vec<Entry>) -> Option<LogIndex> {
        let start = position(&machine);
        if let Some(input) = self.write_all(id) {
            self.input(id, input);
        }
        if !self.raft(id)?.wants_snapshot(start.index, start.term) {
            return None;
        }
        let node = self.node(id);
        node.store.start = start;
        node.store.entries.clear();
        node.store.engine.clone_from(&machine);
        node.store.hard_state.commit = node.store.hard_state.commit.max(start.index);
        let membership = membership_of(&machine);
        node.machine = machine;
        let LogStart { index, term, time } = start;
        if self.record {
            self.events.push(Event::Installed(id, index));
        }
        self.input(id, Input::SnapshotInstalled { index, term, time, membership });
        Some(index)
    }

    /// The engine writes a checkpoint; with `compact` the log before it goes, but for `keep` entries.
    pub(super) fn checkpoint(&mut self, id: u64, compact: bool, keep: u64) {
        let node = self.node(id);
        if node.raft.is_none() {
            return;
        }
        node.store.engine = node.machine.clone();
        let index = node.machine.len() as u64;
        let index = index.saturating_sub(keep);
        if !compact || index <= node.store.start.index.0 {
            return;
        }
        let gone = (index - node.store.start.index.0) as usize;
        node.store.entries.drain(..gone);
        node.store.start = position(&node.machine[..index as usize]);
        self.input(id, Input::Compact { index: LogIndex(index) });
    }

    /// Time passes; whoever asked to be called by then is called.
    pub(super) fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(due) = self.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let now = self.now;
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            for id in ids {
                if self.raft(id).and_then(Raft::next_deadline).is_some_and(|at| at <= now) {
                    self.input(id, Input::Tick);
                    self.flush(id);
                    let next = self.raft(id).and_then(Raft::next_deadline);
                    assert!(next.is_none_or(|at| at > now), "a timer that is due again at once");
                }
            }
        }
        self.now = until;
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.nodes.values().filter_map(|node| node.raft.as_ref()?.next_deadline()).min()
    }

    /// The leader of the highest term, if there is one.
    pub(super) fn leader(&self) -> Option<u64> {
        let leaders =
            self.nodes.iter().filter(|(_, node)| node.raft.as_ref().is_some_and(Raft::is_leader));
        leaders
            .max_by_key(|(_, node)| node.raft.as_ref().map_or(Term(0), Raft::term))
            .map(|(id, _)| *id)
    }
}

fn node_raft(nodes: &BTreeMap<u64, Node>, id: u64) -> &Raft {
    nodes[&id].raft.as_ref().expect("it has just been stepped")
}
