//! The node thread: it owns the node, feeds it everything that has arrived, and carries its outputs out.
//!
//! One turn of its loop is one burst: the inbox is drained whole, each input is a step, timers that are
//! due are a step, `Flush` ends the burst. Then the outputs go out in the node's order: replies and
//! events as one vector to each runtime, with one wake each; messages to the peers; records to the log.
//! Only then are committed entries applied, a bounded number: the log's writer and the peers are at work
//! meanwhile.
//! While batches are small and the disk is quick, this thread writes and syncs the log itself and saves two wakes;
//! otherwise the WAL thread does. Either way whatever arrives meanwhile is the next burst.
//!
//! Invariants: nothing of a step that halted leaves; what a burst asks to be durable is handed to the
//! log before anything of the next burst is; after a halt the process ends (`run.rs`), never goes on.

mod carry;
mod install;
mod log_reader;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use quorate_consensus::{NodeId, Seq, Witness};
use quorate_node::{Input, Node, Output};
use quorate_storage::{DiskEngine, EngineEvent, EngineOptions, EngineThread, WalEvent, WalHandle};
use quorate_wal::Record;

use crate::Snapshot;
use crate::exit::Fatal;
use crate::handle::Shared;
use crate::inbox::{Arrived, Inbox};
use crate::mailbox::{Delivery, Mailbox};
use crate::peer::Switchboard;
use install::{Installing, Left};
use log_reader::LogReader;

/// What the node thread is made of.
pub struct Parts {
    /// The node, not stepped yet.
    pub node: Node<DiskEngine>,
    /// The engine's thread.
    pub engine_thread: EngineThread,
    /// Generation of the engine that the node stands on.
    pub generation: u64,
    /// How further generations of the engine are opened.
    pub engine_options: EngineOptions,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The log.
    pub wal: WalHandle,
    /// Where everything arrives.
    pub inbox: Arc<Inbox>,
    /// The runtimes.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// What everybody may know.
    pub shared: Arc<Shared>,
    /// The other nodes.
    pub peers: Arc<Switchboard>,
}

/// The running thread.
#[derive(Debug)]
pub struct NodeThread {
    thread: JoinHandle<()>,
}

impl NodeThread {
    /// Starts it. `on_end` is called on it as the last thing: with `Err`, the process must end.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub fn start(
        parts: Parts,
        on_end: impl FnOnce(Result<(), Fatal>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let reader = LogReader::start(parts.wal.clone(), Arc::clone(&parts.inbox))?;
        let thread = std::thread::Builder::new().name("node".to_owned()).spawn(move || {
            let run = std::panic::AssertUnwindSafe(|| Driver::new(parts, reader).run());
            let ended = std::panic::catch_unwind(run);
            let broken = || Err(Fatal::Runtime("the node's rules were broken".to_owned()));
            on_end(ended.unwrap_or_else(|_| broken()));
        })?;
        Ok(Self { thread })
    }

    /// Waits for its end.
    pub fn join(self) {
        // A panic was caught inside and reported.
        let _ended = self.thread.join();
    }
}

/// What an event of the log means to the node.
fn on_wal_event(event: WalEvent) -> Option<Input> {
    match event {
        WalEvent::Persisted { seq } => Some(Input::Persisted { seq }),
        WalEvent::NoSpace => Some(Input::DiskSpace { full: true }),
        // The free space is looked at anyway, and clears it when there is enough (`disk_space.rs`);
        // a failure is an error of the call, or goes to the inbox.
        WalEvent::SpaceFound | WalEvent::Failed { .. } => None,
    }
}

/// Where the WAL thread's events go.
pub fn take_wal_event(inbox: &Inbox, event: WalEvent) {
    match event {
        WalEvent::Failed { error } => inbox.fail(format!("the log failed: {error}")),
        event => on_wal_event(event).into_iter().for_each(|input| inbox.internal(input)),
    }
}

/// Where the engine thread's events go.
pub fn on_engine_event(inbox: &Inbox, event: EngineEvent) {
    match event {
        EngineEvent::Durable { applied } => {
            let applied = quorate_consensus::LogIndex(applied);
            inbox.internal(Input::EngineDurable { applied });
        }
        EngineEvent::Merged => inbox.internal(Input::Defragmented),
        EngineEvent::Failed(error) => inbox.fail(format!("the engine failed: {error}")),
    }
}

/// How often the node is told what the wall clock says.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(10);

struct Driver {
    parts: Parts,
    reader: LogReader,
    /// Origin of the node's clock.
    started: Instant,
    out: Vec<Output<Snapshot>>,
    /// Deliveries of this burst, by runtime.
    deliveries: Vec<Vec<Delivery>>,
    /// Records of this burst, and the last number that they make durable.
    records: Vec<Record>,
    appended: Seq,
    persisted: Seq,
    /// When the node was last told what the wall clock says.
    wall_clock_told: Option<Instant>,
    installing: Option<Installing>,
    left: Vec<Left>,
}

/// Whether an input says anything new about the log. What the WAL thread reported just before this
/// thread wrote a batch itself arrives after that batch: durability is cumulative and does not go back.
fn is_news(input: &Input, persisted: &mut Seq) -> bool {
    let Input::Persisted { seq } = input else { return true };
    let news = *seq > *persisted;
    *persisted = (*persisted).max(*seq);
    news
}

impl Driver {
    fn new(parts: Parts, reader: LogReader) -> Self {
        let deliveries = parts.mailboxes.iter().map(|_| Vec::new()).collect();
        Self {
            parts,
            reader,
            started: Instant::now(),
            out: Vec::new(),
            deliveries,
            records: Vec::new(),
            appended: Seq(0),
            persisted: Seq(0),
            wall_clock_told: None,
            installing: None,
            left: Vec::new(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn run(mut self) -> Result<(), Fatal> {
        self.announce();
        let mut arrived = Arrived::default();
        let mut inputs = Vec::new();
        loop {
            self.burst(&mut inputs).map_err(Fatal::Runtime)?;
            let deadline = self.parts.node.next_deadline(self.now());
            let deadline = deadline.map(|deadline| self.started + deadline);
            let deadline = self.installing_deadline().or(deadline);
            self.parts.inbox.take(&mut arrived, deadline);
            if let Some(why) = arrived.failure.take() {
                return Err(why);
            }
            self.recall(&arrived.told)?;
            if arrived.closed {
                return self.end();
            }
            std::mem::swap(&mut inputs, &mut arrived.inputs);
        }
    }

    /// What peers have seen this node promise must still be there (contract 8).
    fn recall(&self, told: &BTreeMap<NodeId, Witness>) -> Result<(), Fatal> {
        let raft = self.parts.node.raft_machine();
        let lost = told.iter().find_map(|(peer, seen)| Some((*peer, raft.forgotten(seen)?)));
        let refused = |(peer, lost)| Err(Fatal::Refused(self.parts.peers.outdated(peer, lost)));
        lost.map_or(Ok(()), refused)
    }

    /// One burst, and those that the log's own completion makes of it.
    fn burst(&mut self, inputs: &mut Vec<Input>) -> Result<(), String> {
        loop {
            for input in inputs.drain(..) {
                if !is_news(&input, &mut self.persisted) {
                    continue;
                }
                self.step(input)?;
            }
            self.tell_wall_clock()?;
            let now = self.now();
            if self.parts.node.next_deadline(now).is_some_and(|deadline| deadline <= now) {
                self.step(Input::Tick)?;
            }
            self.step(Input::Flush)?;
            self.parts.peers.observe(self.parts.node.raft_machine());
            self.carry_out()?;
            self.deliver();
            self.write_log(inputs)?;
            if self.parts.node.has_unapplied() {
                self.step(Input::Apply)?;
                self.carry_out()?;
                self.deliver();
                self.write_log(inputs)?;
            }
            if inputs.is_empty() {
                return self.go_on_installing();
            }
        }
    }

    fn step(&mut self, input: Input) -> Result<(), String> {
        let now = self.now();
        self.parts.node.step(now, input, &mut self.out).map_err(|halt| halt.to_string())
    }

    /// Now and then, since it may be set while this runs.
    fn tell_wall_clock(&mut self) -> Result<(), String> {
        if self.wall_clock_told.is_some_and(|told| told.elapsed() < WALL_CLOCK_INTERVAL) {
            return Ok(());
        }
        self.wall_clock_told = Some(Instant::now());
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(0);
        self.step(Input::WallClock { now_ms })
    }

    /// Tells the watch hubs where the keyspaces stand, before all events.
    fn announce(&mut self) {
        let kv = self.parts.node.kv();
        for keyspace in kv.keyspaces() {
            let revision = kv.revision(keyspace);
            let compact_revision = kv.compact_revision(keyspace);
            for deliveries in &mut self.deliveries {
                deliveries.push(Delivery::State { keyspace, revision, compact_revision });
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        for (mailbox, deliveries) in self.parts.mailboxes.iter().zip(&mut self.deliveries) {
            mailbox.send(deliveries);
        }
    }

    /// Nobody asks any more: who still waits is told so.
    fn end(mut self) -> Result<(), Fatal> {
        for deliveries in &mut self.deliveries {
            deliveries.push(Delivery::Stopped);
        }
        self.deliver();
        self.reader.stop();
        self.parts.engine_thread.stop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_that_was_overtaken_is_no_news() {
        let mut persisted = Seq(0);
        let mut reported = |seq| is_news(&Input::Persisted { seq: Seq(seq) }, &mut persisted);
        assert_eq!([4, 6, 5, 6, 7].map(&mut reported), [true, true, false, false, true]);
        assert!(is_news(&Input::Flush, &mut persisted));
        assert_eq!(persisted, Seq(7));
    }
}
