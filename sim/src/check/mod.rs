//! The checkers, one file a property, and what they share.
//!
//! Those of the log see what every server hands to its disk, what is reported durable, what recovery
//! finds, who leads and what is applied. Those of the clients see only the history, the watch streams
//! and, as the truth about order, the entries that were committed. A check that fails names its
//! property, the time and the evidence; the run ends there.

mod compaction;
mod durability;
mod election_safety;
mod global_txns;
mod leader_completeness;
mod lease_expiry;
pub mod linearizability;
mod log_matching;
mod logs;
mod monotone_revisions;
mod quota;
mod state_machine_safety;
mod watch;
pub mod wgl;

use std::fmt;
use std::str::FromStr;

use quorate_consensus::{LogStart, NodeId, Persist, Recovered, Seq, Term};
use quorate_kv::EventBatch;
use quorate_node::AutoCompaction;

pub use compaction::Compaction;
pub use durability::{Durability, check_final_state};
pub use election_safety::ElectionSafety;
pub use global_txns::{GlobalTxns, Internal};
pub use leader_completeness::check_leader;
pub use lease_expiry::{ClockBounds, LeaseExpiry, LeaseFact};
pub use log_matching::LogMatching;
pub use logs::{Log, Logs};
pub use monotone_revisions::MonotoneRevisions;
pub use quota::Quota;
pub use state_machine_safety::{Fact, StateMachineSafety};
pub use watch::{WatchCheck, WatchWanted, check_truth};

use crate::queue::Time;

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What is promised.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Property {
            $($(#[$doc])* $name),*
        }

        impl Property {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }

        impl fmt::Display for Property {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$name => $text),* })
            }
        }
    };
}

properties! {
    /// One leader a term.
    ElectionSafety = "election_safety",
    /// Same index and term: same entry, and same entries before.
    LogMatching = "log_matching",
    /// A leader has every entry committed before its term.
    LeaderCompleteness = "leader_completeness",
    /// Every server applies the same entries in the same order, with the same results.
    StateMachineSafety = "state_machine_safety",
    /// What was promised survives every crash.
    Durability = "durability",
    /// Clients see one store.
    Linearizability = "linearizability",
    /// Watchers get every event of theirs once, in order.
    Watch = "watch",
    /// No lease ends early, none lives for ever.
    LeaseExpiry = "lease_expiry",
    /// No revision that a client sees goes back.
    MonotoneRevisions = "monotone_revisions",
    /// A store that is full refuses what grows, until its alarm is disarmed, and only then.
    Quota = "quota",
    /// Automatic compaction keeps what it promised to keep.
    Compaction = "compaction",
    /// A server calls a participant only when the log says so, and only while it owns the shard.
    GlobalCalls = "global_calls",
    /// What clients were told of a global transaction stands.
    GlobalDecisions = "global_decisions",
    /// A global transaction happens at all of its participants or at none.
    GlobalAtomicity = "global_atomicity",
    /// A global transaction ends when the faults have.
    GlobalEnd = "global_end",
    /// A server stops only for its disk, and starts again unless its data is damaged.
    Availability = "availability",
    /// When the faults end, work goes on, and all servers agree.
    Liveness = "liveness",
    /// No assertion fails.
    Assertion = "assertion",
}

impl FromStr for Property {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|property| property.to_string() == text);
        found.copied().ok_or_else(|| format!("no such property: {text}"))
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// When it was seen.
    pub at: Time,
    /// The evidence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violated at {}: {}", self.property, self.at, self.what)
    }
}

/// All checkers that look at every step, and the first violation.
#[derive(Debug)]
pub struct Checks {
    only: Option<Property>,
    violation: Option<Violation>,
    logs: Logs,
    /// Elections.
    pub elections: ElectionSafety,
    matching: LogMatching,
    durability: Durability,
    /// The committed log and what it leads to.
    pub machine: StateMachineSafety,
    /// Leases.
    pub leases: LeaseExpiry,
    /// Revisions that clients saw.
    pub revisions: MonotoneRevisions,
    /// The alarm of a full store.
    pub quota: Quota,
    /// Compactions.
    pub compaction: Compaction,
    /// Global transactions.
    pub global: GlobalTxns,
}

impl Checks {
    /// Checks of everything, or of one property.
    #[must_use]
    pub fn new(only: Option<Property>, clocks: ClockBounds, compaction: AutoCompaction) -> Self {
        Self {
            only,
            violation: None,
            logs: Logs::default(),
            elections: ElectionSafety::default(),
            matching: LogMatching::default(),
            durability: Durability::default(),
            machine: StateMachineSafety::default(),
            leases: LeaseExpiry::new(clocks),
            revisions: MonotoneRevisions::default(),
            quota: Quota::default(),
            compaction: Compaction::new(compaction, clocks.fast_ppm),
            global: GlobalTxns::default(),
        }
    }

    /// The first violation.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Notes the result of a check.
    pub fn note(&mut self, property: Property, at: Time, result: Result<(), String>) {
        let wanted = self.only.is_none_or(|only| only == property);
        if let (Err(what), true, None) = (result, wanted, &self.violation) {
            self.violation = Some(Violation { property, at, what });
        }
    }

    /// A server starts with what recovery found. `fresh`: it was empty before.
    pub fn recovered(&mut self, at: Time, node: NodeId, recovered: &Recovered) {
        let result = self.durability.recovered(node, self.logs.of(node), recovered);
        self.note(Property::Durability, at, result);
        self.logs.recovered(node, recovered);
        self.durability.started(node, recovered);
    }

    /// A server hands something to its disk.
    pub fn persist(&mut self, at: Time, node: NodeId, persist: &Persist) {
        let cut = self.logs.append(node, &persist.entries);
        let log = self.logs.of(node);
        self.durability.persist(node, persist, cut, log.last());
        let result = self.matching.appended(node, log, &persist.entries);
        self.note(Property::LogMatching, at, result);
    }

    /// A server was told that everything up to `seq` is durable.
    pub fn persisted(&mut self, node: NodeId, seq: Seq) {
        self.durability.persisted(node, seq);
    }

    /// A server has begun to install a snapshot.
    pub fn installing(&mut self, node: NodeId) {
        self.durability.installing(node);
    }

    /// A server stands on a snapshot, durably.
    pub fn installed(&mut self, node: NodeId, start: LogStart) {
        self.logs.installed(node, start);
        self.durability.installed(node, start.index.0);
    }

    /// A server says that it leads.
    pub fn leads(&mut self, at: Time, node: NodeId, term: Term) {
        let result = self.elections.elected(node, term);
        self.note(Property::ElectionSafety, at, result);
        let result = check_leader(node, term, self.logs.of(node), self.machine.committed());
        self.note(Property::LeaderCompleteness, at, result);
    }

    /// Who could replace the first entry of `leader` that is not committed: with an entry of its own there,
    /// of a later term. For who wants to make it happen.
    pub fn rival_of(&mut self, leader: NodeId) -> Option<NodeId> {
        let open = self.machine.committed().len() as u64 + 1;
        let term = self.logs.of(leader).entry(open)?.term;
        self.logs.newer_at(open, term)
    }

    /// A server has applied more of its log.
    pub fn applied(&mut self, at: Time, node: NodeId, from: u64, to: u64, revision: i64) {
        let (facts, result) = self.machine.applied(node, self.logs.of(node), from, to, revision);
        self.note(Property::StateMachineSafety, at, result);
        for fact in facts {
            self.learn(at, fact);
        }
        for (property, result) in self.global.learn(self.machine.internal()) {
            self.note(property, at, result);
        }
    }

    fn learn(&mut self, at: Time, fact: Fact) {
        match fact {
            Fact::Lease(fact) => {
                let result = self.leases.fact(at, &fact);
                self.note(Property::LeaseExpiry, at, result);
            }
            Fact::NoSpace(stands) => self.quota.alarm(at, stands),
            Fact::Reached(revision) => self.compaction.reached(at, revision),
            Fact::Compacted { revision, current } => {
                let result = self.compaction.compacted(at, revision, current);
                self.note(Property::Compaction, at, result);
            }
        }
    }

    /// Some server's clock jumped forward.
    pub fn clock_jumped(&mut self, at: Time) {
        self.leases.clock_jumped(at);
        self.compaction.clock_jumped(at);
    }

    /// A server tells its watchers.
    pub fn events(&mut self, at: Time, node: NodeId, batches: &[EventBatch]) {
        let result = self.machine.events_agree(node, batches);
        self.note(Property::StateMachineSafety, at, result);
    }
}
