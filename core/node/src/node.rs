//! The node: one value that owns the log's machine, the state machine, the engine and everything that
//! waits, and routes between them. Each concern has its own file, as an `impl` of [`Node`]:
//! `requests` (what clients ask), `raft` (what consensus wants done), `apply` (committed entries),
//! `leases`, `flush` (the end of a burst: reads, checkpoints, compaction), `defragment`, `layers` (machines
//! that write through the log: global transactions) and `timers`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_consensus::{
    self as consensus, Entry, LogIndex, LogStart, Membership, NodeId, Origin, Payload, Raft,
    Recovered, Role, Seq, Term,
};
use quorate_engine::{Engine, EngineError};
use quorate_kv::{KeyspaceId, Kv, LeaseId};
use quorate_rng::Rng;

use crate::autocompact::AutoCompactor;
use crate::defragment::Defragments;
use crate::install::Installing;
use crate::layers::Layers;
use crate::outbox::Outbox;
use crate::pending::Pending;
use crate::reads::{Reads, Transfer};
use crate::{Config, Input, Output, RequestId, Stamp};

/// Why a node stops. No output of the step that returned this has left; the process must end, and what
/// it knows after the restart is what its log and its last checkpoint say.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The log's machine found its rules broken.
    #[error(transparent)]
    Consensus(#[from] consensus::Halt),
    /// The state machine found an entry or a record that it cannot know.
    #[error(transparent)]
    Kv(#[from] quorate_kv::Halt),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The machine of global transactions found a record that it cannot know.
    #[error(transparent)]
    GlobalTxn(#[from] quorate_global_txn::Halt),
    /// The log holds a command that this version does not know: it was written by a newer one.
    #[error("entry {0} of the log holds a command that this version does not know")]
    UnknownCommand(u64),
    /// The log and the engine do not meet: entries between them are missing.
    #[error(
        "the log starts after index {start} and ends at {last}, but the engine's state is at {applied}"
    )]
    LogAndEngineApart {
        /// Position before the first entry.
        start: u64,
        /// Last position.
        last: u64,
        /// The engine's.
        applied: u64,
    },
    /// An earlier step failed.
    #[error("the node has stopped")]
    Stopped,
}

/// Lease renewals of one burst, for one keyspace.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    pub(crate) ids: Vec<LeaseId>,
    pub(crate) requests: Vec<RequestId>,
}

/// A whole server, without its sockets, files, clock and threads.
pub struct Node<E: Engine> {
    pub(crate) config: Config,
    pub(crate) raft: Raft,
    pub(crate) kv: Kv,
    pub(crate) engine: E,
    pub(crate) pending: Pending,
    pub(crate) reads: Reads,
    pub(crate) outbox: Outbox,
    pub(crate) renewals: BTreeMap<KeyspaceId, Renewals>,
    pub(crate) expiring: BTreeSet<(KeyspaceId, LeaseId)>,
    /// Sealed tables that are not durable yet, oldest first, with what the log then starts after.
    pub(crate) checkpoints: VecDeque<(LogStart, Membership)>,
    /// Applied index of the newest checkpoint, sealed or complete.
    pub(crate) sealed: LogIndex,
    /// The last applied entry, and the membership as of it.
    pub(crate) applied: LogStart,
    pub(crate) membership: Membership,
    /// Committed entries whose turn has not come, the next one first.
    pub(crate) unapplied: VecDeque<Entry>,
    pub(crate) installing: Option<Installing>,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) autocompact: AutoCompactor,
    pub(crate) next_compaction: Option<Duration>,
    pub(crate) defragments: Defragments,
    pub(crate) alarm_proposed: bool,
    pub(crate) disk_full: bool,
    pub(crate) leader: (Term, Option<NodeId>, Role),
    pub(crate) leader_changes: u64,
    pub(crate) rng: Rng,
    pub(crate) layers: Layers,
    halted: bool,
}

impl<E: Engine> Node<E> {
    /// A node that goes on where the log and the engine say. `recovered.applied` is taken from `kv`.
    ///
    /// # Errors
    /// `LogAndEngineApart` or any other `Halt`: the data must be refused.
    pub fn new(config: Config, mut recovered: Recovered, kv: Kv, engine: E) -> Result<Self, Halt> {
        recovered.applied = LogIndex(kv.applied());
        check_contiguous(&recovered)?;
        let (applied, membership) = state_at_applied(&recovered);
        let raft = Raft::new(raft_config(&config), recovered)?;
        Ok(Self {
            autocompact: AutoCompactor::new(config.auto_compaction),
            rng: Rng::new(config.seed),
            pending: Pending::default(),
            reads: Reads::default(),
            outbox: Outbox::default(),
            renewals: BTreeMap::new(),
            expiring: BTreeSet::new(),
            checkpoints: VecDeque::new(),
            sealed: applied.index,
            next_compaction: Some(Duration::ZERO),
            defragments: Defragments::default(),
            unapplied: VecDeque::new(),
            installing: None,
            transfer: None,
            alarm_proposed: false,
            disk_full: false,
            leader: (Term(0), None, Role::Follower),
            leader_changes: 0,
            halted: false,
            layers: Layers::new(&config),
            config,
            raft,
            kv,
            engine,
            applied,
            membership,
        })
    }

    /// Takes one input at `now` (monotonic time since any fixed origin) and appends what is to be done.
    ///
    /// # Errors
    /// `Halt`: `out` is as it was, and every later call fails.
    pub fn step(
        &mut self,
        now: Duration,
        input: Input,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if self.halted {
            return Err(Halt::Stopped);
        }
        let before = out.len();
        self.dispatch(now, input, out).inspect_err(|_| {
            self.halted = true;
            out.truncate(before);
        })
    }

    fn dispatch(
        &mut self,
        now: Duration,
        input: Input,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        if self.installing.is_some() {
            return self.while_installing(now, input, out);
        }
        match input {
            Input::Request { id, request } => self.request(now, id, request, out),
            Input::Persisted { seq } => self.persisted(now, seq, out),
            Input::EngineDurable { applied } => self.engine_durable(now, applied, out),
            Input::Defragmented => {
                self.defragmented(out);
                Ok(())
            }
            Input::Message { from, group, message } => {
                assert_eq!(group, self.config.group, "the shell routes messages by group");
                self.raft(now, consensus::Input::Message { from, message }, out)
            }
            Input::Unreachable { peer } => {
                self.raft(now, consensus::Input::Unreachable { peer }, out)
            }
            Input::LogRead { to, entries } => {
                self.raft(now, consensus::Input::LogRead { to, entries }, out)
            }
            Input::SnapshotOffered { start, membership, generation } => {
                self.snapshot_offered(start, membership, generation, out);
                Ok(())
            }
            Input::SnapshotSent { to, installed } => self.snapshot_sent(now, to, installed, out),
            Input::DiskSpace { full } => {
                self.disk_full = full;
                Ok(())
            }
            Input::AttemptDone { attempt, result } => self.attempt_done(now, attempt, result, out),
            Input::WallClock { now_ms } => {
                self.layers.set_wall_clock(now, now_ms);
                Ok(())
            }
            Input::Flush => self.flush(now, out),
            Input::Apply => self.apply_burst(now, out),
            Input::Tick => {
                self.raft(now, consensus::Input::Tick, out)?;
                self.timers(now, out)
            }
        }
    }

    pub(crate) fn persisted(
        &mut self,
        now: Duration,
        seq: Seq,
        out: &mut Vec<Output<E::Snapshot>>,
    ) -> Result<(), Halt> {
        let group = self.config.group;
        let free = self.outbox.persisted(seq);
        out.extend(free.into_iter().map(|(to, message)| Output::Send { to, group, message }));
        self.raft(now, consensus::Input::Persisted { seq }, out)
    }

    /// Whether `Input::Apply` has something to do.
    #[must_use]
    pub fn has_unapplied(&self) -> bool {
        !self.unapplied.is_empty() && self.installing.is_none()
    }

    /// The state machine, for checks and for the shell's own reading.
    #[must_use]
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// What the layers count: global transactions, and calls to other people's services.
    #[must_use]
    pub fn layer_figures(&self) -> (quorate_global_txn::Figures, quorate_outcall::Figures) {
        self.layers.figures()
    }

    /// The log's machine, for checks.
    #[must_use]
    pub fn raft_machine(&self) -> &Raft {
        &self.raft
    }

    /// The engine; the simulator completes its checkpoints.
    #[must_use]
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Breaks a rule of consensus on purpose.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: consensus::PlantedBug) {
        self.raft.plant(bug);
    }

    /// Gives the engine back: what a crash leaves of it is its owner's matter.
    #[must_use]
    pub fn into_engine(self) -> E {
        self.engine
    }

    pub(crate) fn stamp(&self, keyspace: KeyspaceId) -> Stamp {
        Stamp { revision: self.kv.revision(keyspace), term: self.raft.term() }
    }

    /// Whether this node is a member that does not count.
    pub(crate) fn is_learner(&self) -> bool {
        self.raft.membership().get(self.config.id).is_some_and(|member| member.learner)
    }

    /// Whether a learner's log has caught up far enough to vote (etcd's 90 %).
    pub(crate) fn in_sync(&self, learner: NodeId) -> bool {
        let last = self.raft.last_index().0;
        self.raft.match_index(learner).is_some_and(|matched| matched.0 >= last - last / 10)
    }

    pub(crate) fn origin(&self, seq: u64) -> Origin {
        Origin { node: self.config.id, boot: self.config.boot, seq }
    }

    pub(crate) fn is_mine(&self, origin: Origin) -> bool {
        origin.node == self.config.id && origin.boot == self.config.boot
    }

    /// Everything that must hold between two steps.
    pub fn invariants(&self) {
        self.raft.invariants();
        self.kv.invariants();
        self.pending.invariants();
        self.outbox.invariants();
        self.defragments.invariants();
        self.layers.invariants();
        assert_eq!(self.kv.applied(), self.applied.index.0, "state machine and node disagree");
        assert!(self.applied.index <= self.raft.commit(), "applied what is not committed");
        let next = self.unapplied.front().map(|entry| entry.index);
        assert!(next.is_none_or(|next| next == self.applied.index.next()), "a gap before {next:?}");
        assert!(
            self.checkpoints.iter().map(|(start, _)| start.index).is_sorted(),
            "checkpoints out of order"
        );
    }
}

fn check_contiguous(recovered: &Recovered) -> Result<(), Halt> {
    let (start, applied) = (recovered.start.index.0, recovered.applied.0);
    let last = recovered.entries.last().map_or(start, |entry| entry.index.0);
    if start <= applied && applied <= last {
        return Ok(());
    }
    Err(Halt::LogAndEngineApart { start, last, applied })
}

/// Position and membership of the last applied entry.
fn state_at_applied(recovered: &Recovered) -> (LogStart, Membership) {
    let (mut at, mut members) = (recovered.start, &recovered.membership);
    for entry in recovered.entries.iter().filter(|entry| entry.index <= recovered.applied) {
        at = LogStart { index: entry.index, term: entry.term, time: entry.time };
        if let Payload::Membership { membership, .. } = &entry.payload {
            members = membership;
        }
    }
    (at, members.clone())
}

fn raft_config(config: &Config) -> consensus::Config {
    let limits = consensus::limits::Limits {
        log_cache_bytes: config.log_cache_bytes,
        ..consensus::limits::Limits::default()
    };
    consensus::Config {
        heartbeat: config.heartbeat,
        election_timeout: config.election_timeout,
        limits,
        ..consensus::Config::new(config.id, config.group, config.seed)
    }
}
