//! What goes into a node and what comes out.
//!
//! The shell (or the simulator) owns one `Node` and calls `step(now, input, &mut out)`; it ends each
//! burst of inputs with `Input::Flush`, carries out the outputs in order, and then does the same with
//! `Input::Apply`:
//!
//! - `Persist` goes to the log's writer; its answer is `Input::Persisted` (cumulative).
//! - `Send` goes to a peer; its durability condition has already been met.
//! - `Events` goes to every watch hub, **before** the replies behind it, so that a client which has
//!   the reply to its put and then opens a watch never sees that put as news.
//! - `Reply` answers a request exactly once; `id` was chosen by the shell.
//! - `Attempt` is a call to somebody else's service; its answer is `Input::AttemptDone`.
//! - `Sealed` tells the engine's thread that there is a table to write out, `Defragment` that it shall
//!   then merge all files.

use std::sync::Arc;

use quorate_consensus::{
    Entry, GroupId, LogIndex, LogStart, Membership, Message, NodeId, Persist, Role, Seq, Term,
};
use quorate_kv::{
    Alarm, Command, EventBatch, KeyspaceId, LeaseId, LeaseStatus, Refusal, Reply as KvReply,
    Revision, View,
};
use quorate_outcall::{AttemptId, AttemptResult, Call};

/// A request's number, chosen by the shell, unique among its outstanding requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the shell tells the node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client wants something.
    Request {
        /// Where the reply goes.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// Everything handed over up to `seq` is durable.
    Persisted {
        /// The last durable `Persist`.
        seq: Seq,
    },
    /// The engine completed the checkpoint that was sealed with this applied index.
    EngineDurable {
        /// That index.
        applied: LogIndex,
    },
    /// What `Output::Defragment` asked for is done. Comes after the `EngineDurable` of every checkpoint
    /// that was written before it.
    Defragmented,
    /// A message of a peer whose identity the connection has proved.
    Message {
        /// The sender.
        from: NodeId,
        /// Its group.
        group: GroupId,
        /// The message.
        message: Message,
    },
    /// The connection to a peer broke.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// Entries that `ReadLog` asked for; empty when they are gone.
    LogRead {
        /// The peer they are for.
        to: NodeId,
        /// Consecutive entries.
        entries: Vec<Entry>,
    },
    /// A snapshot from a peer lies, complete and synced, in the engine directory `generation`.
    /// Answered by `Output::Install` or `Output::DropSnapshot`.
    SnapshotOffered {
        /// Last position that it contains, with term and time.
        start: LogStart,
        /// The membership as of `start`.
        membership: Membership,
        /// The directory.
        generation: u64,
    },
    /// How the sending of a snapshot ended.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// Up to where it stands now; `None`: it failed.
        installed: Option<LogIndex>,
    },
    /// The disk's free space fell below the watermark, or rose above it again.
    DiskSpace {
        /// Whether writes must be refused.
        full: bool,
    },
    /// An attempt that `Output::Attempt` asked for has ended.
    AttemptDone {
        /// Which.
        attempt: AttemptId,
        /// How.
        result: AttemptResult,
    },
    /// What the wall clock says, in ms since 1970; told at the start and now and then. It is shown to people
    /// and decides nothing (contract 4).
    WallClock {
        /// The time.
        now_ms: u64,
    },
    /// End of a burst: what it asks of the log and of the peers goes out.
    Flush,
    /// Committed entries may be applied, as many as fit into a burst. Given when the outputs of `Flush`
    /// have been carried out, so that the log's writer has work meanwhile.
    Apply,
    /// Only time has passed.
    Tick,
}

/// What a client may ask of a node.
#[derive(Clone, Debug)]
pub enum Request {
    /// Replicate and apply a command. The node checks it first, raises TTLs, chooses lease ids.
    /// Answered by `Reply::Applied`.
    Command {
        /// In which keyspace.
        keyspace: KeyspaceId,
        /// The command.
        command: Command,
    },
    /// Extend a lease; coalesced with others of the burst. Answered by `Reply::LeaseRenewed`.
    LeaseKeepAlive {
        /// In which keyspace.
        keyspace: KeyspaceId,
        /// Which.
        id: LeaseId,
    },
    /// A view to read from: of everything applied here (`linearizable: false`) or of everything
    /// acknowledged anywhere before this request. Answered by `Reply::View`.
    View {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// Whether a read barrier is needed.
        linearizable: bool,
    },
    /// One lease with its remaining time; linearizable. Answered by `Reply::Lease`.
    LeaseTimeToLive {
        /// In which keyspace.
        keyspace: KeyspaceId,
        /// Which.
        id: LeaseId,
    },
    /// All leases of a keyspace, soonest deadline first; linearizable. Answered by `Reply::Leases`.
    Leases {
        /// Of which keyspace.
        keyspace: KeyspaceId,
    },
    /// This node's view of itself. Answered by `Reply::Status`, at once.
    Status,
    /// What global transactions and calls to other services count here. Answered by `Reply::LayerFigures`, at once.
    LayerFigures,
    /// The members. Answered by `Reply::Members`.
    Members {
        /// Whether a read barrier is needed.
        linearizable: bool,
    },
    /// Change the membership. Answered by `Reply::Members` (with `changed`).
    ChangeMember(MemberChange),
    /// Give the space of what is dead back to the file system, now. Answered by `Reply::Done` when all
    /// files have been merged, or when the request's time has run out in the middle of that.
    Defragment,
    /// Wait until nothing that was compacted so far stands in the engine any more. Answered by
    /// `Reply::Done`, however long it takes; what is asked for here is done anyway, only not always soon.
    FinishCompaction,
    /// Something about a global transaction. Answered by `Reply::GlobalTxn`.
    GlobalTxn(Box<quorate_global_txn::Request>),
    /// Hand leadership to this voter. Answered by `Reply::Done` when it leads.
    MoveLeader {
        /// The successor.
        to: NodeId,
    },
}

/// A change of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Add one.
    Add {
        /// Its id, chosen by the shell from URLs, cluster token and wall clock as etcd does.
        id: NodeId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// As a learner.
        learner: bool,
    },
    /// Remove one for ever.
    Remove {
        /// Which.
        id: NodeId,
    },
    /// New peer URLs.
    Update {
        /// Which.
        id: NodeId,
        /// The new URLs.
        peer_urls: Vec<String>,
    },
    /// Let a learner vote.
    Promote {
        /// Which.
        id: NodeId,
    },
    /// A started member tells its name and client URLs (etcd's "publish").
    Publish {
        /// Which.
        id: NodeId,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
}

/// A member as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it is a learner.
    pub learner: bool,
}

/// Where a reply comes from; what a response header needs besides the revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The keyspace's revision, 0 where the request has no keyspace.
    pub revision: Revision,
    /// The node's term.
    pub term: Term,
}

/// Answer to a request.
#[derive(Clone, Debug)]
pub enum Reply<S: quorate_engine::Read> {
    /// A command was applied: its result, which may be a refusal.
    Applied {
        /// Revision and term after it.
        stamp: Stamp,
        /// The result.
        result: Result<KvReply, Refusal>,
    },
    /// A lease was renewed: its TTL in seconds, 0 if there is none such.
    LeaseRenewed {
        /// Revision and term.
        stamp: Stamp,
        /// Seconds.
        ttl_s: i64,
    },
    /// A view to read from, on any thread.
    View {
        /// Revision and term.
        stamp: Stamp,
        /// The view.
        view: View<S>,
    },
    /// A lease.
    Lease {
        /// Revision and term.
        stamp: Stamp,
        /// The lease, if it exists.
        lease: Option<LeaseStatus>,
        /// Group time now, in ms: what its deadline is to be compared with.
        now_ms: u64,
        /// A view in which its keys can be looked up.
        view: View<S>,
    },
    /// Leases.
    Leases {
        /// Revision and term.
        stamp: Stamp,
        /// Soonest deadline first.
        leases: Vec<LeaseStatus>,
    },
    /// Status.
    Status(Box<Status>),
    /// Figures of the layers.
    LayerFigures(Box<LayerFigures>),
    /// Members.
    Members {
        /// Term (the revision is 0, as etcd has it).
        stamp: Stamp,
        /// All members, by id.
        members: Vec<MemberInfo>,
        /// The id that was added or changed, if this answers a change.
        changed: Option<NodeId>,
    },
    /// What the machine of global transactions says.
    GlobalTxn(quorate_global_txn::Reply),
    /// Done, nothing to tell.
    Done {
        /// Revision and term.
        stamp: Stamp,
    },
    /// Not done. `Failure::outcome_unknown` says whether it may still happen.
    Failed(Failure),
}

/// Why a request was not answered with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No leader is known; nothing was appended. Retry later.
    #[error("no leader")]
    NoLeader,
    /// The leader changed before a read was confirmed, or before a command reached the log: it has not been and will
    /// not be applied. Retry.
    #[error("leader changed")]
    LeaderChanged,
    /// No answer in time. **The command may have been, or may yet be, applied.**
    #[error("request timed out")]
    Timeout,
    /// A bound was reached; nothing was appended. Retry later.
    #[error("too many requests")]
    Overloaded,
    /// Refused before proposing, with the state machine's own reason; nothing was appended.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Only the leader does this.
    #[error("not leader")]
    NotLeader,
    /// Learners serve only status and serializable reads.
    #[error("rpc not supported for learner")]
    Learner,
    /// The node is stopping.
    #[error("server stopped")]
    Stopped,
    /// MoveLeader to a node that is unknown or a learner.
    #[error("bad leader transferee")]
    BadTransferee,
    /// Leadership did not move within an election timeout; it stays where it is.
    #[error("leader transfer timeout")]
    TransferTimeout,
    /// A member change was refused.
    #[error("{0}")]
    Member(#[from] MemberRefusal),
}

impl Failure {
    /// Whether a command that failed like this may nevertheless have been, or yet be, applied.
    #[must_use]
    pub fn outcome_unknown(self) -> bool {
        self == Self::Timeout
    }
}

/// Why a member change was refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// No such member, or removed before.
    #[error("member not found")]
    NotFound,
    /// The id is taken.
    #[error("member ID already exist")]
    IdExists,
    /// Another member has one of these peer URLs.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// Too few members would be up.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// It votes already.
    #[error("can only promote a learner member")]
    NotLearner,
    /// The learner lags.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// One learner at a time.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// No quorum was reachable for some time.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// Another change is under way. Retry later.
    #[error("a membership change is under way")]
    ChangePending,
}

/// What the layers count: global transactions, and calls to other people's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFigures {
    /// Global transactions.
    pub global_txn: quorate_global_txn::Figures,
    /// The same, by more labels.
    pub tally: quorate_global_txn::Tally,
    /// Calls.
    pub outcalls: quorate_outcall::Figures,
}

/// What a node knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub id: NodeId,
    /// Role and term.
    pub role: Role,
    /// Term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// Whether it is a learner.
    pub learner: bool,
    /// Highest committed index it knows.
    pub commit: LogIndex,
    /// Last applied index.
    pub applied: LogIndex,
    /// Last index in its log.
    pub last: LogIndex,
    /// The etcd keyspace's revision.
    pub revision: Revision,
    /// The etcd keyspace's compact revision.
    pub compact_revision: Revision,
    /// The engine's figures.
    pub usage: quorate_engine::Usage,
    /// The quota in bytes; 0 = none.
    pub quota_bytes: u64,
    /// Standing alarms.
    pub alarms: Vec<Alarm>,
    /// Whether the local disk is full.
    pub disk_full: bool,
    /// Times the leader changed as seen here.
    pub leader_changes: u64,
    /// Commands proposed here and not yet answered.
    pub pending: usize,
    /// Commands proposed here that failed or timed out.
    pub failed: u64,
    /// Leases.
    pub leases: usize,
}

/// What the node wants done.
#[derive(Clone, Debug)]
pub enum Output<S: quorate_engine::Read> {
    /// Make durable, in order.
    Persist {
        /// Of which group.
        group: GroupId,
        /// What.
        persist: Persist,
    },
    /// The log before `start` is no longer needed: the engine's checkpoint contains it.
    Release {
        /// Of which group.
        group: GroupId,
        /// The new start of the log.
        start: LogStart,
        /// The membership as of `start`.
        membership: Membership,
        /// Which generation of the engine contains it.
        generation: u64,
    },
    /// Send to a peer, now.
    Send {
        /// The peer.
        to: NodeId,
        /// Of which group.
        group: GroupId,
        /// The message.
        message: Message,
    },
    /// What happened, for the watch hubs.
    Events(Vec<EventBatch>),
    /// History before this revision is gone, for the watch hubs.
    Compacted {
        /// In which keyspace.
        keyspace: KeyspaceId,
        /// The oldest readable revision.
        revision: Revision,
    },
    /// Answer a request.
    Reply {
        /// Which.
        id: RequestId,
        /// The answer.
        reply: Reply<S>,
    },
    /// Call somebody else's service; answered by `Input::AttemptDone`.
    Attempt {
        /// The attempt's number.
        attempt: AttemptId,
        /// What to send.
        call: Arc<Call>,
        /// Which of the destination's addresses, to be taken modulo their number.
        address: u32,
        /// How long it may take.
        timeout: std::time::Duration,
    },
    /// Stop this attempt; its result does not matter.
    AbortAttempt {
        /// Which.
        attempt: AttemptId,
    },
    /// The engine has a sealed table to write out.
    Sealed,
    /// Write the sealed tables out, then merge all files of the engine: answered by
    /// `Input::Defragmented`.
    Defragment,
    /// Read entries from the log on disk, for a lagging peer.
    ReadLog {
        /// The peer.
        to: NodeId,
        /// Of which group.
        group: GroupId,
        /// First wanted.
        from: LogIndex,
        /// Position after the last wanted.
        until: LogIndex,
        /// Bound on the answer, at least one entry.
        max_bytes: usize,
    },
    /// This peer needs entries that the log no longer has: send it this view, all of it; answered by
    /// `Input::SnapshotSent`.
    SendSnapshot {
        /// The peer.
        to: NodeId,
        /// Of which group.
        group: GroupId,
        /// Last position that the view contains, with term and time.
        start: LogStart,
        /// The membership as of `start`.
        membership: Membership,
        /// The view: every pair of the engine.
        snapshot: S,
    },
    /// Write the `Installed` record, in order with every `Persist`; when it is durable, open the
    /// engine directory and call `Node::install`; then the old directory may go.
    Install {
        /// Of which group.
        group: GroupId,
        /// The new start of the log.
        start: LogStart,
        /// The membership as of `start`.
        membership: Membership,
        /// The engine directory.
        generation: u64,
    },
    /// The offered snapshot is not wanted: delete it.
    DropSnapshot {
        /// Its directory.
        generation: u64,
    },
    /// The state jumped to this revision without events, for the watch hubs.
    Jumped {
        /// In which keyspace.
        keyspace: KeyspaceId,
        /// The revision.
        revision: Revision,
        /// The oldest readable revision.
        compact_revision: Revision,
    },
    /// Members changed: the transport connects and disconnects accordingly.
    Members(Vec<MemberInfo>),
    /// Leadership changed, for logs and metrics.
    Leader {
        /// The term.
        term: Term,
        /// The leader, if known.
        leader: Option<NodeId>,
        /// This node's role.
        role: Role,
    },
}

/// How a node is set up; all of it fixed for its life.
#[derive(Clone, Debug)]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// This node.
    pub id: NodeId,
    /// A random number of this start: replies of an earlier life are not taken for this one's.
    pub boot: u64,
    /// Seed of everything random (election jitter, lease ids).
    pub seed: u64,
    /// Heartbeat interval.
    pub heartbeat: std::time::Duration,
    /// Election timeout; the shortest lease is 1.5 times this, in whole seconds.
    pub election_timeout: std::time::Duration,
    /// Operations in a transaction.
    pub max_txn_ops: usize,
    /// Largest encoded command, in bytes (etcd's 1.5 MiB).
    pub max_request_bytes: usize,
    /// Quota on the engine, in bytes; 0 = none.
    pub quota_bytes: u64,
    /// Seal the engine's active table at this size, in bytes.
    pub table_bytes: u64,
    /// Bytes of the log's tail that are kept in memory for peers that lag.
    pub log_cache_bytes: usize,
    /// Engine generation that this node runs on.
    pub generation: u64,
    /// How long a client waits before the outcome is called unknown.
    pub request_timeout: std::time::Duration,
    /// Automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// Global transactions.
    pub global_txn: quorate_global_txn::Config,
    /// Bounds of calls to other people's services.
    pub outcall: quorate_outcall::limits::Limits,
}

/// When history is compacted without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    #[default]
    Off,
    /// Keep this window of time.
    Periodic(std::time::Duration),
    /// Keep this many revisions, checked every 5 minutes.
    Revisions(i64),
}
