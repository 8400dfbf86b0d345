//! What `/v1/` says and is told, as Rust types: the server writes them, `quorate txn` reads them, and the OpenAPI
//! document is made of them.
//!
//! A field that does not apply is left out. Times are RFC 3339 in UTC. Text that came from elsewhere (answers of
//! participants, payloads) is cut off at a bound and shown as it is: whoever prints it takes care of control characters.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::time::Time;

/// Most characters of who intervenes.
pub(crate) const BY_CHARS: usize = 256;

/// The kind of a global transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Saga,
    Tcc,
    Xa,
    Msg,
    Workflow,
    #[serde(rename = "3pc")]
    ThreePhase,
}

/// Where a global transaction stands; `succeed` and `failed` are its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Prepared,
    Submitted,
    Aborting,
    Succeed,
    Failed,
}

/// How far an operation of a branch is: `prepared` is not done, or never to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Progress {
    Prepared,
    Succeed,
    Failed,
}

/// What an answer was taken for: `failure` is a refusal for good, `ongoing` is "not yet", of an `error` nobody knows
/// whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Success,
    Failure,
    Ongoing,
    Error,
}

/// An answer that was not success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Answer {
    /// What it was taken for.
    pub(crate) outcome: Outcome,
    /// What it said, cut off at a bound.
    pub(crate) text: String,
}

/// A global transaction in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Summary {
    /// Its name.
    pub(crate) gid: String,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    /// Whether a call that it waits for has failed so often that it was reported. It is tried again, but
    /// somebody should look.
    pub(crate) stuck: bool,
    /// Whether an operator ended it, or a part of it, by hand: the promise of all or nothing is theirs.
    pub(crate) overridden: bool,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created: Time,
    /// When its record changed for the last time.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated: Time,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) ended: Option<Time>,
    /// When there is something to do for it: a call, or the end of its time. Converted from the group's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) next_try: Option<Time>,
    /// Operations of branches.
    pub(crate) operations: u32,
    /// How many of them have succeeded.
    pub(crate) succeeded: u32,
    /// Operations that the status waits for.
    pub(crate) waiting: u32,
    /// Errors of the call that is waited for, the one with the most; 0: none has failed.
    pub(crate) errors: u32,
    /// What that call was answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) last_answer: Option<Answer>,
    /// Why it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) reason: Option<String>,
}

/// A page of transactions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Page {
    pub(crate) txns: Vec<Summary>,
    /// Give this as `after` to go on; left out: there are no more. A page may be short, even empty, and not the last one:
    /// a request looks at a bounded number of transactions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<String>,
}

/// The head of what a call carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Payload {
    /// How long it is as a whole.
    pub(crate) bytes: u64,
    /// Its first 1024 bytes as text.
    pub(crate) text: String,
}

/// One operation of one branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Branch {
    pub(crate) branch_id: String,
    /// What it does: `action`, `compensate`, `confirm` and so on.
    pub(crate) op: String,
    pub(crate) status: Progress,
    /// Whether the transaction waits for it now: what can be skipped.
    pub(crate) waiting: bool,
    /// Where it is called; empty: nowhere, it succeeds by itself.
    pub(crate) url: String,
    /// What the call carries.
    pub(crate) payload: Payload,
    /// Errors so far, or since the last "retry now".
    pub(crate) errors: u32,
    /// Not called again before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) next_try: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) last_answer: Option<Answer>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) ended: Option<Time>,
}

/// The transaction's own URL: where a message's sender is asked, or a workflow is called back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Callback {
    pub(crate) url: String,
    /// Whether the transaction waits for it now.
    pub(crate) waiting: bool,
    pub(crate) errors: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) next_try: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) last_answer: Option<Answer>,
}

/// What its client chose; 0 of a number is "the server's default", or "none".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Options {
    /// For URLs that do not say it: `http`, `grpc` or `json-rpc`.
    pub(crate) protocol: String,
    pub(crate) wait_result: bool,
    pub(crate) concurrent: bool,
    pub(crate) strict: bool,
    pub(crate) timeout_ms: u64,
    pub(crate) request_timeout_ms: u64,
    pub(crate) retry_interval_ms: u64,
    pub(crate) retry_limit: u32,
    pub(crate) delay_ms: u64,
    /// For each step of a saga the steps before it.
    pub(crate) orders: Vec<Vec<u32>>,
}

/// A global transaction with everything that belongs to it but its timeline and its audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Txn {
    pub(crate) txn: Summary,
    pub(crate) options: Options,
    /// Its branches' operations in order of creation.
    pub(crate) branches: Vec<Branch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) callback: Option<Callback>,
    /// As its client sent it; its first 1024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) custom_data: Option<String>,
    /// A workflow's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) name: Option<String>,
    /// A workflow's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) input: Option<Payload>,
    /// A workflow's result (base64), its first 1024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) result: Option<String>,
    /// Names of the headers that each call carries; their values may be secrets.
    pub(crate) headers: Vec<String>,
    /// Further tries of a saga's actions so far.
    pub(crate) retries: u32,
    /// Entries of its timeline.
    pub(crate) calls: u32,
    /// Entries of its audit.
    pub(crate) audits: u32,
    /// The revision at which the present driver took ownership; 0: nobody has yet. It grows with each change of leader.
    pub(crate) owner_epoch: i64,
}

/// An answered call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Call {
    /// When it was answered.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Time,
    /// `00` for the transaction's own URL.
    pub(crate) branch_id: String,
    pub(crate) op: String,
    /// Where it went.
    pub(crate) url: String,
    /// From leaving to answer, in microseconds.
    pub(crate) latency_us: u64,
    /// Attempts that were made, each at one of the destination's addresses.
    pub(crate) attempts: u32,
    pub(crate) outcome: Outcome,
    /// What it said, cut off at a bound; empty for a success.
    pub(crate) text: String,
}

/// A page of a transaction's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Timeline {
    pub(crate) gid: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created: Time,
    /// Answered calls, in order. Only the first ones of a transaction are kept.
    pub(crate) calls: Vec<Call>,
    /// Whether as many as are kept have been made, so that there may have been more.
    pub(crate) is_full: bool,
    /// Give this as `after` to go on; left out: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<u32>,
}

/// What an operator did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Deed {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Time,
    /// Who, as they said.
    pub(crate) by: String,
    /// What.
    pub(crate) what: String,
    /// Why, as they said.
    pub(crate) why: String,
}

/// A page of what operators did to a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Audit {
    pub(crate) gid: String,
    pub(crate) deeds: Vec<Deed>,
    /// Give this as `after` to go on; left out: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<u32>,
}

/// Who intervenes and why. Nobody checks it: it is for those who read the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intervention {
    /// Who.
    #[schema(min_length = 1, max_length = 256)]
    pub(crate) by: String,
    /// Why; its first 1024 bytes are kept.
    #[schema(min_length = 1, max_length = 1024)]
    pub(crate) why: String,
}

/// Which operation to take for done, who says so and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    /// The branch.
    #[schema(min_length = 1, max_length = 128)]
    pub(crate) branch_id: String,
    /// The operation, such as `action` or `confirm`.
    #[schema(min_length = 1, max_length = 128)]
    pub(crate) op: String,
    /// Who.
    #[schema(min_length = 1, max_length = 256)]
    pub(crate) by: String,
    /// Why; its first 1024 bytes are kept.
    #[schema(min_length = 1, max_length = 1024)]
    pub(crate) why: String,
}

/// It is done and written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Done {
    pub(crate) gid: String,
    /// How the transaction stood just after; left out: that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) txn: Option<Summary>,
}

/// Who wants to hear of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Subscriber {
    pub(crate) url: String,
    pub(crate) remark: String,
}

/// A topic of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// 1 when it was made, one more with each change.
    pub(crate) version: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created: Time,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated: Time,
    /// In order of subscription.
    pub(crate) subscribers: Vec<Subscriber>,
}

/// A page of topics, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Topics {
    pub(crate) topics: Vec<Topic>,
    /// Give this as `after` to go on; left out: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<String>,
}

/// How many transactions of a kind entered each status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OfKind {
    pub(crate) kind: Kind,
    pub(crate) begun: u64,
    pub(crate) prepared: u64,
    pub(crate) submitted: u64,
    pub(crate) aborting: u64,
    pub(crate) succeed: u64,
    pub(crate) failed: u64,
    /// P(prepare): submitted over begun; left out as long as none was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) p_prepare: Option<f64>,
    /// P(commit | prepare): succeed over submitted; left out as long as none was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) p_commit_given_prepare: Option<f64>,
}

/// What the answering node has counted since it started, while it was the driver. Add up the nodes, or ask the leader for
/// what is going on now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Figures {
    /// The member that answers, as its id in hexadecimal.
    pub(crate) member: String,
    /// The leader, which drives; left out: none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) leader: Option<String>,
    /// Whether the answering member drives.
    pub(crate) is_driving: bool,
    /// Transactions that are being worked on.
    pub(crate) active: u64,
    /// Transactions that wait for their time, as far ahead as is looked.
    pub(crate) waiting: u64,
    /// Transactions with a call that failed so often that it was reported, as far as this driver has seen.
    pub(crate) stuck: u64,
    /// Calls under way.
    pub(crate) calls: u64,
    /// Requests of clients under way on this member.
    pub(crate) requests: u64,
    pub(crate) calls_succeeded: u64,
    pub(crate) calls_failed: u64,
    /// Answers of FAILURE where a participant must succeed: a programming error over there.
    pub(crate) must_succeed_failures: u64,
    pub(crate) kinds: Vec<OfKind>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Failed {
    pub(crate) error: Reason,
}

/// A word for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reason {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// What kind of reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// 400: a parameter or the body is not as it should be.
    BadRequest,
    /// 403: sent by a web page of another site.
    Forbidden,
    /// 404: no such transaction, or no such route.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408: the body did not come in time; nothing was changed.
    TooSlow,
    /// 409: not in this state; nothing was changed.
    Conflict,
    /// 413.
    TooLarge,
    /// 415: the body is not `application/json`.
    UnsupportedMediaType,
    /// 503: nobody can answer now; nothing was changed. Try again.
    Unavailable,
    /// 503: nobody knows whether it was done. Look before doing it again.
    UnknownOutcome,
    /// 507: the store is full (its quota, or the disk); nothing was changed, and nothing will be until somebody makes
    /// room.
    NoSpace,
}
