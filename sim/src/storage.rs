//! A server's disk: operations of the log in simulated time, starts, stops and crashes.

use quorate_consensus::{GroupId, NodeId, Seq, first_entries};
use quorate_engine::{Engine, MemEngine};
use quorate_kv::hub::{Hub, HubInput};
use quorate_kv::{KeyspaceId, Kv};
use quorate_node::{Halt, Input, MemberInfo, Node, initial_membership};
use quorate_wal::{
    ClusterId, Config as WalConfig, Identity, Input as WalInput, Output as WalOutput, Record,
    RecoveredGroup, RecoveryError, Writer, create, drive, perform, persisted, recover_planted,
};

use crate::check::Property;
use crate::disk::{Crash, Fault};
use crate::faults::FaultKind;
use crate::planted::Planted;
use crate::server::{Batch, Running, State, Todo};
use crate::world::{Event, World};

/// The one group.
pub(crate) const GROUP: GroupId = GroupId(1);
const CLUSTER: ClusterId = ClusterId(0x5155_4f52);
/// How long a write into the page cache takes, in microseconds.
const WRITE_US: u64 = 15;
/// What the node's own thread writes at most, in records.
const MAX_INLINE_RECORDS: usize = 4;

impl World {
    /// A machine's process starts: recovery, then a node on what it found.
    pub(crate) fn start(&mut self, id: NodeId) {
        let server = self.server(id);
        if server.is_up() || server.is_dead() || server.held || server.outside {
            return;
        }
        let crash =
            self.faults_may_happen(FaultKind::CrashInRecovery) && self.rng_fault.chance(150);
        if crash && self.server(id).born {
            let after = self.rng_fault.below(5);
            self.server(id).disk.plan_fault(after, Fault::Crash);
        }
        match self.open_log(id) {
            Ok((writer, group)) => {
                self.server(id).disk.clear_fault();
                self.boot(id, writer, group);
            }
            Err(error) => self.recovery_failed(id, &error),
        }
    }

    fn open_log(&mut self, id: NodeId) -> Result<(Writer, RecoveredGroup), RecoveryError> {
        self.boots += 1;
        let boot = self.boots;
        let config = WalConfig {
            segment_bytes: self.options.segment_bytes,
            group_bytes: self.options.group_bytes,
            index_stride: 8 << 10,
        };
        let identity = Identity { cluster: CLUSTER, node: id };
        let first = first_entries(initial_membership(&self.founding_members()));
        let planted = self.planted;
        let server = self.server(id);
        let bug = planted.and_then(Planted::of_log);
        let found = recover_planted(&server.disk, Some(identity), boot, config, bug);
        let (mut writer, mut group) = match found {
            Ok(mut found) => (found.writer, found.groups.remove(&GROUP).unwrap_or_default()),
            Err(RecoveryError::Nothing) if !server.born => {
                (create(&server.disk, identity, boot, config)?, RecoveredGroup::default())
            }
            Err(error) => return Err(error),
        };
        server.born = true;
        writer.plant(bug);
        let empty = group.recovered.entries.is_empty() && group.recovered.start.index.0 == 0;
        if server.founder && empty {
            let record = |entry| Record::Entry { group: GROUP, entry };
            let records = first.iter().cloned().map(record).collect();
            let said = drive(&server.disk, &mut writer, WalInput::Append { seq: Seq(1), records })?;
            if persisted(&said) != Some(Seq(1)) {
                return Err(RecoveryError::NoSpace);
            }
            group.recovered.entries = first;
        }
        Ok((writer, group))
    }

    /// The first members as the operator configured them.
    pub(crate) fn founding_members(&self) -> Vec<MemberInfo> {
        let founders = self.founders().into_iter();
        founders.map(|id| Self::member_info(id, false)).collect()
    }

    /// A member with a name and an address of its own.
    pub(crate) fn member_info(id: NodeId, learner: bool) -> MemberInfo {
        let (name, url) = (format!("node-{id}"), format!("http://node-{id}:2380"));
        MemberInfo { id: id.0, name, peer_urls: vec![url], client_urls: Vec::new(), learner }
    }

    fn recovery_failed(&mut self, id: NodeId, error: &RecoveryError) {
        let now = self.now();
        self.trace.line(now, || format!("node {id} does not start: {error}"));
        let retry = 50_000 + self.rng_fault.below(500_000);
        let server = self.server(id);
        if server.disk.is_crashed() {
            server.disk.crash(Crash::PowerLoss);
            self.tally.faults.hit(FaultKind::CrashInRecovery);
            return self.queue.after_us(retry, Event::Start(id));
        }
        match error {
            RecoveryError::Disk(_) | RecoveryError::NoSpace => {
                self.queue.after_us(retry, Event::Start(id));
            }
            RecoveryError::Corrupt { .. } if server.flipped => server.state = State::Dead,
            _ => self.violated(Property::Durability, format!("node {id} does not start: {error}")),
        }
    }

    fn boot(&mut self, id: NodeId, writer: Writer, mut group: RecoveredGroup) {
        let now = self.now();
        self.spoil_recovered(&mut group.recovered);
        self.checks.recovered(now, id, &group.recovered);
        let boot = if self.is_planted(Planted::SameBoot) { 1 } else { self.boots };
        let config = self.node_config(id, boot, group.generation.0);
        let server = self.server(id);
        let mut engine = Self::take_engine(server);
        if group.generation.0 != server.generation {
            let received = server.received.remove(&group.generation.0);
            engine = received.expect("the log names an engine that is there").0;
            server.generation = group.generation.0;
        }
        server.received.clear();
        let node = Kv::open(&engine)
            .map_err(Halt::from)
            .and_then(|kv| Node::new(config, group.recovered, kv, engine));
        match node {
            Ok(mut node) => {
                let bug = self.planted.and_then(Planted::of_consensus);
                bug.into_iter().for_each(|bug| node.plant(bug));
                self.run_node(id, node, writer);
            }
            Err(halt @ Halt::LogAndEngineApart { .. }) => {
                self.violated(Property::Durability, format!("node {id} does not start: {halt}"));
            }
            Err(halt) => {
                self.violated(Property::Availability, format!("node {id} does not start: {halt}"));
            }
        }
    }

    fn run_node(&mut self, id: NodeId, node: Node<MemEngine>, writer: Writer) {
        let now = self.now();
        let (applied, kv) = (node.kv().applied(), node.kv());
        let mut hub = Hub::new(self.hub_limits());
        let keyspace = KeyspaceId::ETCD;
        let (revision, compact_revision) = (kv.revision(keyspace), kv.compact_revision(keyspace));
        hub.step(HubInput::State { keyspace, revision, compact_revision }, &mut Vec::new());
        self.trace.line(now, || format!("node {id} starts at applied {applied}"));
        self.tally.starts += 1;
        let last_batch = writer.persisted().max(Seq(1));
        let now_ms = 1_750_000_000_000 + now.ms();
        let wall = self.global.is_on.then_some(Todo::Input(Input::WallClock { now_ms }));
        let running = Running {
            node,
            writer,
            hub,
            inbox: wall.into_iter().chain([Todo::Input(Input::Tick)]).collect(),
            run_due: false,
            timer_at: None,
            flight: Default::default(),
            batches: Default::default(),
            last_batch,
            told: Seq(0),
            applied,
            applied_before: applied,
            checkpoint_due: false,
            waiting: Default::default(),
            merge_asked: false,
            defragmenting: Default::default(),
            records: 0,
            inline: false,
            short_of_space: None,
        };
        let server = self.server(id);
        server.state = State::Up(Box::new(running));
        self.wake(id);
    }

    /// The process ends, at once.
    pub(crate) fn stop(&mut self, id: NodeId, crash: Crash) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("exists");
        let State::Up(running) = std::mem::replace(&mut server.state, State::Dead) else {
            unreachable!("only running servers are stopped");
        };
        self.trace.line(now, || format!("node {id} stops: {crash:?}"));
        server.life += 1;
        server.paused = false;
        server.deferred.clear();
        let Running { node, waiting, .. } = *running;
        let mut engine = node.into_engine();
        let sealed = engine.usage().sealed_tables as u64;
        let complete = self.rng_disk.below(sealed + 1);
        for _ in 0..complete {
            engine.complete_checkpoint();
        }
        let lost = server.disk.counts().sectors_lost;
        server.disk.crash(crash);
        let torn = server.disk.counts().sectors_lost > lost;
        server.state = State::Down(engine.crash());
        for (hit, kind) in [
            (complete > 0, FaultKind::UnreportedCheckpoint),
            (complete < sealed, FaultKind::LostTables),
            (torn, FaultKind::LostSectors),
        ] {
            if hit {
                self.tally.faults.hit(kind);
            }
        }
        self.connections_break(id, waiting);
    }

    /// Stops a process if it runs, and starts it again later.
    pub(crate) fn restart(&mut self, id: NodeId, crash: Crash, after_us: u64) {
        if self.server(id).is_up() {
            self.stop(id, crash);
        } else if crash == Crash::PowerLoss && !self.server(id).is_dead() {
            self.server(id).disk.crash(crash);
        }
        self.queue.after_us(after_us, Event::Start(id));
    }

    /// The log's disk failed: in the middle of a crash the machine is gone, else the process stops.
    pub(crate) fn disk_failed(&mut self, id: NodeId, what: &str) {
        let now = self.now();
        self.trace.line(now, || format!("node {id}: {what}"));
        let crashed = self.server(id).disk.is_crashed();
        let (crash, kind) = match crashed {
            true => (Crash::PowerLoss, FaultKind::CrashAtWrite),
            false => (Crash::Kill, FaultKind::DiskError),
        };
        self.tally.faults.hit(kind);
        let down = self.down_us();
        self.restart(id, crash, down);
    }

    /// Hands records to the log's writer.
    pub(crate) fn append(&mut self, id: NodeId, batch: Batch, records: Vec<Record>) {
        let Some(up) = self.server(id).up_mut() else { return };
        up.last_batch = Seq(up.last_batch.0 + 1);
        up.batches.push_back((up.last_batch, batch));
        up.records += records.len();
        let seq = up.last_batch;
        self.step_writer(id, WalInput::Append { seq, records });
    }

    /// Steps the writer; says whether the process still runs.
    pub(crate) fn step_writer(&mut self, id: NodeId, input: WalInput) -> bool {
        let Some(up) = self.server(id).up_mut() else { return false };
        let mut outputs = Vec::new();
        let result = up.writer.step(input, &mut outputs);
        up.writer.invariants();
        match result {
            Ok(()) => self.writer_says(id, outputs),
            Err(quorate_wal::Halt::Disk(what)) => {
                self.disk_failed(id, &what);
                return false;
            }
            Err(halt) => {
                self.violated(Property::Availability, format!("node {id}'s log: {halt}"));
                return false;
            }
        }
        self.server(id).is_up()
    }

    fn writer_says(&mut self, id: NodeId, outputs: Vec<WalOutput>) {
        let life = self.server(id).life;
        for output in outputs {
            match output {
                WalOutput::Write { .. } | WalOutput::Sync { .. } => {
                    let Some(up) = self.server(id).up_mut() else { return };
                    up.flight.push_back(output);
                    if up.flight.len() == 1 {
                        self.begin_flight(id);
                    }
                }
                WalOutput::Create { .. } | WalOutput::Delete { .. } => {
                    let us = self.rng_disk.between(50, 2_000);
                    self.queue.after_us(us, Event::Beside(id, life, output));
                }
                WalOutput::Persisted { seq } => self.batches_done(id, seq),
                WalOutput::NoSpace => self.input(id, Input::DiskSpace { full: true }),
                WalOutput::SpaceFound => self.input(id, Input::DiskSpace { full: false }),
            }
        }
    }

    /// A write reaches the page cache at once, a sync takes effect when it is done.
    fn begin_flight(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("exists");
        let State::Up(up) = &server.state else { return };
        let Some(first) = up.flight.front() else { return };
        let (us, result) = match first {
            WalOutput::Write { .. } => (WRITE_US, perform(&server.disk, first)),
            _ => (server.disk.sync_us(), None),
        };
        let event = Event::Flight(id, server.life, result);
        self.queue.after_us(us, event);
    }

    pub(crate) fn flight_done(&mut self, id: NodeId, life: u64, result: Option<WalInput>) {
        let server = self.servers.get_mut(&id).expect("exists");
        if server.life != life {
            return;
        }
        if server.paused {
            return server.deferred.push(Event::Flight(id, life, result));
        }
        let State::Up(up) = &mut server.state else { return };
        let Some(first) = up.flight.pop_front() else { return };
        let result = result.or_else(|| perform(&server.disk, &first));
        drop(first);
        let result = result.expect("writes and syncs have results");
        if self.step_writer(id, result) {
            let busy = self.server(id).up().is_some_and(|up| !up.flight.is_empty());
            // The writer's own outputs may have begun the next one already.
            if busy && !self.flight_begun(id) {
                self.begin_flight(id);
            }
            if !busy {
                self.inline_sync_ends(id);
            }
        }
    }

    /// The node's own thread writes this burst's records if the log is idle and they are few; it takes
    /// nothing in before they are durable.
    pub(crate) fn sync_inline(&mut self, id: NodeId, was_idle: bool) {
        let wanted = self.options.faults.contains(&FaultKind::InlineSync);
        let Some(up) = self.server(id).up_mut().filter(|_| was_idle && wanted) else { return };
        if up.records <= MAX_INLINE_RECORDS && !up.flight.is_empty() {
            up.inline = true;
            self.tally.faults.hit(FaultKind::InlineSync);
        }
    }

    fn inline_sync_ends(&mut self, id: NodeId) {
        let Some(up) = self.server(id).up_mut() else { return };
        if std::mem::take(&mut up.inline) {
            self.wake(id);
        }
    }

    /// Whether the front of the flight has been begun: it has if the writer filled an empty flight.
    fn flight_begun(&self, id: NodeId) -> bool {
        let up = self.servers[&id].up();
        up.is_some_and(|up| matches!(up.flight.front(), Some(WalOutput::Write { .. })))
    }

    pub(crate) fn beside_done(&mut self, id: NodeId, life: u64, operation: &WalOutput) {
        let server = self.servers.get_mut(&id).expect("exists");
        if server.life != life || !server.is_up() {
            return;
        }
        if server.paused {
            return server.deferred.push(Event::Beside(id, life, operation.clone()));
        }
        let result = perform(&server.disk, operation).expect("it is an operation");
        if matches!(result, WalInput::CreateNoSpace { .. }) {
            self.tally.faults.hit(FaultKind::DiskFull);
        }
        self.step_writer(id, result);
    }

    fn batches_done(&mut self, id: NodeId, seq: Seq) {
        let Some(up) = self.server(id).up_mut() else { return };
        let mut done = None;
        let mut todo = Vec::new();
        while up.batches.front().is_some_and(|(batch, _)| *batch <= seq) {
            let (_, batch) = up.batches.pop_front().expect("just seen");
            match batch {
                Batch::Persist(seq) => done = Some(seq),
                Batch::Install { generation, start } => {
                    let before = done.take();
                    todo.extend(before.map(|seq| Todo::Input(Input::Persisted { seq })));
                    todo.push(Todo::Install { generation, start });
                }
                Batch::Release => {}
            }
        }
        todo.extend(done.map(|seq| Todo::Input(Input::Persisted { seq })));
        // What the node's own thread wrote comes before what has come in meanwhile.
        let at = if up.inline { 0 } else { up.inbox.len() };
        up.inbox.splice(at..at, todo);
        self.wake(id);
    }

    /// The engine's thread has written the oldest sealed table out.
    pub(crate) fn checkpoint_done(&mut self, id: NodeId, life: u64) {
        let server = self.servers.get_mut(&id).expect("exists");
        if server.life != life {
            return;
        }
        if server.paused {
            return server.deferred.push(Event::Checkpoint(id, life));
        }
        let Some(up) = server.up_mut() else { return };
        up.checkpoint_due = false;
        let complete = up.node.engine_mut().complete_checkpoint();
        if let Some(applied) = complete {
            self.input(id, Input::EngineDurable { applied: quorate_consensus::LogIndex(applied) });
        }
        self.plan_checkpoint(id);
    }

    /// Lets the engine's thread work if there is something sealed.
    pub(crate) fn plan_checkpoint(&mut self, id: NodeId) {
        let longest = self.options.checkpoint_ms * 1_000;
        let us = self.rng_disk.between(200, longest.max(201));
        let server = self.servers.get_mut(&id).expect("exists");
        let life = server.life;
        let Some(up) = server.up_mut() else { return };
        let sealed = up.node.engine_mut().usage().sealed_tables;
        if up.checkpoint_due {
            return;
        }
        if sealed > 0 {
            up.checkpoint_due = true;
            self.queue.after_us(us, Event::Checkpoint(id, life));
        } else if std::mem::take(&mut up.merge_asked) {
            up.checkpoint_due = true;
            self.queue.after_us(2 * us, Event::Merged(id, life));
        }
    }

    /// The engine's thread has merged all files.
    pub(crate) fn merged(&mut self, id: NodeId, life: u64) {
        let server = self.servers.get_mut(&id).expect("exists");
        if server.life != life {
            return;
        }
        if server.paused {
            return server.deferred.push(Event::Merged(id, life));
        }
        let Some(up) = server.up_mut() else { return };
        up.checkpoint_due = false;
        self.tally.faults.hit(FaultKind::Defragment);
        self.input(id, Input::Defragmented);
        self.plan_checkpoint(id);
    }
}
