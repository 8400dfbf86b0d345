//! Raft as a value that is stepped: state, dispatch and what all roles share.
//!
//! One file a concern:
//!
//! | file | what |
//! |---|---|
//! | `log` | cached tail, terms, what is durable |
//! | `disk` | what is handed to the disk and what may be applied |
//! | `term` | higher and lower terms, changes of role |
//! | `candidate` | pre-vote, votes, elections (5.2, 5.4.1; thesis 9.6) |
//! | `leader` | proposals, commitment (5.3, 5.4.2), check-quorum, transfer (thesis 3.10) |
//! | `replicate` | feeding the peers: appends, window, back-tracking, snapshots |
//! | `progress` | what the leader knows of one peer |
//! | `follower` | appends and heartbeats received, acknowledgements |
//! | `read` | read barriers (thesis 6.4) |
//! | `forward` | proposals on their way to the leader (contract 15) |
//! | `membership` | single-member changes (thesis 4) |
//! | `install` | snapshots and truncation of the log's head |
//! | `clock` | group time and jitter |
//! | `inspect` | read-only accessors, invariants |
//! | `witness` | what members saw of each other's promises (contract 8) |
//! | `planted` | bugs on purpose, in builds of the simulator |
//!
//! A step goes: advance the clock, handle the input, run due timers, hand over what became applicable,
//! report a change of role. Nothing is sent twice for one cause and nothing recurses between nodes.

mod candidate;
mod clock;
mod disk;
mod follower;
mod forward;
mod halt;
mod inspect;
mod install;
mod leader;
mod log;
mod membership;
mod planted;
mod progress;
mod read;
mod replicate;
mod term;
#[cfg(test)]
mod tests;
mod witness;

use std::time::Duration;

use quorate_rng::Rng;

use self::candidate::Candidate;
use self::disk::Disk;
use self::follower::Follower;
pub use self::halt::Halt;
use self::leader::Leader;
use self::log::Log;
use self::membership::Members;
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub))]
pub use self::planted::PlantedBug;
pub use self::progress::{Flow, Progress};
pub use self::witness::{Forgotten, Witness};
use crate::limits::Limits;
use crate::{
    Body, Entry, GroupId, GroupTime, Input, LogIndex, Message, NodeId, Output, Recovered, Role,
    RoleChange, Seq, Term,
};

/// Who this machine is and how it behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// The group whose log this is.
    pub group: GroupId,
    /// How often a leader speaks to its peers. Default 100 ms.
    pub heartbeat: Duration,
    /// How long silence lasts before an election; twice that at most. Default 1 s. Also the bound
    /// within which a leader without a quorum steps down. Must be at least twice the heartbeat.
    pub election_timeout: Duration,
    /// Seed of election jitter **and** of the names of read requests, so it must differ from boot to
    /// boot: an answer to a read of an earlier boot must not pass for a fresh one.
    pub seed: u64,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// Default timing and limits.
    #[must_use]
    pub fn new(id: NodeId, group: GroupId, seed: u64) -> Self {
        Self {
            id,
            group,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            seed,
            limits: Limits::default(),
        }
    }

    fn check(&self) -> Result<(), Halt> {
        if self.id.0 == 0 {
            return Err(Halt::Config("node id 0 means none"));
        }
        if self.heartbeat.is_zero() || self.election_timeout < self.heartbeat * 2 {
            return Err(Halt::Config("the election timeout must be at least two heartbeats"));
        }
        Ok(())
    }
}

/// What differs from role to role.
enum State {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// One member's part of a replicated log.
pub struct Raft {
    config: Config,
    rng: Rng,
    now: Duration,
    started: bool,
    halted: Option<Halt>,
    term: Term,
    vote: Option<NodeId>,
    leader: Option<NodeId>,
    state: State,
    log: Log,
    members: Members,
    commit: LogIndex,
    /// Handed to the state machine.
    handed: LogIndex,
    /// Reported as applied by the state machine.
    applied: LogIndex,
    disk: Disk,
    /// When this node starts an election unless it hears from a leader. Unused while it leads.
    election_at: Duration,
    /// When it last heard from a leader of its term.
    contact: Option<Duration>,
    read_context: u64,
    reported: RoleChange,
    planted: Option<PlantedBug>,
}

impl Raft {
    /// A machine that continues where `recovered` ends. Nothing happens before the first `step`.
    ///
    /// # Errors
    /// `Halt::Config`, or `Halt::Recovery` if `recovered` contradicts itself.
    pub fn new(config: Config, recovered: Recovered) -> Result<Self, Halt> {
        config.check()?;
        install::check_recovered(&recovered)?;
        let Recovered { hard_state, start, membership, entries, applied } = recovered;
        let mut rng = Rng::new(config.seed);
        let read_context = rng.next();
        let mut raft = Self {
            rng,
            now: Duration::ZERO,
            started: false,
            halted: None,
            term: hard_state.term,
            vote: hard_state.vote,
            leader: None,
            state: State::Follower(Follower::default()),
            log: Log::new(start),
            members: Members::new(start.index, membership),
            commit: hard_state.commit.max(applied),
            handed: applied,
            applied,
            disk: Disk { saved: hard_state, ..Disk::default() },
            election_at: Duration::ZERO,
            contact: None,
            read_context,
            reported: RoleChange { role: Role::Follower, term: hard_state.term, leader: None },
            planted: None,
            config,
        };
        entries.into_iter().for_each(|entry| raft.append_entry(entry));
        raft.log.recovered();
        // A log of `first_entries`, or of a snapshot, may come without a recorded term: nobody can have
        // been voted for in it.
        if raft.term < raft.log.last_term() {
            raft.term = raft.log.last_term();
            raft.vote = None;
        }
        raft.reported.term = raft.term;
        raft.members.committed(raft.commit);
        raft.evict();
        Ok(raft)
    }

    /// Feeds one input at `now`, the monotonic time since an arbitrary origin of this process; appends
    /// what must be done to `out`.
    ///
    /// # Errors
    /// A `Halt` is final: `out` is as before, and every later step returns the same.
    pub fn step(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        if let Some(halt) = &self.halted {
            return Err(halt.clone());
        }
        let before = out.len();
        let result = self.advance(now, input, out);
        if let Err(halt) = &result {
            out.truncate(before);
            self.halted = Some(halt.clone());
        }
        result
    }

    fn advance(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        self.observe(now);
        self.dispatch(input, out)?;
        self.run_timers(out)?;
        self.hand_over(out);
        self.report_role(out);
        Ok(())
    }

    /// Time never goes back, whatever the driver says.
    fn observe(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if let State::Leader(leader) = &mut self.state {
            leader.clock.advance(self.now);
        }
        if !self.started {
            self.started = true;
            self.reset_election_timer();
        }
    }

    fn dispatch(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), Halt> {
        match input {
            Input::Message { from, message } => self.on_message(from, message, out)?,
            Input::Propose { origin, data } => self.on_propose(origin, data, out),
            Input::ProposeTime => self.on_propose_time(),
            Input::ChangeMembership { origin, membership } => {
                self.on_change(origin, membership, out);
            }
            Input::Read { id } => self.on_read(id, out),
            Input::Persisted { seq } => self.on_persisted(seq, out)?,
            Input::Applied { index } => self.on_applied(index)?,
            Input::Compact { index } => self.on_compact(index)?,
            Input::LogRead { to, entries } => self.on_log_read(to, entries, out)?,
            Input::SnapshotInstalled { index, term, time, membership } => {
                self.on_installed(crate::LogStart { index, term, time }, membership, out)?;
            }
            Input::SnapshotSent { to, installed } => self.on_snapshot_sent(to, installed),
            Input::Unreachable { peer } => self.on_unreachable(peer),
            Input::TransferLeadership { to } => self.on_transfer(to, out),
            Input::Flush => self.flush(out),
            Input::Tick => {}
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        from: NodeId,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let Message { group, term, body } = message;
        if group != self.config.group || from == self.config.id {
            return Ok(());
        }
        if !self.settle_term(from, term, &body, out) {
            return Ok(());
        }
        match body {
            Body::PreVote { last_index, last_term } => {
                self.on_pre_vote(from, term, last_index, last_term, out);
            }
            Body::PreVoteReply { asked, granted } => {
                self.on_pre_vote_reply(from, asked, granted, out)
            }
            Body::Vote { last_index, last_term, .. } => {
                self.on_vote(from, last_index, last_term, out);
            }
            Body::VoteReply { granted } => self.on_vote_reply(from, granted, out),
            Body::Append { prev_index, prev_term, commit, entries } => {
                self.on_append(from, (prev_index, prev_term), commit, entries, out)?;
            }
            Body::Accepted { last } => self.on_accepted(from, last, out),
            Body::Rejected { prev_index, hint_index, hint_term } => {
                self.on_rejected(from, prev_index, hint_index, hint_term);
            }
            Body::Heartbeat { commit, round } => self.on_heartbeat(from, commit, round, out)?,
            Body::HeartbeatReply { round } => self.on_heartbeat_reply(from, round, out),
            Body::Commit { commit } => self.on_commit_of(from, commit, out)?,
            Body::TimeoutNow => self.on_timeout_now(from, out),
            Body::Forward { proposals } => self.on_forward(from, proposals, out),
            Body::ForwardRefused { origins, reason } => {
                self.on_forward_refused(origins, reason, out)
            }
            Body::ReadRequest { context } => self.on_read_request(from, context, out),
            Body::ReadReply { context, result } => self.on_read_reply(context, result, out),
            Body::NewerTerm => {}
        }
        Ok(())
    }

    /// Appends in memory; a membership is in force at once.
    fn append_entry(&mut self, entry: Entry) {
        if self.members.appended(&entry) && self.started {
            self.sync_progress();
        }
        self.log.append(entry);
    }

    /// End of a burst: entries to the disk and to the peers, gathered reads and forwards on their way.
    fn flush(&mut self, out: &mut Vec<Output>) {
        self.persist(true, out);
        match self.state {
            State::Follower(_) => self.flush_follower(out),
            State::Candidate(_) => {}
            State::Leader(_) => self.flush_leader(out),
        }
    }

    fn run_timers(&mut self, out: &mut Vec<Output>) -> Result<(), Halt> {
        match self.state {
            State::Leader(_) => self.run_leader_timers(out),
            State::Follower(_) => {
                self.expire_reads(out);
                self.run_election_timer(out);
            }
            State::Candidate(_) => self.run_election_timer(out),
        }
        Ok(())
    }

    fn report_role(&mut self, out: &mut Vec<Output>) {
        let change = RoleChange { role: self.role(), term: self.term, leader: self.leader };
        if change != self.reported {
            self.reported = change;
            out.push(Output::Role(change));
        }
    }

    fn send(&self, to: NodeId, after: Seq, body: Body, out: &mut Vec<Output>) {
        let message = Message { group: self.config.group, term: self.term, body };
        out.push(Output::Send { to, after, message });
    }

    /// Members other than this node.
    fn peers(&self) -> Vec<NodeId> {
        let members = &self.members.current().members;
        members.iter().map(|m| m.id).filter(|id| *id != self.config.id).collect()
    }

    /// Raises the commit index; the log reaches there.
    fn raise_commit(&mut self, to: LogIndex) {
        assert!(to <= self.log.last(), "committed entries are in the log");
        if to > self.commit {
            self.commit = to;
            self.members.committed(to);
        }
    }

    /// The last group time in the log.
    #[must_use]
    pub fn last_stamp(&self) -> GroupTime {
        self.log.last_time()
    }
}
