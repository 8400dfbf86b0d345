//! A server's process: it takes what has come in as one burst, steps its node, ends the burst with
//! `Flush` and carries the outputs out, in order, as the real server does.

use std::time::Duration;

use quorate_consensus::{Body, Message, NodeId, Role};
use quorate_engine::MemSnapshot;
use quorate_kv::KeyspaceId;
use quorate_kv::hub::HubInput;
use quorate_node::{Config, Halt, Input, Output};
use quorate_wal::{Generation, Record};

use crate::check::Property;
use crate::faults::FaultKind;
use crate::nemesis::Undo;
use crate::planted::Planted;
use crate::server::{Batch, Running, State, Todo};
use crate::storage::GROUP;
use crate::world::{ELECTION_MS, Event, World};

type Outputs = Vec<Output<MemSnapshot>>;

impl World {
    pub(crate) fn node_config(&mut self, id: NodeId, boot: u64, generation: u64) -> Config {
        Config {
            group: GROUP,
            id,
            boot,
            seed: self.rng_fault.next(),
            heartbeat: Duration::from_millis(ELECTION_MS / 10),
            election_timeout: Duration::from_millis(ELECTION_MS),
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            quota_bytes: self.options.quota_bytes,
            table_bytes: self.options.table_bytes,
            log_cache_bytes: self.options.log_cache_bytes,
            generation,
            request_timeout: Duration::from_secs(7),
            auto_compaction: self.spoil_auto_compaction(),
            global_txn: self.global.config.clone(),
            outcall: self.global.limits,
        }
    }

    /// Something for a node; it gets its turn soon.
    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        if let Some(up) = self.server(id).up_mut() {
            up.inbox.push(Todo::Input(input));
            self.wake(id);
        }
    }

    /// Gives a process its turn, unless it is paused or has one coming.
    pub(crate) fn wake(&mut self, id: NodeId) {
        let us = self.rng_net.between(2, 80);
        let server = self.servers.get_mut(&id).expect("exists");
        let (life, paused) = (server.life, server.paused);
        if let Some(up) = server.up_mut().filter(|up| !up.run_due && !paused) {
            up.run_due = true;
            self.queue.after_us(us, Event::Run(id, life));
        }
    }

    pub(crate) fn timer_due(&mut self, id: NodeId, life: u64) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("exists");
        if server.life != life {
            return;
        }
        let Some(up) = server.up_mut() else { return };
        if up.timer_at != Some(now) {
            return; // an earlier deadline took its place
        }
        up.timer_at = None;
        self.input(id, Input::Tick);
    }

    pub(crate) fn run_due(&mut self, id: NodeId, life: u64) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("exists");
        if server.life != life {
            return;
        }
        if server.paused {
            server.up_mut().into_iter().for_each(|up| up.run_due = false);
            return;
        }
        let local = server.clock.local(now);
        let Some(up) = server.up_mut() else { return };
        up.run_due = false;
        if up.inline {
            return; // its thread is writing
        }
        self.tally.bursts += 1;
        let was_idle = up.log_is_idle();
        up.records = 0;
        up.applied_before = up.applied;
        let mut inbox = std::mem::take(&mut up.inbox);
        inbox.extend([Todo::Input(Input::Flush), Todo::Input(Input::Apply)]);
        self.trace.mark(now, &[id.0, inbox.len() as u64]);
        let mut outputs = Vec::new();
        for todo in inbox {
            if let Err(halt) = self.step(id, local, todo, &mut outputs) {
                let what = format!("node {id} stops: {halt}");
                return self.violated(Property::Availability, what);
            }
        }
        self.invariants(id);
        for output in outputs {
            self.carry_out(id, output);
        }
        self.sync_inline(id, was_idle);
        self.plan_timer(id);
    }

    fn step(
        &mut self,
        id: NodeId,
        local: Duration,
        todo: Todo,
        outputs: &mut Outputs,
    ) -> Result<(), Halt> {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("exists");
        let State::Up(up) = &mut server.state else { return Ok(()) };
        match todo {
            Todo::Input(Input::Persisted { seq }) if seq <= up.told => return Ok(()),
            Todo::Input(input) => {
                if let Input::Persisted { seq } = input {
                    up.told = seq;
                    self.checks.persisted(id, seq);
                }
                up.node.step(local, input, outputs)?;
            }
            Todo::Install { generation, start } => {
                let (engine, sender) =
                    server.received.remove(&generation).expect("it was offered from there");
                server.generation = generation;
                up.node.install(local, engine, outputs)?;
                up.applied = up.node.kv().applied();
                self.checks.installed(id, start);
                self.tally.snapshots += 1;
                self.tell_installed(id, sender, start);
            }
        }
        self.note_applied(now, id);
        Ok(())
    }

    fn note_applied(&mut self, now: crate::queue::Time, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("exists");
        let Some(up) = server.up_mut() else { return };
        if up.is_short_of_space(self.options.quota_bytes) {
            up.short_of_space = Some(now);
        }
        let (from, to) = (up.applied, up.node.kv().applied());
        up.applied = to;
        let revision = up.node.kv().revision(KeyspaceId::ETCD).0;
        if to > from {
            self.checks.applied(now, id, from, to, revision);
        }
    }

    fn invariants(&self, id: NodeId) {
        if let Some(up) = self.servers[&id].up() {
            up.node.invariants();
        }
    }

    fn plan_timer(&mut self, id: NodeId) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("exists");
        let (life, clock) = (server.life, server.clock);
        let Some(up) = server.up_mut() else { return };
        let Some(deadline) = up.node.next_deadline(clock.local(now)) else { return };
        // A deadline that has passed is due again at the next turn, never in a turn of no time.
        let at = clock.when(now, deadline).max(now.after_us(100));
        if up.timer_at.is_none_or(|planned| at < planned) {
            up.timer_at = Some(at);
            self.queue.at(at, Event::Timer(id, life));
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output<MemSnapshot>) {
        let now = self.now();
        match output {
            Output::Persist { group, persist } => {
                self.checks.persist(now, id, &persist);
                let seq = persist.seq;
                let mut records = Vec::new();
                Record::push_persist(group, persist, &mut records);
                self.spoil_records(&mut records);
                self.append(id, Batch::Persist(seq), records);
                self.spoil_persist(id, seq);
            }
            Output::Release { group, start, membership, generation } => {
                let (generation, applied) = (Generation(generation), start.index);
                let record = Record::Release { group, start, membership, generation, applied };
                self.append(id, Batch::Release, vec![record]);
            }
            Output::Send { to, message, .. } => self.send(id, to, message),
            Output::Events(batches) => {
                self.checks.events(now, id, &batches);
                for batch in batches {
                    self.hub(id, HubInput::Events(batch));
                }
            }
            Output::Compacted { keyspace, revision } => {
                self.hub(id, HubInput::Compacted { keyspace, revision });
            }
            Output::Jumped { keyspace, revision, compact_revision } => {
                self.hub(id, HubInput::State { keyspace, revision, compact_revision });
            }
            Output::Reply { id: request, reply } => self.reply(id, request, reply),
            Output::Attempt { attempt, call, .. } => self.attempt(id, attempt, &call),
            // Its answer may come all the same.
            Output::AbortAttempt { .. } => {}
            Output::Sealed => {
                self.spoil_sealed(id);
                self.plan_checkpoint(id);
            }
            Output::Defragment => {
                self.server(id).up_mut().into_iter().for_each(|up| up.merge_asked = true);
                self.plan_checkpoint(id);
            }
            Output::ReadLog { to, from, until, max_bytes, .. } => {
                self.read_log(id, to, from, until, max_bytes);
            }
            Output::SendSnapshot { to, start, membership, snapshot, .. } => {
                self.send_snapshot(id, to, start, membership, &snapshot);
            }
            Output::Install { group, start, membership, generation } => {
                self.checks.installing(id);
                let batch = Batch::Install { generation, start };
                let generation = Generation(generation);
                let record = Record::Installed { group, start, membership, generation };
                self.append(id, batch, vec![record]);
            }
            Output::DropSnapshot { generation } => {
                self.server(id).received.remove(&generation);
            }
            Output::Members(_) => {} // `nemesis` asks the leader itself
            Output::Leader { term, role, leader } => {
                self.trace.line(now, || format!("node {id} {role:?} term {term} of {leader:?}"));
                self.trace.mark(now, &[id.0, term.0, role as u64]);
                if role == Role::Leader {
                    self.checks.leads(now, id, term);
                    self.crash_after_election(id);
                    self.leader_fails(id);
                }
            }
        }
    }

    /// A message leaves: the network decides what becomes of it.
    fn send(&mut self, from: NodeId, to: NodeId, mut message: Message) {
        if !self.servers.contains_key(&to) {
            return;
        }
        self.spoil_message(from, to, &mut message);
        self.crash_after_promise(from, &message);
        let now = self.now();
        let fate = self.network.fate(now, from, to, &mut self.rng_net);
        if fate.lost {
            self.tally.faults.hit(FaultKind::Loss);
        }
        if fate.reordered {
            self.tally.faults.hit(FaultKind::Reorder);
        }
        if fate.arrivals.len() > 1 {
            self.tally.faults.hit(FaultKind::Double);
        }
        let copies: Vec<Message> = self.spoil_copies(fate.arrivals.len(), message);
        if copies.is_empty() && self.rng_net.chance(300) {
            let (life, us) = (self.server(from).life, self.rng_net.between(1_000, 100_000));
            self.queue.after_us(us, Event::Broken { at: from, life, peer: to });
        }
        for (at, copy) in fate.arrivals.iter().cycle().zip(copies) {
            self.queue.at(*at, Event::Arrive { from, to, message: Box::new(copy) });
        }
    }

    /// The worst moment to lose power is right after a promise: seldom after an acknowledgement, often
    /// after a vote.
    fn crash_after_promise(&mut self, from: NodeId, message: &Message) {
        let permille = match message.body {
            Body::VoteReply { granted: true } => 200,
            Body::Accepted { .. } => 1,
            _ => return,
        };
        if self.faults_may_happen(FaultKind::CrashAfterPromise) && self.rng_fault.chance(permille) {
            let us = self.rng_fault.between(10, 2_000);
            self.queue.after_us(us, Event::Undo(Undo::PowerLoss(from)));
        }
    }

    /// Votes are durable then, and nothing of the new term is yet.
    fn crash_after_election(&mut self, id: NodeId) {
        if self.faults_may_happen(FaultKind::PowerLossAll) && self.rng_fault.chance(80) {
            let us = self.rng_fault.between(1, 2_000);
            self.queue.after_us(us, Event::Undo(Undo::PowerLossAll(id)));
        }
    }

    pub(crate) fn arrive(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.network.is_cut(from, to) || self.server(to).outside {
            return;
        }
        self.tally.messages += 1;
        self.input(to, Input::Message { from, group: message.group, message });
    }

    pub(crate) fn broken(&mut self, at: NodeId, life: u64, peer: NodeId) {
        if self.server(at).life == life {
            self.input(at, Input::Unreachable { peer });
        }
    }

    /// The leader, if one that runs says that it is one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |up: &Running| up.node.raft_machine().is_leader();
        let leaders = self.servers.iter().filter(|(_, server)| server.up().is_some_and(leads));
        leaders
            .max_by_key(|(_, s)| s.up().map(|up| up.node.raft_machine().term()))
            .map(|(id, _)| *id)
    }

    /// Whether a server believes to lead.
    pub(crate) fn leads(&self, id: NodeId) -> bool {
        self.servers[&id].up().is_some_and(|up| up.node.raft_machine().is_leader())
    }

    /// A planted bug of the driver that belongs to what was just handed to the disk.
    fn spoil_persist(&mut self, id: NodeId, seq: quorate_consensus::Seq) {
        let early = self.is_planted(Planted::AckBeforeSync)
            || (self.is_planted(Planted::CountUnsyncedLeader) && self.leads(id));
        if early {
            self.input(id, Input::Persisted { seq });
        }
    }
}
