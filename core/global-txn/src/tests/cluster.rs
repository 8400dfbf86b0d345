//! Some nodes behind one log. Each has a key-value machine of its own, which may lag; the log itself is a list that
//! nobody disagrees about, since consensus is tested elsewhere. What can go wrong here: proposals that are
//! rejected, lost, or appended after their proposer was told that nobody knows; leaders that change, also
//! without the old one noticing; calls whose answers are late, lost or doubled; nodes that start anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_engine::{Engine, MemEngine};
use quorate_kv::{
    At, Command, Event, EventKind, KeyRange, KeyValue, Kv, Reply as KvReply, TxnRequest, codec,
};
use quorate_outcall::{Call, CallId, CallResult};

use crate::api::{
    Config, Input, KEYSPACE, Now, Output, Reply, Request, RequestId, TxnId, TxnOutcome,
};
use crate::gid::GlobalTxnId;
use crate::record::{Content, Part, Record, Source, Status};
use crate::{GlobalTxn, Target, call, keys};

/// A proposal on its way to the log.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) node: usize,
    boot: u64,
    id: TxnId,
    txn: TxnRequest,
    /// Its proposer has been told that nobody knows.
    pub(super) is_given_up: bool,
}

/// A call on its way to a participant, or its answer on the way back.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) node: usize,
    pub(super) boot: u64,
    pub(super) id: CallId,
    pub(super) call: Call,
}

struct Entry {
    at: At,
    command: Bytes,
    origin: Option<(usize, u64, TxnId)>,
}

pub(super) struct Node {
    pub(super) machine: GlobalTxn,
    kv: Kv,
    engine: MemEngine,
    boot: u64,
    /// How far this node's idea of group time lags, in ms.
    pub(super) lag_ms: u64,
    pub(super) leads: bool,
}

pub(super) struct Cluster {
    pub(super) config: Config,
    pub(super) nodes: Vec<Node>,
    log: Vec<Entry>,
    pub(super) proposals: Vec<Proposal>,
    pub(super) calls: Vec<Outgoing>,
    pub(super) replies: BTreeMap<RequestId, Reply>,
    /// Which node answers which request, while it has not.
    pub(super) asked: BTreeMap<RequestId, usize>,
    pub(super) now_ms: u64,
    next_request: u64,
    next_boot: u64,
    /// Every record that was ever applied, in order.
    pub(super) history: BTreeMap<GlobalTxnId, Vec<Record>>,
    remembered: u64,
    /// Whether `settle` lets nothing into the log, as without a leader.
    pub(super) rejects: bool,
}

impl Cluster {
    pub(super) fn new(nodes: usize, config: Config, seed: u64) -> Self {
        let mut cluster = Self {
            config,
            nodes: Vec::new(),
            log: Vec::new(),
            proposals: Vec::new(),
            calls: Vec::new(),
            replies: BTreeMap::new(),
            asked: BTreeMap::new(),
            now_ms: 10_000,
            next_request: 0,
            next_boot: 0,
            history: BTreeMap::new(),
            remembered: 0,
            rejects: false,
        };
        for node in 0..nodes {
            cluster.next_boot += 1;
            let machine = GlobalTxn::new(cluster.config.clone(), seed + node as u64);
            cluster.nodes.push(Node {
                machine,
                kv: Kv::default(),
                engine: MemEngine::new(),
                boot: cluster.next_boot,
                lag_ms: 0,
                leads: false,
            });
        }
        cluster
    }

    fn now(&self, node: usize) -> Now {
        Now {
            mono: Duration::from_millis(self.now_ms),
            group_ms: self.now_ms - self.nodes[node].lag_ms,
            wall_ms: 1_700_000_000_000 + self.now_ms,
        }
    }

    /// One step of a node's machine, and whatever it wants.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now = self.now(node);
            let mut out = Vec::new();
            let Node { machine, kv, engine, boot, .. } = &mut self.nodes[node];
            machine.step(now, input, &mut out).unwrap();
            let boot = *boot;
            let mut ranges = Vec::new();
            for output in out {
                match output {
                    Output::Range { id, range } => {
                        let view = kv.view(KEYSPACE, engine.snapshot());
                        let limit = usize::try_from(range.limit).unwrap();
                        let limit = if limit == 0 { usize::MAX } else { limit };
                        let result = view.page(&range.range, limit).unwrap();
                        ranges.push(Input::Range { id, result });
                    }
                    Output::Txn { id, txn, .. } => {
                        let is_given_up = false;
                        self.proposals.push(Proposal { node, boot, id, txn, is_given_up });
                    }
                    Output::Call { id, call } => {
                        self.calls.push(Outgoing { node, boot, id, call });
                    }
                    Output::CancelCall { .. } => {}
                    Output::Reply { id, reply } => {
                        assert!(self.asked.remove(&id).is_some(), "answered twice, or not asked");
                        self.replies.insert(id, reply);
                    }
                }
            }
            // Reads are answered before anything else, in order.
            inputs.extend(ranges.into_iter().rev());
        }
        self.nodes[node].machine.invariants();
    }

    pub(super) fn request(&mut self, node: usize, request: Request) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.asked.insert(id, node);
        self.input(node, Input::Request { id, request });
        id
    }

    /// The log takes a proposal.
    pub(super) fn append(&mut self, index: usize) {
        let Proposal { node, boot, id, txn, is_given_up } = self.proposals.remove(index);
        let limits = quorate_kv::limits::TxnLimits::default();
        quorate_kv::check::check_txn(&txn, &limits).unwrap();
        let at = At { index: self.log.len() as u64 + 1, term: 1, time_ms: self.now_ms };
        let command = codec::encode(KEYSPACE, &Command::Txn(txn));
        let origin = (!is_given_up).then_some((node, boot, id));
        self.log.push(Entry { at, command, origin });
    }

    /// Its proposer is told that nothing happened, or that nobody knows; then it may be appended yet.
    pub(super) fn fail(&mut self, index: usize, is_unknown: bool) {
        let proposal = &mut self.proposals[index];
        let (node, boot, id) = (proposal.node, proposal.boot, proposal.id);
        if is_unknown {
            proposal.is_given_up = true;
        } else {
            self.proposals.remove(index);
        }
        if self.nodes[node].boot == boot {
            let outcome = if is_unknown { TxnOutcome::Unknown } else { TxnOutcome::Rejected };
            self.input(node, Input::Txn { id, outcome });
        }
    }

    /// Entries that a node has not applied.
    pub(super) fn behind(&self, node: usize) -> usize {
        self.log.len() - self.nodes[node].kv.applied() as usize
    }

    /// A node applies its next entries, and tells its machine after the last of them, as a node's burst does: what
    /// the machine reads meanwhile is newer than the news that it has not heard.
    pub(super) fn apply(&mut self, node: usize, entries: usize) {
        let mut inputs = Vec::new();
        for _ in 0..entries.min(self.behind(node)) {
            self.apply_one(node, &mut inputs);
        }
        inputs.into_iter().for_each(|input| self.input(node, input));
    }

    fn apply_one(&mut self, node: usize, inputs: &mut Vec<Input>) {
        let Node { kv, engine, boot, .. } = &mut self.nodes[node];
        let entry = &self.log[kv.applied() as usize];
        let applied = kv.apply(engine, entry.at, &entry.command).unwrap();
        engine.publish();
        let mine = entry.origin.filter(|(by, b, _)| *by == node && b == boot);
        if let Some(batch) = applied.events {
            if entry.at.index > self.remembered {
                self.remembered = entry.at.index;
                remember(&mut self.history, &batch.events);
            }
            inputs.push(Input::Applied { events: batch.events });
        }
        if let Some((_, _, id)) = mine {
            let outcome = match applied.reply {
                Ok(KvReply::Txn(result)) => TxnOutcome::Done(result),
                Ok(other) => panic!("a transaction was answered with {other:?}"),
                Err(refusal) => TxnOutcome::Refused(refusal),
            };
            inputs.push(Input::Txn { id, outcome });
        }
    }

    /// A call is answered; the caller may not care any more.
    pub(super) fn answer(&mut self, call: &Outgoing, result: CallResult) {
        if self.nodes[call.node].boot == call.boot {
            self.input(call.node, Input::Called { id: call.id, result });
        }
    }

    /// A node starts with an empty memory. Its state machine is what its log says.
    pub(super) fn restart(&mut self, node: usize, seed: u64) {
        self.next_boot += 1;
        let machine = GlobalTxn::new(self.config.clone(), seed);
        let lost: BTreeSet<_> =
            self.asked.iter().filter(|(_, by)| **by == node).map(|(id, _)| *id).collect();
        for id in lost {
            self.asked.remove(&id);
        }
        let Node { kv, engine, lag_ms, .. } =
            std::mem::replace(&mut self.nodes[node], Self::blank(machine, self.next_boot));
        self.nodes[node].kv = kv;
        self.nodes[node].engine = engine;
        self.nodes[node].lag_ms = lag_ms;
    }

    fn blank(machine: GlobalTxn, boot: u64) -> Node {
        let (kv, engine) = (Kv::default(), MemEngine::new());
        Node { machine, kv, engine, boot, lag_ms: 0, leads: false }
    }

    pub(super) fn lead(&mut self, node: usize) {
        self.nodes[node].leads = true;
        self.nodes[node].lag_ms = 0;
        self.input(node, Input::Leading);
    }

    pub(super) fn follow(&mut self, node: usize) {
        self.nodes[node].leads = false;
        self.input(node, Input::Following);
    }

    /// Appends and applies until nothing is under way but calls.
    pub(super) fn settle(&mut self) {
        loop {
            if !self.proposals.is_empty() && self.rejects {
                self.fail(0, false);
            } else if !self.proposals.is_empty() {
                self.append(0);
            } else if let Some(node) = (0..self.nodes.len()).find(|node| self.behind(*node) > 0) {
                self.apply(node, 1);
            } else {
                return;
            }
        }
    }

    /// The next moment at which a machine wants to be stepped, in ms.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.nodes.iter().filter_map(|node| node.machine.next_deadline());
        deadlines.map(|at| at.as_millis() as u64).min()
    }

    pub(super) fn tick(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.input(node, Input::Tick));
    }

    /// A transaction as node 0 has it, and the URL and payload of each of its rows.
    pub(super) fn detail(&mut self, gid: &str) -> Option<(Record, Vec<(String, Bytes)>)> {
        let gid = GlobalTxnId::parse(gid).unwrap();
        let record = self.pairs(&KeyRange::single(keys::record(&gid))).pop()?;
        let record = Record::decode(&record.value).unwrap();
        let (mut content, mut parts) = (None, BTreeMap::new());
        for kv in self.pairs(&keys::content_and_parts(&gid)) {
            match keys::part_number(&kv.key) {
                None => content = Some(Content::decode(&kv.value).unwrap()),
                Some(number) => {
                    parts.insert(number, Part::decode(&kv.value).unwrap());
                }
            }
        }
        let of = |row: usize| {
            let part = match record.rows[row].source {
                Source::Part(number) => parts.get(&number),
                Source::Step(_) => None,
            };
            call::address(&record, Target::Row(row), content.as_ref(), part).unwrap_or_default()
        };
        let addresses = (0..record.rows.len()).map(of).collect();
        Some((record, addresses))
    }

    /// Every key of the keyspace, as node 0 has it.
    pub(super) fn keys(&mut self) -> Vec<Bytes> {
        let all = Bytes::from_static(b"\0");
        let all = KeyRange { key: all.clone(), range_end: all };
        self.pairs(&all).into_iter().map(|kv| kv.key).collect()
    }

    /// A range of the keyspace, as node 0 has it.
    pub(super) fn pairs(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        let Node { kv, engine, .. } = &mut self.nodes[0];
        kv.view(KEYSPACE, engine.snapshot()).page(range, usize::MAX).unwrap().kvs
    }

    /// Statuses that a transaction went through.
    pub(super) fn statuses(&self, gid: &GlobalTxnId) -> Vec<Status> {
        let mut statuses: Vec<Status> =
            self.history.get(gid).into_iter().flatten().map(|record| record.status).collect();
        statuses.dedup();
        statuses
    }
}

fn remember(history: &mut BTreeMap<GlobalTxnId, Vec<Record>>, events: &[Event]) {
    for event in events.iter().filter(|event| event.kind == EventKind::Put) {
        if let Some(gid) = keys::gid_of_record(&event.kv.key) {
            history.entry(gid).or_default().push(Record::decode(&event.kv.value).unwrap());
        }
    }
}
