//! The whole world: servers, network, clients and the hand that breaks things, driven by one queue.
//!
//! Each concern has its own file, as an `impl` of [`World`]: `drive` (a server's process: bursts of
//! inputs, outputs), `storage` (its disk: operations, starts, stops, crashes), `transfer` (log reads and
//! snapshots), `clients`, `watchers`, `nemesis` (faults), `finale` (healing and the checks at the end).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::{Entry, LogStart, Membership, Message, NodeId};
use quorate_engine::{MemEngine, MemSnapshot};
use quorate_kv::View;
use quorate_kv::hub::{HistoryFound, WatchReply};
use quorate_wal::Output as WalOutput;

use crate::check::{Checks, ClockBounds, Property};
use crate::clients::Client;
use crate::faults::{FaultCounts, FaultKind};
use crate::global::travel::Due;
use crate::global::{Global, GlobalTally};
use crate::history::{Operation, Outcome};
use crate::nemesis::Undo;
use crate::network::Network;
use crate::options::{Options, Settings};
use crate::planted::Planted;
use crate::queue::{Queue, Time};
use crate::rng::Rng;
use crate::server::{Clock, Server};
use crate::streams::WatchClient;
use crate::trace::Trace;

/// Faults begin after this time, in milliseconds.
pub(crate) const CALM_UNTIL_MS: u64 = 1_500;
/// Faults end at this time, in milliseconds.
pub(crate) const HEAL_MS: u64 = 46_000;
/// The earliest end of a run, in milliseconds.
pub(crate) const END_MS: u64 = 60_000;
/// The latest, in milliseconds: work must have gone on by then.
pub(crate) const LATEST_END_MS: u64 = 120_000;
/// Acknowledged operations that a run must have.
pub(crate) const ENOUGH_ACKNOWLEDGED: usize = 1_000;
/// Servers beyond the first ones that may join.
const SPARES: usize = 2;
/// The servers' election timeout, in milliseconds.
pub(crate) const ELECTION_MS: u64 = 1_000;

/// What can be due.
pub(crate) enum Event {
    /// A process has its turn.
    Run(NodeId, u64),
    /// A deadline that the node asked for.
    Timer(NodeId, u64),
    /// The first write or sync of the log is done.
    Flight(NodeId, u64, Option<quorate_wal::Input>),
    /// A creation or deletion of a segment is due.
    Beside(NodeId, u64, WalOutput),
    /// The engine has written a table out.
    Checkpoint(NodeId, u64),
    /// The engine has merged all files.
    Merged(NodeId, u64),
    /// A message arrives.
    Arrive { from: NodeId, to: NodeId, message: Box<Message> },
    /// A connection is seen to be broken.
    Broken { at: NodeId, life: u64, peer: NodeId },
    /// Entries were read from the log.
    LogRead { at: NodeId, life: u64, to: NodeId, entries: Vec<Entry> },
    /// A snapshot arrives.
    Snapshot(Box<SnapshotOnItsWay>),
    /// A snapshot's sender learns how it ended.
    SnapshotEnded { at: NodeId, life: u64, to: NodeId, installed: Option<LogStart> },
    /// A machine starts.
    Start(NodeId),
    /// A client does something.
    ClientWake(usize),
    /// A request arrives at its server.
    Request(usize),
    /// A client reads a view that it was given.
    Scan { op: usize, view: Box<View<MemSnapshot>> },
    /// An answer arrives at its client.
    Answer { op: usize, outcome: Box<Outcome> },
    /// A client's patience ends.
    Patience(usize),
    /// History was read for a hub.
    History { id: NodeId, life: u64, read: u64, found: HistoryFound },
    /// A watcher connects.
    WatchConnect(usize),
    /// A response arrives at a watcher.
    WatchArrive { client: usize, stream: u64, reply: WatchReply, bytes: usize },
    /// A watcher takes its next response.
    WatchTake { client: usize, stream: u64 },
    /// A watcher asks for progress, or misbehaves.
    WatchTick(usize),
    /// Something about global transactions.
    Global(Due),
    /// Something breaks.
    Nemesis,
    /// A fault ends.
    Undo(Undo),
    /// All faults end.
    Heal,
    /// Is this the end?
    End,
}

/// A snapshot on the wire.
pub(crate) struct SnapshotOnItsWay {
    pub(crate) from: NodeId,
    pub(crate) from_life: u64,
    pub(crate) to: NodeId,
    pub(crate) start: LogStart,
    pub(crate) membership: Membership,
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
}

/// What a run counts for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults by kind.
    pub faults: FaultCounts,
    /// Operations acknowledged.
    pub acknowledged: usize,
    /// Operations whose outcome nobody was told.
    pub unknown: usize,
    /// Operations refused before the log.
    pub refused: usize,
    /// Elections won.
    pub elections: usize,
    /// Starts of processes.
    pub starts: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Events that reached watchers.
    pub watch_events: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Turns that processes had.
    pub bursts: u64,
    /// Log entries committed.
    pub entries: usize,
    /// Revisions that no client claimed, and guesses at them.
    pub holes: usize,
    /// See `holes`.
    pub guesses: usize,
    /// Simulated time from healing to the first acknowledged write after it, in milliseconds.
    pub recovery_ms: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Global transactions.
    pub global: GlobalTally,
}

/// The world.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) planted: Option<Planted>,
    pub(crate) queue: Queue<Event>,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) watch_clients: Vec<WatchClient>,
    pub(crate) history: Vec<Operation>,
    pub(crate) checks: Checks,
    pub(crate) global: Global,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) rng_net: Rng,
    pub(crate) rng_work: Rng,
    pub(crate) rng_fault: Rng,
    pub(crate) rng_disk: Rng,
    pub(crate) boots: u64,
    pub(crate) last_stream: u64,
    pub(crate) healed: Option<Time>,
    /// New leaders fail early until then.
    pub(crate) unrest_until: Time,
    /// Clients have stopped, what is under way may end.
    pub(crate) quiet_since: Option<Time>,
    pub(crate) over: bool,
}

impl World {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let options = Options::draw(settings, &mut rng);
        let clocks = ClockBounds { fast_ppm: options.skew_ppm, jump_ms: ELECTION_MS };
        let mut world = Self {
            planted: settings.planted,
            queue: Queue::default(),
            servers: BTreeMap::new(),
            network: Network::new(options.weather.clone()),
            clients: Vec::new(),
            watch_clients: Vec::new(),
            history: Vec::new(),
            checks: Checks::new(settings.only, clocks, options.auto_compaction),
            global: Global::draw(settings.seed, &options, settings.planted),
            tally: Tally::default(),
            trace: Trace::new(settings.trace),
            rng_net: rng.split(1),
            rng_work: rng.split(2),
            rng_fault: rng.split(3),
            rng_disk: rng.split(4),
            boots: 0,
            last_stream: 0,
            healed: None,
            unrest_until: Time(0),
            quiet_since: None,
            over: false,
            options,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let nodes = self.options.nodes;
        let spares = if nodes > 1 { SPARES } else { 0 };
        for number in 1..=nodes + spares {
            let skew = self.options.skew_ppm;
            let speed = 1_000_000 - skew + self.rng_fault.below(2 * skew + 1);
            let clock = Clock::new(speed, self.rng_fault.below(1_000_000_000));
            let server = Server::new(self.rng_disk.next(), clock, number <= nodes);
            self.servers.insert(NodeId(number as u64), server);
        }
        if self.options.skew_ppm > 0 {
            self.tally.faults.hit(FaultKind::Skew);
        }
        for id in self.founders() {
            let delay = self.rng_fault.below(300_000);
            self.queue.after_us(delay, Event::Start(id));
        }
        self.populate_clients();
        self.populate_watchers();
        self.populate_global();
        self.queue.at(Time::from_ms(CALM_UNTIL_MS), Event::Nemesis);
        self.queue.at(Time::from_ms(HEAL_MS), Event::Heal);
        self.queue.at(Time::from_ms(END_MS), Event::End);
    }

    /// The first members.
    pub(crate) fn founders(&self) -> Vec<NodeId> {
        let founders = self.servers.iter().filter(|(_, server)| server.founder);
        founders.map(|(id, _)| *id).collect()
    }

    pub(crate) fn now(&self) -> Time {
        self.queue.now()
    }

    pub(crate) fn is_planted(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    pub(crate) fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).expect("servers are made at the start and stay")
    }

    pub(crate) fn violated(&mut self, property: Property, what: String) {
        self.checks.note(property, self.queue.now(), Err(what));
    }

    /// The engine of a machine that does not run; an empty one otherwise.
    pub(crate) fn take_engine(server: &mut Server) -> MemEngine {
        match std::mem::replace(&mut server.state, crate::server::State::Dead) {
            crate::server::State::Down(engine) => engine,
            other => {
                server.state = other;
                MemEngine::new()
            }
        }
    }

    /// Runs until the end or the first violation.
    pub(crate) fn run(&mut self) {
        while !self.over && self.checks.violation().is_none() {
            let Some(event) = self.queue.pop() else { break };
            self.handle(event);
        }
        if self.checks.violation().is_none() {
            self.check_at_the_end();
        }
        self.tally.simulated_ms = self.now().ms();
        self.tally.elections = self.checks.elections.count();
        self.tally.entries = self.checks.machine.committed().len();
        let alarms = self.checks.quota.count() as u64;
        let automatic = self.checks.compaction.automatic();
        self.tally.faults.add(FaultKind::QuotaAlarm, alarms);
        self.tally.faults.add(FaultKind::AutoCompaction, automatic);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Run(id, life) => self.run_due(id, life),
            Event::Timer(id, life) => self.timer_due(id, life),
            Event::Flight(id, life, result) => self.flight_done(id, life, result),
            Event::Beside(id, life, operation) => self.beside_done(id, life, &operation),
            Event::Checkpoint(id, life) => self.checkpoint_done(id, life),
            Event::Merged(id, life) => self.merged(id, life),
            Event::Arrive { from, to, message } => self.arrive(from, to, *message),
            Event::Broken { at, life, peer } => self.broken(at, life, peer),
            Event::LogRead { at, life, to, entries } => self.log_read(at, life, to, entries),
            Event::Snapshot(snapshot) => self.snapshot_arrived(*snapshot),
            Event::SnapshotEnded { at, life, to, installed } => {
                self.snapshot_ended(at, life, to, installed);
            }
            Event::Start(id) => self.start(id),
            Event::ClientWake(client) => self.client_wakes(client),
            Event::Request(op) => self.request_arrives(op),
            Event::Scan { op, view } => self.scan(op, &view),
            Event::Answer { op, outcome } => self.answered(op, *outcome),
            Event::Patience(op) => self.patience_ends(op),
            Event::History { id, life, read, found } => self.history_read(id, life, read, found),
            Event::WatchConnect(client) => self.watch_connects(client),
            Event::WatchArrive { client, stream, reply, bytes } => {
                self.watch_arrives(client, stream, reply, bytes);
            }
            Event::WatchTake { client, stream } => self.watch_takes(client, stream),
            Event::WatchTick(client) => self.watch_ticks(client),
            Event::Global(due) => self.global_due(due),
            Event::Nemesis => self.something_breaks(),
            Event::Undo(undo) => self.undo(undo),
            Event::Heal => self.heal(),
            Event::End => self.is_it_over(),
        }
    }
}
