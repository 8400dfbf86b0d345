//! One simulated machine: its disk, its clock, and the process on it while it runs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_consensus::{LogIndex, LogStart, NodeId, Seq};
use quorate_engine::{Engine, MemEngine};
use quorate_kv::AlarmKind;
use quorate_kv::hub::Hub;
use quorate_node::{Input, Node};
use quorate_wal::{Output as WalOutput, Writer};

use crate::disk::SimDisk;
use crate::queue::Time;

/// A clock of its own speed that may jump forward. It never goes back: it is the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    parts_per_million: u64,
    true_us: u64,
    local_us: u64,
}

impl Clock {
    /// A clock that shows `local_us` at the start and runs at so many millionths of true speed.
    pub(crate) fn new(parts_per_million: u64, local_us: u64) -> Self {
        Self { parts_per_million, true_us: 0, local_us }
    }

    /// What it shows.
    pub(crate) fn local(&self, now: Time) -> Duration {
        let passed = (now.0 - self.true_us) * self.parts_per_million / 1_000_000;
        Duration::from_micros(self.local_us + passed)
    }

    /// When it will show `local`, not before now.
    pub(crate) fn when(&self, now: Time, local: Duration) -> Time {
        let shown = self.local(now);
        let wait = local.saturating_sub(shown).as_nanos().div_ceil(1_000) as u64;
        now.after_us((wait * 1_000_000).div_ceil(self.parts_per_million))
    }

    /// Jumps forward.
    pub(crate) fn jump(&mut self, now: Time, us: u64) {
        self.local_us = self.local(now).as_micros() as u64 + us;
        self.true_us = now.0;
    }
}

/// What waits for a process's next turn.
#[derive(Debug)]
pub(crate) enum Todo {
    /// An input of the node.
    Input(Input),
    /// The `Installed` record is durable.
    Install { generation: u64, start: LogStart },
}

/// What a batch in the log's writer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Something that the node waits for.
    Persist(Seq),
    /// An installed snapshot; the node is then given the new engine.
    Install { generation: u64, start: LogStart },
    /// Nobody waits.
    Release,
}

/// The process.
pub(crate) struct Running {
    pub(crate) node: Node<MemEngine>,
    pub(crate) writer: Writer,
    pub(crate) hub: Hub,
    pub(crate) inbox: Vec<Todo>,
    pub(crate) run_due: bool,
    pub(crate) timer_at: Option<Time>,
    /// Writes and syncs, in order; the first is under way.
    pub(crate) flight: VecDeque<WalOutput>,
    pub(crate) batches: VecDeque<(Seq, Batch)>,
    pub(crate) last_batch: Seq,
    /// The highest `Persisted` that the node was given.
    pub(crate) told: Seq,
    pub(crate) applied: u64,
    /// The same before the process's last turn.
    pub(crate) applied_before: u64,
    pub(crate) checkpoint_due: bool,
    /// Operations whose answer a client waits for.
    pub(crate) waiting: BTreeMap<u64, usize>,
    /// All files are to be merged.
    pub(crate) merge_asked: bool,
    /// Defragmentations under way, with what each must make durable.
    pub(crate) defragmenting: BTreeMap<u64, LogIndex>,
    /// Records handed to the log in this burst.
    pub(crate) records: usize,
    /// The node's own thread is writing: it takes nothing in until that is durable.
    pub(crate) inline: bool,
    /// When the node last had reason to refuse for want of space.
    pub(crate) short_of_space: Option<Time>,
}

impl Running {
    /// Nothing of the log is under way or waits.
    pub(crate) fn log_is_idle(&self) -> bool {
        self.flight.is_empty() && self.batches.is_empty() && self.writer.is_idle()
    }

    /// Whether a client may now be refused for want of space.
    pub(crate) fn is_short_of_space(&mut self, quota: u64) -> bool {
        let used_up = quota > 0 && self.node.engine_mut().usage().total_bytes() >= quota;
        used_up || self.node.kv().has_alarm(AlarmKind::NoSpace)
    }
}

/// How a machine is.
pub(crate) enum State {
    /// Never started, or between two lives; what is left of the engine.
    Down(MemEngine),
    /// Running.
    Up(Box<Running>),
    /// Its data is damaged: it never starts again.
    Dead,
}

/// One machine.
pub(crate) struct Server {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Clock,
    pub(crate) state: State,
    /// Number of the current or last life: events of an earlier one are ignored.
    pub(crate) life: u64,
    pub(crate) paused: bool,
    /// What was done for the process while it was paused.
    pub(crate) deferred: Vec<crate::world::Event>,
    /// The engine's directory in force, and others that were received, with their senders.
    pub(crate) generation: u64,
    pub(crate) received: BTreeMap<u64, (MemEngine, NodeId)>,
    /// A bit of its log was flipped: recovery may refuse it.
    pub(crate) flipped: bool,
    /// It has had a log.
    pub(crate) born: bool,
    /// One of the cluster's first members.
    pub(crate) founder: bool,
    /// Removed, or not yet added.
    pub(crate) outside: bool,
    /// Do not start it until this fault is over.
    pub(crate) held: bool,
}

impl Server {
    pub(crate) fn new(seed: u64, clock: Clock, founder: bool) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock,
            state: State::Down(MemEngine::new()),
            life: 0,
            paused: false,
            deferred: Vec::new(),
            generation: 0,
            received: BTreeMap::new(),
            flipped: false,
            born: false,
            founder,
            outside: !founder,
            held: false,
        }
    }

    pub(crate) fn up(&self) -> Option<&Running> {
        match &self.state {
            State::Up(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn up_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Up(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up().is_some()
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_said_it_would() {
        for ppm in [950_000, 1_000_000, 1_050_000] {
            let mut clock = Clock::new(ppm, 77);
            clock.jump(Time(500), 1_000);
            for wait in [0, 1, 999, 123_456] {
                let due = clock.local(Time(900)) + Duration::from_micros(wait);
                let when = clock.when(Time(900), due);
                assert!(clock.local(when) >= due, "{ppm} {wait}");
                assert!(clock.local(Time(when.0.saturating_sub(3).max(900))) <= due);
            }
        }
    }
}
