//! What goes into the machine and what comes out.
//!
//! The host steps one [`GlobalTxn`](crate::GlobalTxn) beside its key-value machine and carries out the
//! outputs in order:
//!
//! - `Txn` is proposed once, as a command in [`KEYSPACE`]; answered by `Input::Txn` with the same id, after
//!   it was applied here, or once it is known that nothing was appended, or that nobody knows.
//! - `Range` is read from what has been applied here, **at once**: `Input::Range` comes before any other input.
//!   `more` and the pairs are used, `count` is not, so that `View::page` with `range` and `limit` will do.
//! - `Call` goes to the machine of outgoing calls; answered by `Input::Called` exactly once, unless it was
//!   cancelled: then an answer may still come and is ignored.
//! - `Reply` answers a request, exactly once.
//!
//! `Applied` must bring every change in `KEYSPACE` from the moment on at which the machine was made, in order,
//! each change before any range result that shows a later state **of that record** is fine but not needed:
//! older news than what is known is ignored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_kv::{Event, KeyspaceId, RangeRequest, RangeResult, Refusal};
use quorate_kv::{TxnRequest, TxnResult};

use crate::gid::GlobalTxnId;
use crate::record::{Class, Content, Options, Record, Status};

pub use crate::planted::Bug as PlantedBug;
pub use quorate_outcall::{Call, CallId, CallResult};

/// The keyspace that holds global transactions, without a history. Clients of etcd's API never see it.
pub const KEYSPACE: KeyspaceId = KeyspaceId(256);

/// A request's number, chosen by the host, unique among its outstanding requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A proposal's number, chosen by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u64);

/// A read's number, chosen by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What time it is, three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// This process's own, never backwards: for pauses.
    pub mono: Duration,
    /// The group's, in ms: for due times and timeouts. Exact on the leader, estimated elsewhere.
    pub group_ms: u64,
    /// The wall clock, in ms since 1970: for display.
    pub wall_ms: u64,
}

/// What an operator configures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Default timeout of tcc, xa, 3pc and of a message before its check-back, in ms.
    pub timeout_ms: u64,
    /// Default time that a call may take, in ms.
    pub request_timeout_ms: u64,
    /// Default pause between two tries, in ms.
    pub retry_interval_ms: u64,
    /// The longest that errors make this pause, in ms; a longer interval asked for stays as it is.
    pub max_backoff_ms: u64,
    /// How long finished transactions are kept, in ms.
    pub retention_ms: u64,
    /// Whether results are taken strictly where the transaction does not say.
    pub strict: bool,
    /// Errors of one call after which it is reported, at each further one.
    pub alert_after: u32,
    /// Where it is reported, by a POST (the spec's 2.3); empty: nowhere.
    pub alert_url: String,
    /// Answered calls that a transaction's timeline keeps, the first ones; 0: no timelines.
    pub timeline_calls: u32,
    /// A rule that is broken on purpose, for the checkers of tests and of the simulator to find; looked at nowhere else.
    pub planted: Option<PlantedBug>,
    /// Bounds of what is in memory, for tests that reach them.
    #[cfg(test)]
    pub(crate) is_tiny: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout_ms: 35_000,
            request_timeout_ms: 3_000,
            retry_interval_ms: 10_000,
            max_backoff_ms: 300_000,
            retention_ms: 86_400_000,
            strict: false,
            alert_after: 3,
            alert_url: String::new(),
            timeline_calls: 64,
            planted: None,
            #[cfg(test)]
            is_tiny: false,
        }
    }
}

/// What the host tells the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client wants something.
    Request {
        /// Where the reply goes.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// What became of a proposal.
    Txn {
        /// Which.
        id: TxnId,
        /// What.
        outcome: TxnOutcome,
    },
    /// What a read brought.
    Range {
        /// Which.
        id: ReadId,
        /// The pairs.
        result: RangeResult,
    },
    /// Changes in [`KEYSPACE`], one revision.
    Applied {
        /// In the order of operations.
        events: Arc<[Event]>,
    },
    /// How a call ended.
    Called {
        /// Which.
        id: CallId,
        /// How.
        result: CallResult,
    },
    /// This node leads from now on.
    Leading,
    /// It no longer does.
    Following,
    /// Only time has passed.
    Tick,
}

/// What became of a proposal.
#[derive(Clone, Debug)]
pub enum TxnOutcome {
    /// It was applied.
    Done(TxnResult),
    /// The state machine refused it: nothing changed.
    Refused(Refusal),
    /// It was not appended (overload, no leader): nothing changed or will.
    Rejected,
    /// It may have been, or may yet be, applied.
    Unknown,
}

/// What the machine wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Propose this in [`KEYSPACE`].
    Txn {
        /// Its number.
        id: TxnId,
        /// What.
        txn: TxnRequest,
        /// Whether it takes in something new, which a full store may refuse. What was accepted has to come to
        /// its end all the same.
        takes_in: bool,
    },
    /// Read this.
    Range {
        /// Its number.
        id: ReadId,
        /// What.
        range: RangeRequest,
    },
    /// Call a participant.
    Call {
        /// Its number.
        id: CallId,
        /// What.
        call: Call,
    },
    /// Its answer is of no use any more.
    CancelCall {
        /// Which.
        id: CallId,
    },
    /// Answer a request.
    Reply {
        /// Which.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
}

/// What a client may ask.
#[derive(Clone, Debug)]
pub enum Request {
    /// Begin a transaction that will be submitted or aborted later. Answered by `Done`.
    Prepare(Box<Body>),
    /// It shall happen: begin it so, or go on with a prepared one. Of a workflow: it ended (`outcome`). Answered by
    /// `Done`, at once or, with `wait_result`, after one pass.
    Submit(Box<Body>),
    /// Begin a workflow, or take one up again. Answered by `Progress`.
    PrepareWorkflow(Box<Body>),
    /// It shall not have happened. Answered by `Done`.
    Abort {
        /// Which.
        gid: String,
        /// What the client believes its kind to be.
        trans_type: String,
        /// Why; may be empty.
        reason: String,
    },
    /// A branch joins. Answered by `Done`.
    RegisterBranch(Box<BranchRequest>),
    /// An operator ends it as failed; nobody is called any more. Answered by `Done`.
    ForceStop {
        /// Which.
        gid: String,
    },
    /// Try what it waits for now. Answered by `Done`.
    RetryNow {
        /// Which.
        gid: String,
    },
    /// An operator intervenes; what was changed is kept in the transaction's audit. Answered by `Done`.
    Operate {
        /// Which.
        gid: String,
        /// How.
        operation: Operation,
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Wants to hear of a topic, which is made if there is none. Answered by `Done`.
    Subscribe {
        /// Its name.
        topic: String,
        /// Where to call.
        url: String,
        /// A note.
        remark: String,
    },
    /// Does not want to hear of it any more. Answered by `Done`.
    Unsubscribe {
        /// Its name.
        topic: String,
        /// Where.
        url: String,
    },
    /// There is no such topic any more. Answered by `Done`.
    DeleteTopic {
        /// Its name.
        topic: String,
    },
}

/// What an operator can do to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// End it as failed; nobody is called any more.
    Stop,
    /// Try what it waits for now.
    RetryNow,
    /// Take for done what it waits for: a row, by branch and operation. Somebody has seen to it by hand.
    Skip {
        /// The branch.
        branch_id: String,
        /// The operation.
        op: String,
    },
    /// Decide that it shall happen; only as long as nothing is decided.
    Submit,
    /// Decide that it shall not; only as long as nothing is decided, a saga until it has ended.
    Abort,
}

/// Body of a request that begins or submits a transaction, as the rim has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The gid, as sent.
    pub gid: String,
    /// The kind's name, as sent.
    pub trans_type: String,
    /// Options; of a saga `concurrent` and `orders`, of a message `delay_ms` come from `custom_data`.
    pub options: Options,
    /// Steps, payloads and the rest.
    pub content: Content,
    /// Of the submit of a workflow: how it ended (`req_extra`).
    pub outcome: Option<WorkflowOutcome>,
}

/// How a workflow ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowOutcome {
    /// `succeed` or `failed`.
    pub status: String,
    /// Why it failed.
    pub rollback_reason: String,
    /// Its result, base64.
    pub result: String,
}

/// A branch that joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BranchRequest {
    /// The gid, as sent.
    pub gid: String,
    /// The kind's name, as sent.
    pub trans_type: String,
    /// The branch's id.
    pub branch_id: String,
    /// The payload of its calls; of a workflow: what the step returned.
    pub data: Bytes,
    /// All other fields, as sent: `confirm`, `cancel`, `url`, `op`, `status` and so on.
    pub fields: Vec<(String, String)>,
}

impl BranchRequest {
    /// A field's value; empty if it was not sent.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// A workflow and what it has done so far.
    Progress(Box<Progress>),
    /// Not done.
    Refused(Refused),
}

/// A workflow and what it has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub gid: GlobalTxnId,
    /// Its state.
    pub record: Record,
    /// For each row what its step returned.
    pub data: Vec<Bytes>,
}

/// Why a request was not done. Nothing was changed, unless `is_unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// How it is told: `Failure` = 409, `Ongoing` = 425, `Error` = 500.
    pub class: Class,
    /// In DTM's words.
    pub text: String,
    /// Where the transaction stands, if that is known.
    pub status: Option<Status>,
    /// Whether it may have been, or may yet be, done. Asking again is harmless.
    pub is_unknown: bool,
    /// Whether the reason passes (no leader, overload): nothing was done, and asking again later may work.
    pub is_transient: bool,
    /// Whether the store is full (its quota, or the disk): nothing was done, and nothing will be until somebody makes room.
    pub is_full: bool,
    /// Whether the transaction waits for its own time, a message with a delay: nothing is wrong with it.
    pub is_delayed: bool,
}

impl Refused {
    /// A refusal that clients take for final. The sentinel that old clients look for is appended.
    #[must_use]
    pub fn failure(text: impl Into<String>) -> Self {
        Self::new(Class::Failure, ending(text.into(), "FAILURE"))
    }

    /// Any other error.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(Class::Error, text.into())
    }

    /// Not now, for a reason that passes.
    #[must_use]
    pub fn transient(text: impl Into<String>) -> Self {
        Self { is_transient: true, ..Self::error(text) }
    }

    /// The state machine's own refusal: nothing was done.
    #[must_use]
    pub(crate) fn of_store(refusal: Refusal) -> Self {
        let is_full = refusal == Refusal::NoSpace;
        let text = match refusal {
            Refusal::NoSpace => {
                "the store is full (quota exceeded): nothing was written; make room or raise the quota"
                    .to_owned()
            }
            Refusal::TooLarge => {
                "the transaction is larger than one request to the store may be: nothing was written"
                    .to_owned()
            }
            other => format!("the store refused it, nothing was written: {other}"),
        };
        Self { is_full, ..Self::error(text) }
    }

    /// Not yet through. Its sentinel is appended as well.
    #[must_use]
    pub fn ongoing(text: impl Into<String>) -> Self {
        Self::new(Class::Ongoing, ending(text.into(), "ONGOING"))
    }

    /// The same, with where the transaction stands.
    #[must_use]
    pub fn at(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    fn new(class: Class, text: String) -> Self {
        Self {
            class,
            text,
            status: None,
            is_unknown: false,
            is_transient: false,
            is_full: false,
            is_delayed: false,
        }
    }
}

fn ending(text: String, sentinel: &str) -> String {
    match text.as_str() {
        "" => sentinel.to_owned(),
        text if text.ends_with(sentinel) => text.to_owned(),
        text => format!("{text} {sentinel}"),
    }
}

/// A record does not decode, or an index contradicts its record. The process stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("global transactions: {0}")]
pub struct Halt(pub String);

/// Counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Transactions that the driver works on.
    pub active: usize,
    /// Transactions that wait in memory for their time.
    pub waiting: usize,
    /// Calls under way.
    pub calls: usize,
    /// Requests under way.
    pub requests: usize,
    /// Requests that wait for a result.
    pub waiters: usize,
    /// Whether this node drives.
    pub is_driving: bool,
    /// Transactions that this driver brought to `succeed` since it started.
    pub succeeded: u64,
    /// Transactions that this driver brought to `failed`.
    pub failed: u64,
    /// How many transactions entered a status while this node drove: by kind, in the order of `Kind::ALL`, and
    /// status, in the order of `Status::ALL`.
    pub entered: [[u64; 5]; 6],
    /// Of each kind, how many were given up before they were submitted. P(prepare) is submitted over submitted and
    /// given up: of those that were decided meanwhile, so that neither what is undecided nor what another node saw
    /// begin distorts it.
    pub given_up: [u64; 6],
    /// Of each kind, how many were rolled back or stopped after they were submitted. P(commit | prepare) is succeed over
    /// succeed and turned back.
    pub turned_back: [u64; 6],
    /// Of each kind, how many were begun meanwhile.
    pub begun: [u64; 6],
    /// Transactions with a call that failed so often that it was reported, and that have not ended; as far as
    /// this driver has seen.
    pub stuck: usize,
    /// Calls that succeeded.
    pub calls_succeeded: u64,
    /// Calls that did not.
    pub calls_failed: u64,
    /// Answers of FAILURE where a participant must succeed: a programming error over there.
    pub must_succeed_failures: u64,
}
