//! Clients: each does one thing at a time, waits for the answer or loses patience, and never repeats a
//! write. Several share each server; when theirs does not answer, they go to another.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::NodeId;
use quorate_engine::MemSnapshot;
use quorate_kv::{Command, KeyspaceId, LeaseId, ReadError, Refusal, Reply as KvReply, View};
use quorate_node::{Failure, Input, Reply, Request, RequestId};

use crate::check::Property;
use crate::faults::FaultKind;
use crate::global::travel::FIRST_GLOBAL_REQUEST;
use crate::history::{Action, Operation, Outcome};
use crate::rng::Rng;
use crate::world::{Event, World};

/// Requests with numbers from here on are not of clients, and nobody reads their answers.
pub(crate) const FIRST_FOREIGN_REQUEST: u64 = 1 << 40;

/// A client and what it remembers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) server: NodeId,
    pub(crate) rng: Rng,
    /// What it is waiting for, and the highest revision told to anybody when it began.
    current: Option<(usize, i64)>,
    /// Mod revision and value of keys as last seen; `None`: seen to be absent.
    pub(crate) seen: BTreeMap<Bytes, Option<(i64, Bytes)>>,
    pub(crate) leases: Vec<LeaseId>,
    /// The highest revision it has been told.
    pub(crate) revision: i64,
    /// What it will do next about a store that is full.
    pub(crate) remedy: Option<Remedy>,
}

/// What helps a store that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Compact, then disarm.
    Compact,
    /// Disarm the alarm.
    Disarm,
}

impl World {
    pub(crate) fn populate_clients(&mut self) {
        let servers = self.founders();
        for number in 0..self.options.clients {
            let client = Client {
                server: servers[number % servers.len()],
                rng: self.rng_work.split(number as u64),
                current: None,
                seen: BTreeMap::new(),
                leases: Vec::new(),
                revision: 1,
                remedy: None,
            };
            self.clients.push(client);
            let us = self.rng_work.below(1_000_000);
            self.queue.after_us(us, Event::ClientWake(number));
        }
    }

    fn wake_client(&mut self, number: usize) {
        let mean = self.options.think_ms * 1_000;
        let us = self.clients[number].rng.between(mean / 4, mean * 7 / 4);
        self.queue.after_us(us, Event::ClientWake(number));
    }

    pub(crate) fn client_wakes(&mut self, number: usize) {
        if self.quiet_since.is_some() || self.clients[number].current.is_some() {
            return;
        }
        self.choose_server(number);
        let op = self.history.len();
        let action = self.choose_action(number, op as u64);
        if let Action::Write(Command::Compact { revision }) = action {
            self.checks.compaction.asked(revision);
        }
        let (start, client) = (self.now(), &mut self.clients[number]);
        let (server, outcome) = (client.server, Outcome::Unknown);
        client.current = Some((op, self.checks.revisions.floor()));
        let us = client.rng.between(30, 300);
        let id = op as u64;
        let operation = Operation { id, client: number, server, action, start, end: None, outcome };
        self.history.push(operation);
        self.queue.after_us(us, Event::Request(op));
        self.queue.after_us(self.options.patience_ms * 1_000, Event::Patience(op));
    }

    /// Now and then, and always when its own is gone, a client turns to another server.
    fn choose_server(&mut self, number: usize) {
        let inside: Vec<NodeId> = self
            .servers
            .iter()
            .filter(|(_, server)| !server.outside && server.is_up())
            .map(|(id, _)| *id)
            .collect();
        let client = &mut self.clients[number];
        let gone = !inside.contains(&client.server);
        if !inside.is_empty() && (gone && client.rng.chance(600) || client.rng.chance(20)) {
            client.server = *client.rng.pick(&inside);
        }
    }

    pub(crate) fn request_arrives(&mut self, op: usize) {
        let id = self.history[op].server;
        let request = self.to_request(&self.history[op].action);
        let refused = self.server(id).outside;
        let Some(up) = self.server(id).up_mut().filter(|_| !refused) else {
            let outcome = Box::new(Outcome::NotDone(Failure::Stopped));
            return self.queue.after_us(200, Event::Answer { op, outcome });
        };
        up.waiting.insert(op as u64, op);
        self.input(id, Input::Request { id: RequestId(op as u64), request });
    }

    fn to_request(&self, action: &Action) -> Request {
        let keyspace = KeyspaceId::ETCD;
        let mut request = match action.clone() {
            Action::Write(command) => Request::Command { keyspace, command },
            Action::Read { linearizable, .. } => Request::View { keyspace, linearizable },
            Action::KeepAlive(id) => Request::LeaseKeepAlive { keyspace, id },
        };
        self.spoil_request(&mut request);
        request
    }

    /// A server answered: the answer travels, or the view is read first.
    pub(crate) fn reply(&mut self, id: NodeId, request: RequestId, reply: Reply<MemSnapshot>) {
        if request.0 >= FIRST_GLOBAL_REQUEST {
            return self.global_reply(id, request, reply);
        }
        if request.0 >= FIRST_FOREIGN_REQUEST {
            return self.defragment_ends(id, request, &reply);
        }
        let Some(up) = self.server(id).up_mut() else { return };
        let Some(op) = up.waiting.remove(&request.0) else {
            let what = format!("node {id} answers request {} twice", request.0);
            return self.violated(Property::Availability, what);
        };
        let outcome = match reply {
            Reply::Applied { stamp, result } => {
                Outcome::Replied { revision: self.spoil_revision(stamp.revision.0), result }
            }
            Reply::LeaseRenewed { stamp, ttl_s } => {
                Outcome::Renewed { revision: stamp.revision.0, ttl_s }
            }
            Reply::View { view, .. } => {
                let us = self.rng_work.between(1, 4_000);
                return self.queue.after_us(us, Event::Scan { op, view: Box::new(view) });
            }
            Reply::Failed(Failure::Timeout) => Outcome::Unknown,
            Reply::Failed(failure) => Outcome::NotDone(failure),
            other => unreachable!("nobody asks for this: {other:?}"),
        };
        self.check_no_space(id, op, &outcome);
        let us = self.rng_work.between(30, 300);
        self.queue.after_us(us, Event::Answer { op, outcome: Box::new(outcome) });
    }

    /// Who refuses for want of space before the log must know of some.
    fn check_no_space(&mut self, id: NodeId, op: usize, outcome: &Outcome) {
        if outcome.refusal() != Some(Refusal::NoSpace) {
            return;
        }
        self.spoil_alarm(id);
        let local = matches!(outcome, Outcome::NotDone(_));
        let full = self.options.faults.contains(&FaultKind::DiskFull);
        let start = self.history[op].start;
        let knows = self.server(id).up().is_none_or(|up| up.short_of_space >= Some(start))
            || self.checks.quota.stood_since(start);
        if local && !full && !knows {
            let what = format!("node {id} refuses for want of space, and knows of no lack");
            self.violated(Property::Quota, what);
        }
    }

    /// What was written before a defragmentation was asked for is durable when it is done.
    fn defragment_ends(&mut self, id: NodeId, request: RequestId, reply: &Reply<MemSnapshot>) {
        let Some(up) = self.server(id).up_mut() else { return };
        let Some(asked) = up.defragmenting.remove(&request.0) else { return };
        let durable = up.node.engine_mut().durable_applied();
        if matches!(reply, Reply::Done { .. }) && durable < asked.0 {
            let what = format!("node {id} is defragmented, has {durable} durably, not {asked}");
            self.violated(Property::Durability, what);
        }
    }

    pub(crate) fn scan(&mut self, op: usize, view: &View<MemSnapshot>) {
        let Action::Read { request, .. } = &self.history[op].action else {
            unreachable!("only reads are given views");
        };
        let result = match view.range(request) {
            Ok(result) => Ok(result),
            Err(ReadError::Refused(refusal)) => Err(refusal),
            Err(ReadError::Engine(error)) => unreachable!("the in-memory engine failed: {error}"),
        };
        let outcome = Box::new(Outcome::Read { revision: view.revision.0, result });
        self.queue.after_us(100, Event::Answer { op, outcome });
    }

    pub(crate) fn answered(&mut self, op: usize, outcome: Outcome) {
        let number = self.history[op].client;
        let Some((current, floor)) = self.clients[number].current else { return };
        if current != op {
            return; // its patience has ended before
        }
        let now = self.now();
        self.clients[number].current = None;
        let operation = &mut self.history[op];
        operation.outcome = outcome;
        if operation.outcome != Outcome::Unknown {
            operation.end = Some(now);
        }
        let operation = operation.clone();
        self.trace.mark(now, &[op as u64, operation.outcome.revision().unwrap_or(0) as u64]);
        self.trace.line(now, || operation.to_string());
        let result = self.checks.revisions.ended(&operation, floor);
        self.checks.note(Property::MonotoneRevisions, now, result);
        self.note_lease(&operation);
        self.count(&operation);
        self.clients[number].learn(&operation);
        self.wake_client(number);
    }

    fn note_lease(&mut self, op: &Operation) {
        let now = self.now();
        let told = match (&op.action, &op.outcome) {
            (_, Outcome::Replied { result: Ok(KvReply::LeaseGrant { id, ttl_s, .. }), .. }) => {
                Some((*id, *ttl_s))
            }
            (Action::KeepAlive(id), Outcome::Renewed { ttl_s, .. }) => Some((*id, *ttl_s)),
            _ => None,
        };
        if let Some((id, ttl_s)) = told {
            let result = self.checks.leases.acknowledged(id, op.start, ttl_s);
            self.checks.note(Property::LeaseExpiry, now, result);
        }
    }

    fn count(&mut self, op: &Operation) {
        match &op.outcome {
            Outcome::Unknown => self.tally.unknown += 1,
            Outcome::NotDone(_) => self.tally.refused += 1,
            _ => self.tally.acknowledged += 1,
        }
        let wrote = matches!(&op.outcome, Outcome::Replied { result: Ok(_), .. });
        let first = wrote && self.tally.recovery_ms == 0;
        if let Some(healed) = self.healed.filter(|healed| first && op.start > *healed) {
            self.tally.recovery_ms = self.now().ms() - healed.ms() + 1;
        }
    }

    pub(crate) fn patience_ends(&mut self, op: usize) {
        let number = self.history[op].client;
        if self.clients[number].current.is_some_and(|(current, _)| current == op) {
            self.clients[number].current = None;
            self.tally.unknown += 1;
            let inside = self.founders();
            let client = &mut self.clients[number];
            client.server = *client.rng.pick(&inside);
            self.wake_client(number);
        }
    }

    /// Whoever waits for an answer of this server will not get one.
    pub(crate) fn connections_break(&mut self, id: NodeId, waiting: BTreeMap<u64, usize>) {
        for op in waiting.into_values() {
            let us = self.rng_work.between(100, 5_000);
            self.queue.after_us(us, Event::Answer { op, outcome: Box::new(Outcome::Unknown) });
        }
        self.watches_break(id);
        self.global_connections_break(id);
    }
}

impl Client {
    /// Remembers what an answer says about keys and leases.
    fn learn(&mut self, op: &Operation) {
        self.revision = self.revision.max(op.outcome.revision().unwrap_or(0));
        if op.outcome.refusal() == Some(Refusal::NoSpace) {
            self.remedy.get_or_insert(Remedy::Compact);
        }
        match (&op.action, &op.outcome) {
            (Action::Read { request, .. }, Outcome::Read { result: Ok(result), .. }) => {
                if request.range.is_single() && request.revision == 0 && result.count == 0 {
                    self.seen.insert(request.range.key.clone(), None);
                }
                if request.revision == 0 && !request.keys_only {
                    for kv in &result.kvs {
                        let version = (kv.mod_revision.0, kv.value.clone());
                        self.seen.insert(kv.key.clone(), Some(version));
                    }
                }
            }
            (Action::Write(Command::Put(put)), Outcome::Replied { revision, result: Ok(_) }) => {
                self.seen.insert(put.key.clone(), Some((*revision, put.value.clone())));
            }
            (_, Outcome::Replied { result: Ok(KvReply::LeaseGrant { id, .. }), .. }) => {
                self.leases.push(*id);
            }
            (Action::KeepAlive(id), Outcome::Renewed { ttl_s: 0, .. }) => {
                self.leases.retain(|lease| lease != id);
            }
            (Action::Write(Command::LeaseRevoke { id }), _) => {
                self.leases.retain(|lease| lease != id);
            }
            _ => {}
        }
    }
}
