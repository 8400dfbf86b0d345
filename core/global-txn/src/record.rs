//! What is durable of a global transaction.
//!
//! The *record* (`g/<gid>`) is small and rewritten at every change: kind, status, options, one *row* for each
//! operation of a branch, and when it is due. What clients gave once and nobody changes, payloads and URLs,
//! lies beside it: the *content* of the transaction (`b/<gid>`) and a *part* for each branch that was
//! registered later. `docs/internals/global-txn-format.md` gives every byte.
//!
//! A record is changed by `transition` alone. Times of the group (`*_ms` without `wall`) drive it; wall-clock
//! times are for people who look at it.

use bytes::Bytes;

/// What kind of global transaction it is (DTM's `trans_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Actions, undone by compensations in reverse.
    Saga,
    /// Try, then confirm or cancel.
    Tcc,
    /// Prepare in the participants' databases, then commit or rollback.
    Xa,
    /// A two-phase message: kept back until its sender has committed, then delivered for certain.
    Msg,
    /// A function of the application, restarted from here until it ends.
    Workflow,
    /// Three-phase commit.
    ThreePhase,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Saga, Self::Tcc, Self::Xa, Self::Msg, Self::Workflow, Self::ThreePhase];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Saga => "saga",
            Self::Tcc => "tcc",
            Self::Xa => "xa",
            Self::Msg => "msg",
            Self::Workflow => "workflow",
            Self::ThreePhase => "3pc",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a global transaction stands. See the diagram in `transition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Begun; its application has not yet said how it ends.
    Prepared,
    /// It shall happen.
    Submitted,
    /// It shall not have happened: what was done is being undone.
    Aborting,
    /// It has happened. Final.
    Succeed,
    /// It has not happened, or an operator stopped it. Final.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Prepared, Self::Submitted, Self::Aborting, Self::Succeed, Self::Failed];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Submitted => "submitted",
            Self::Aborting => "aborting",
            Self::Succeed => "succeed",
            Self::Failed => "failed",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeed | Self::Failed)
    }
}

/// Which protocol calls use when the URL does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    #[default]
    Http,
    /// gRPC, unless the URL begins with `http://` or `https://`.
    Grpc,
    /// JSON-RPC over HTTP.
    JsonRpc,
}

/// What a client may choose. 0 of a number means "the server's default", or "none" where it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// For URLs that do not say it.
    pub protocol: Protocol,
    /// Answer submit and abort only after one pass over the branches.
    pub wait_result: bool,
    /// Call branches in parallel (saga, msg).
    pub concurrent: bool,
    /// Take only 200 with a body that names no failure for success, and look for the result in the JSON, not
    /// in any substring.
    pub strict: bool,
    /// Give the calls of a saga's step what the steps before it answered.
    pub pass_results: bool,
    /// Milliseconds after which an undecided transaction is rolled back or checked; 0: the default,
    /// for a saga never.
    pub timeout_ms: u64,
    /// Milliseconds that a call may take.
    pub request_timeout_ms: u64,
    /// Milliseconds between two tries of a call, doubled at each error.
    pub retry_interval_ms: u64,
    /// Further tries of a saga's actions, in all, before it is rolled back; 0: no bound.
    pub retry_limit: u32,
    /// Milliseconds after its creation before a message is delivered; 0: at once.
    pub delay_ms: u64,
    /// For each step of a saga the steps (from 0) that must have succeeded before it; empty: none named.
    pub orders: Vec<Vec<u32>>,
}

/// What an operation does to its branch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Forward (saga, xa, msg).
    Action,
    /// Undo an action (saga).
    Compensate,
    /// Reserve (tcc); called by the application, never by the server.
    Try,
    /// Make the reservation real (tcc).
    Confirm,
    /// Drop the reservation (tcc).
    Cancel,
    /// Commit what was prepared (xa).
    Commit,
    /// Roll back what was prepared (xa).
    Rollback,
    /// Ask the sender of a message whether it committed.
    CheckBack,
    /// Ask whether the branch could commit (3pc).
    CanCommit,
    /// Tell it that all can (3pc).
    PreCommit,
    /// Commit (3pc).
    DoCommit,
    /// Undo (3pc).
    Abort,
    /// A workflow's own, or its callback, by name.
    Named(String),
}

impl Op {
    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Action => "action",
            Self::Compensate => "compensate",
            Self::Try => "try",
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::CheckBack => "msg",
            Self::CanCommit => "can_commit",
            Self::PreCommit => "pre_commit",
            Self::DoCommit => "do_commit",
            Self::Abort => "abort",
            Self::Named(name) => name,
        }
    }
}

/// How far an operation of a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowStatus {
    /// Not done, or never to be done.
    Prepared,
    /// Done.
    Succeed,
    /// Refused by the participant.
    Failed,
}

impl RowStatus {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Succeed => "succeed",
            Self::Failed => "failed",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Prepared, Self::Succeed, Self::Failed].into_iter().find(|s| s.name() == name)
    }
}

/// Where an operation's URL and payload stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this step of the content.
    Step(u32),
    /// In this part.
    Part(u32),
}

/// One operation of one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The branch.
    pub branch_id: String,
    /// What it does.
    pub op: Op,
    /// How far it is.
    pub status: RowStatus,
    /// Where URL and payload stand.
    pub source: Source,
    /// Whether there is a URL to call; without one it succeeds by itself.
    pub has_url: bool,
    /// Of a compensation: whether it is needed. Decided when the rollback began.
    pub is_needed: bool,
    /// Its tries.
    pub tries: Tries,
    /// Wall clock when it was created, in ms since 1970.
    pub created_wall_ms: u64,
    /// Wall clock when it ended; 0: it has not.
    pub finished_wall_ms: u64,
}

/// The tries of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Errors so far; each doubles the interval.
    pub errors: u32,
    /// Not again before this group time, in ms; 0: at once.
    pub next_ms: u64,
    /// The last answer that was not success.
    pub last: Option<Answer>,
}

/// An answer that was not success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it was taken for.
    pub class: Class,
    /// What it said, cut off at a bound.
    pub text: String,
}

/// How a call, or a request, did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Refused, for good (409, `FAILURE`).
    Failure,
    /// Not yet through (425, `ONGOING`).
    Ongoing,
    /// Anything else: whether it took effect is not known.
    Error,
}

/// The durable state of a global transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its kind.
    pub kind: Kind,
    /// Where it stands.
    pub status: Status,
    /// What its client chose.
    pub options: Options,
    /// Its rows in order of creation.
    pub rows: Vec<Row>,
    /// Parts that were registered; the next one's number.
    pub parts: u32,
    /// Entries of its timeline; the next one's number.
    pub calls: u32,
    /// Entries of its audit; the next one's number.
    pub audits: u32,
    /// Whether there is a content record.
    pub has_content: bool,
    /// Whether calls need the content even where the payload stands in a part: it has headers.
    pub has_headers: bool,
    /// Whether there is a URL to ask or to call back (`query_prepared`).
    pub has_query: bool,
    /// Tries of that URL.
    pub callback: Tries,
    /// Further tries of a saga's actions so far.
    pub retry_count: u32,
    /// Group time of its creation, in ms: timeouts count from here.
    pub created_ms: u64,
    /// Group time when it entered its status, in ms.
    pub since_ms: u64,
    /// Group time of its last change, in ms.
    pub changed_ms: u64,
    /// Under which group time it stands in the due index; `None` once it is final.
    pub due_ms: Option<u64>,
    /// Under which group time it stands in the index of finished ones.
    pub done_ms: Option<u64>,
    /// Wall clock of its creation, in ms since 1970.
    pub created_wall_ms: u64,
    /// Wall clock of its last change.
    pub updated_wall_ms: u64,
    /// Wall clock of its end; 0: it has not ended.
    pub finished_wall_ms: u64,
    /// Why it was rolled back, if it was.
    pub rollback_reason: String,
    /// A workflow's result, as its client sent it (base64).
    pub result: String,
    /// Whether an operator ended it or a part of it by hand.
    pub is_forced: bool,
}

/// An answered call, as the timeline keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEntry {
    /// Wall clock of the answer, in ms since 1970.
    pub wall_ms: u64,
    /// Which branch was called; `00` for the transaction's own URL.
    pub branch_id: String,
    /// As what.
    pub op: String,
    /// What the answer was taken for; `None`: success.
    pub class: Option<Class>,
    /// From leaving to answer, in microseconds.
    pub latency_us: u64,
    /// Attempts that were made.
    pub attempts: u32,
    /// What it said, cut off at a bound; empty for a success.
    pub text: String,
}

/// What an operator did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Wall clock, in ms since 1970.
    pub wall_ms: u64,
    /// Who.
    pub by: String,
    /// What, in words.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Who wants to hear of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// 1 when it was made, one more with each change.
    pub version: u64,
    /// Wall clock when it was made, in ms since 1970.
    pub created_wall_ms: u64,
    /// Wall clock of its last change.
    pub updated_wall_ms: u64,
    /// Subscribers in order of subscription.
    pub subscribers: Vec<Subscriber>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// Where to call it.
    pub url: String,
    /// A note.
    pub remark: String,
}

/// A step of a saga or a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Where to call it; empty: nothing to do.
    pub action: String,
    /// Where to undo it; empty: nothing to do.
    pub compensate: String,
}

/// What a client gave when it began the transaction, and nobody changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Steps of a saga or a message.
    pub steps: Vec<Step>,
    /// One for each step. Of a workflow: the first one is its input.
    pub payloads: Vec<Bytes>,
    /// Headers of each call.
    pub headers: Vec<(String, String)>,
    /// Where to ask the sender of a message, or to restart a workflow.
    pub query_prepared: String,
    /// As the client sent it. What it says has been put into the options and `name`.
    pub custom_data: String,
    /// A workflow's name.
    pub name: String,
}

/// What a saga's action answered, kept for the steps behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepResult(pub Bytes);

/// What a client gave when it registered a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// A URL for each of its rows, in their order; empty for a workflow's.
    pub urls: Vec<String>,
    /// The payload.
    pub data: Bytes,
}
