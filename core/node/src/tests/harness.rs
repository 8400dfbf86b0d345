//! A few nodes on one virtual clock, joined by a network that delivers at once and in order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_consensus::{Entry, GroupId, HardState, LogStart, NodeId, Recovered, Seq};
use quorate_engine::{Engine, MemEngine, MemSnapshot, Read};
use quorate_kv::{Command, KeyspaceId, Kv, PutRequest, RangeRequest};
use quorate_outcall::{AttemptResult, CallFailure};

use crate::{
    AutoCompaction, Config, Failure, Input, MemberInfo, Node, Output, Reply, Request, RequestId,
    initial_membership,
};

pub(super) type Out = Output<MemSnapshot>;

pub(super) fn config(id: u64) -> Config {
    Config {
        group: GroupId(1),
        id: NodeId(id),
        boot: 1,
        seed: id,
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_secs(1),
        max_txn_ops: 128,
        max_request_bytes: 1_572_864,
        quota_bytes: 0,
        table_bytes: 1 << 20,
        log_cache_bytes: 64 << 20,
        generation: 1,
        request_timeout: Duration::from_secs(7),
        auto_compaction: AutoCompaction::Off,
        global_txn: quorate_global_txn::Config::default(),
        outcall: quorate_outcall::limits::Limits::default(),
    }
}

/// What a node's disk holds.
#[derive(Clone, Debug, Default)]
struct Log {
    hard_state: HardState,
    start: LogStart,
    membership: quorate_consensus::Membership,
    entries: Vec<Entry>,
}

pub(super) struct Server {
    pub(super) node: Node<MemEngine>,
    log: Log,
    /// Handed to the disk and not answered yet.
    pub(super) unsynced: Vec<Seq>,
    pub(super) sealed: usize,
    pub(super) defragments: usize,
    pub(super) events: Vec<i64>,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) servers: BTreeMap<u64, Server>,
    pub(super) replies: BTreeMap<u64, Reply<MemSnapshot>>,
    /// Whether disks answer by themselves.
    pub(super) disks_run: bool,
    /// Nodes that the network does not reach.
    pub(super) cut: Vec<u64>,
    offered: BTreeMap<u64, MemEngine>,
    configs: BTreeMap<u64, Config>,
    next_request: u64,
    /// Calls to other people's services, in order: who called, and where.
    pub(super) calls: Vec<(u64, String)>,
    /// Whether these services are up.
    pub(super) services_answer: bool,
}

impl World {
    pub(super) fn new(configs: Vec<Config>) -> Self {
        let member = |config: &Config| MemberInfo {
            id: config.id.0,
            name: format!("n{}", config.id),
            peer_urls: vec![format!("http://127.0.0.1:{}", config.id)],
            ..MemberInfo::default()
        };
        let members: Vec<MemberInfo> = configs.iter().map(member).collect();
        let membership = initial_membership(&members);
        let mut world = Self {
            now: Duration::ZERO,
            servers: BTreeMap::new(),
            replies: BTreeMap::new(),
            disks_run: true,
            cut: Vec::new(),
            offered: BTreeMap::new(),
            configs: configs.iter().map(|config| (config.id.0, config.clone())).collect(),
            next_request: 0,
            calls: Vec::new(),
            services_answer: true,
        };
        for config in configs {
            let id = config.id.0;
            let entries = quorate_consensus::first_entries(membership.clone());
            let log = Log { entries, ..Log::default() };
            world.start(id, log, MemEngine::default());
        }
        world
    }

    fn start(&mut self, id: u64, log: Log, engine: MemEngine) {
        let recovered = Recovered {
            hard_state: log.hard_state,
            start: log.start,
            membership: log.membership.clone(),
            entries: log.entries.clone(),
            ..Recovered::default()
        };
        let kv = Kv::open(&engine).expect("engine opens");
        let node = Node::new(self.configs[&id].clone(), recovered, kv, engine).expect("starts");
        let server = Server {
            node,
            log,
            unsynced: Vec::new(),
            sealed: 0,
            defragments: 0,
            events: Vec::new(),
        };
        self.servers.insert(id, server);
    }

    /// A node without any data, to be told by others what it is a member of.
    pub(super) fn join(&mut self, config: Config) {
        let id = config.id.0;
        self.configs.insert(id, config);
        self.start(id, Log::default(), MemEngine::default());
    }

    /// The node loses everything volatile and starts again with the next boot number.
    pub(super) fn restart(&mut self, id: u64) {
        let server = self.servers.remove(&id).expect("a server");
        let engine = server.node.into_engine().crash();
        self.configs.get_mut(&id).expect("its config").boot += 1;
        self.start(id, server.log, engine);
    }

    pub(super) fn step(&mut self, id: u64, input: Input) {
        let flush = matches!(input, Input::Flush);
        let mut out = Vec::new();
        let server = self.servers.get_mut(&id).expect("a server");
        server.node.step(self.now, input, &mut out).expect("no halt");
        server.node.invariants();
        for output in out {
            self.carry_out(id, output);
        }
        if flush {
            self.step(id, Input::Apply);
        }
    }

    fn carry_out(&mut self, id: u64, output: Out) {
        let server = self.servers.get_mut(&id).expect("a server");
        match output {
            Output::Persist { persist, .. } => {
                server.unsynced.push(persist.seq);
                server.log.hard_state = persist.hard_state.unwrap_or(server.log.hard_state);
                if let Some(first) = persist.entries.first() {
                    server.log.entries.retain(|entry| entry.index < first.index);
                }
                server.log.entries.extend(persist.entries);
            }
            Output::Release { start, membership, .. } => {
                server.log.entries.retain(|entry| entry.index > start.index);
                (server.log.start, server.log.membership) = (start, membership);
            }
            Output::Send { to, group, message } => {
                let known = self.servers.contains_key(&to.0);
                if known && !self.cut.contains(&id) && !self.cut.contains(&to.0) {
                    let from = NodeId(id);
                    self.step(to.0, Input::Message { from, group, message });
                    self.step(to.0, Input::Flush);
                }
            }
            Output::Reply { id, reply } => {
                let earlier = self.replies.insert(id.0, reply);
                assert!(earlier.is_none(), "request {} was answered twice", id.0);
            }
            Output::Events(batches) => {
                server.events.extend(batches.iter().map(|batch| batch.revision.0));
            }
            Output::Attempt { attempt, call, .. } => {
                self.calls.push((id, call.url.clone()));
                let result = if self.services_answer {
                    AttemptResult::Answered {
                        status: 200,
                        message: String::new(),
                        body: Bytes::from_static(b"{}"),
                    }
                } else {
                    AttemptResult::Failed(CallFailure::Timeout)
                };
                self.step(id, Input::AttemptDone { attempt, result });
                self.step(id, Input::Flush);
            }
            Output::Sealed => server.sealed += 1,
            Output::Defragment => server.defragments += 1,
            Output::SendSnapshot { to, start, membership, snapshot, .. } => {
                let engine = copy(&snapshot, start.index.0);
                let generation = 2;
                self.offered.insert(to.0, engine);
                self.step(to.0, Input::SnapshotOffered { start, membership, generation });
                let installed = Some(start.index);
                self.step(id, Input::SnapshotSent { to, installed });
            }
            Output::Install { start, membership, .. } => {
                let hard_state = server.log.hard_state;
                server.log = Log { hard_state, start, membership, entries: Vec::new() };
                let engine = self.offered.remove(&id).expect("it was offered");
                let mut out = Vec::new();
                let server = self.servers.get_mut(&id).expect("a server");
                server.node.install(self.now, engine, &mut out).expect("no halt");
                server.node.invariants();
                out.into_iter().for_each(|output| self.carry_out(id, output));
            }
            _ => {}
        }
    }

    /// Lets disks answer until nothing is left to sync.
    pub(super) fn settle(&mut self) {
        while self.disks_run {
            let busy = self.servers.iter().find(|(_, server)| !server.unsynced.is_empty());
            let Some(id) = busy.map(|(id, _)| *id) else { break };
            self.sync(id);
        }
    }

    pub(super) fn sync(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).expect("a server");
        if let Some(seq) = server.unsynced.drain(..).max() {
            self.step(id, Input::Persisted { seq });
            self.step(id, Input::Flush);
        }
    }

    /// Time passes, in steps of 10 ms.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.settle();
        while self.now < end {
            self.now += Duration::from_millis(10);
            let due = |server: &Server| {
                server.node.next_deadline(self.now).is_some_and(|at| at <= self.now)
            };
            let due: Vec<u64> =
                self.servers.iter().filter(|(_, server)| due(server)).map(|(id, _)| *id).collect();
            for id in due {
                self.step(id, Input::Tick);
                self.step(id, Input::Flush);
            }
            self.settle();
        }
    }

    pub(super) fn ask(&mut self, id: u64, request: Request) -> u64 {
        self.next_request += 1;
        let request_id = RequestId(self.next_request);
        self.step(id, Input::Request { id: request_id, request });
        self.step(id, Input::Flush);
        self.settle();
        request_id.0
    }

    pub(super) fn put(&mut self, id: u64, key: &str, value: &str) -> u64 {
        self.command(id, put(key, value))
    }

    pub(super) fn command(&mut self, id: u64, command: Command) -> u64 {
        self.ask(id, Request::Command { keyspace: KeyspaceId::ETCD, command })
    }

    /// The revision of an answered command, or its failure.
    pub(super) fn revision(&mut self, request: u64) -> Result<i64, Failure> {
        match self.replies.remove(&request).expect("answered") {
            Reply::Applied { stamp, result } => {
                result.expect("not refused");
                Ok(stamp.revision.0)
            }
            Reply::Failed(failure) => Err(failure),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// A linearizable get.
    pub(super) fn get(&mut self, id: u64, key: &str) -> Result<Option<String>, Failure> {
        let view = Request::View { keyspace: KeyspaceId::ETCD, linearizable: true };
        let request = self.ask(id, view);
        match self.replies.remove(&request).expect("answered") {
            Reply::View { view, .. } => {
                let range = quorate_kv::KeyRange::single(key.to_owned().into());
                let range = RangeRequest { range, ..RangeRequest::default() };
                let found = view.range(&range).expect("range");
                let text = |kv: &quorate_kv::KeyValue| String::from_utf8_lossy(&kv.value).into();
                Ok(found.kvs.first().map(text))
            }
            Reply::Failed(failure) => Err(failure),
            other => panic!("unexpected {other:?}"),
        }
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leads = |server: &&Server| server.node.raft_machine().is_leader();
        let term = |server: &&Server| server.node.raft_machine().term();
        let leader = self.servers.values().filter(leads).max_by_key(term)?;
        Some(leader.node.status().id.0)
    }
}

pub(super) fn put(key: &str, value: &str) -> Command {
    Command::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    })
}

/// Completes every sealed table, as the engine's thread would.
pub(super) fn complete_checkpoints(world: &mut World, id: u64) {
    let server = world.servers.get_mut(&id).expect("a server");
    let engine = server.node.engine_mut();
    assert!(engine.usage().sealed_tables > 0);
    let mut durable = None;
    while let Some(applied) = engine.complete_checkpoint() {
        durable = Some(applied);
    }
    let applied = quorate_consensus::LogIndex(durable.expect("a checkpoint"));
    world.step(id, Input::EngineDurable { applied });
}

/// What a receiver writes of a snapshot: the same pairs as one durable checkpoint.
fn copy(snapshot: &MemSnapshot, applied: u64) -> MemEngine {
    let mut engine = MemEngine::default();
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    for pair in snapshot.scan(everything, quorate_engine::Direction::Forward) {
        let (key, value) = pair.expect("readable");
        engine.insert(&key, &value).expect("writable");
    }
    engine.publish();
    engine.seal(applied).expect("sealed");
    assert_eq!(engine.complete_checkpoint(), Some(applied));
    engine
}
