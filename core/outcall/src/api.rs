//! What goes into the machine and what comes out.
//!
//! The host owns one `Outcalls` and calls `step(now, input, &mut out)`. It carries out each `Attempt` and
//! reports it once by `AttemptDone`, unless an `AbortAttempt` came first; a report that comes nevertheless is
//! ignored. Each `Start` is answered by exactly one `Done`, sometimes in the very step.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// A call's number, chosen by who starts it, unique among the calls that are not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// An attempt's number, chosen by the machine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// How a request over HTTP is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Without a body.
    Get,
    /// With the call's body, which may be empty.
    Post,
}

/// The protocol of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1, with TLS if the URL says `https`.
    Http {
        /// How.
        method: Method,
    },
    /// A unary call over HTTP/2: the body is the request message as it is, the answer's body the reply
    /// message. With TLS if the URL says `grpcs` or `https`.
    Grpc,
}

/// When a call is tried again. An attempt may be repeated although the participant has seen it: calls are
/// at-least-once (contract 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts, the first one counted; 0 is taken as 1. Each goes to the next of the destination's
    /// addresses. Another one follows a failed or timed out attempt, and an answer that says that nobody is
    /// there to serve it (502, 503, 504; gRPC `Unavailable`); any other answer ends the call.
    pub attempts: u32,
    /// Pause before the second attempt; doubles with each further one.
    pub pause: Duration,
    /// Bound of the doubling. The real pause lies between half of the computed one and all of it.
    pub longest_pause: Duration,
    /// Bound of the whole call from its start on: waiting for its turn, attempts and pauses. No attempt begins
    /// later, and one under way is cut there.
    pub within: Duration,
}

impl RetryPolicy {
    /// One attempt, which must have ended `within` this time of the call's start.
    #[must_use]
    pub const fn once(within: Duration) -> Self {
        Self { attempts: 1, pause: Duration::ZERO, longest_pause: Duration::ZERO, within }
    }
}

/// What is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `http(s)://authority/path?query`, or for gRPC `authority/package.Service/Method`, optionally after
    /// `grpc://` (the same) or `grpcs://` (TLS). The authority is `host[:port]`, or several such with commas
    /// between them: addresses of the same service. Each name may stand for several addresses itself.
    pub url: String,
    /// The protocol.
    pub wire: Wire,
    /// Header fields (metadata of gRPC), in this order. One of the same name replaces what would be sent.
    pub headers: Vec<(String, String)>,
    /// The request's body; not sent with `Get`.
    pub body: Bytes,
    /// Longest time of one attempt.
    pub timeout: Duration,
    /// More attempts, and the bound of the whole call.
    pub retry: RetryPolicy,
    /// Words of the caller's protocol. An answer whose body or message holds one of them was given by a service
    /// that works, whatever its status: it ends the call and is no failure of the destination.
    pub verdicts: &'static [&'static str],
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// The participant answered; what the answer means is the caller's matter.
    Answered {
        /// HTTP's status, or gRPC's code.
        status: u16,
        /// gRPC's message; empty over HTTP.
        message: String,
        /// The body, or gRPC's reply message; empty if gRPC's code is not 0.
        body: Bytes,
        /// Of the attempt that was answered.
        latency: Duration,
        /// Attempts that were made, at least 1.
        attempts: u32,
    },
    /// There is no answer.
    Failed {
        /// Why, as of the last attempt if there was one.
        why: CallFailure,
        /// From the start of the call on.
        latency: Duration,
        /// Attempts that were made; with 0 the participant has seen nothing.
        attempts: u32,
    },
}

/// Why there is no answer. Nothing of the machine has changed for another call's worse; whether the
/// participant has seen the request is what [`CallFailure::may_have_arrived`] says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The URL cannot be called. Never worth a retry.
    #[error("bad URL: {0}")]
    BadUrl(&'static str),
    /// A bound of [`crate::limits::Limits`] is reached. Try again later.
    #[error("too many calls are waiting")]
    Overloaded,
    /// The destination failed often in a row and is left alone for a while.
    #[error("the destination fails; calls to it are suspended for a while")]
    Suspended {
        /// About when to try again: when the suspension is over, or while one call finds out whether it is,
        /// after the first suspension's time.
        retry_in: Duration,
    },
    /// The whole call's time was over before its turn came. Try again later.
    #[error("no turn came in time: the destination is busy with other calls")]
    NoTurn,
    /// No answer within the attempt's time.
    #[error("no answer in time")]
    Timeout,
    /// No connection: refused, no such host, TLS not accepted, or no connection in time. Nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The connection broke after the request had begun to leave.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// What came back is not an answer of the protocol, is too large, or redirects for ever.
    #[error("bad answer: {0}")]
    BadAnswer(String),
    /// The request cannot be composed, a header field with a line break for one. Never worth a retry.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// `Input::Cancel`.
    #[error("cancelled")]
    Cancelled,
}

impl CallFailure {
    /// Whether an attempt that ended so may have reached the participant.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Timeout | Self::Broken(_) | Self::BadAnswer(_) | Self::Cancelled)
    }
}

/// How an attempt ended; what its executor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// See [`CallResult::Answered`].
    Answered {
        /// HTTP's status, or gRPC's code.
        status: u16,
        /// gRPC's message.
        message: String,
        /// The body.
        body: Bytes,
    },
    /// One of `Timeout`, `Unreachable`, `Broken`, `BadAnswer`, `BadRequest`.
    Failed(CallFailure),
}

/// What the host tells the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Make this call. Answered by exactly one `Output::Done`.
    Start {
        /// Its number.
        id: CallId,
        /// What.
        call: Call,
    },
    /// The call is not wanted any more: answered at once by `Done` with `Cancelled`. A call that is done, or
    /// unknown, is no error.
    Cancel {
        /// Which.
        id: CallId,
    },
    /// An attempt ended.
    AttemptDone {
        /// Which.
        attempt: AttemptId,
        /// How.
        result: AttemptResult,
    },
    /// Only time has passed.
    Tick,
}

/// What the machine wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Carry this out and report it.
    Attempt {
        /// Its number.
        attempt: AttemptId,
        /// What to send.
        call: Arc<Call>,
        /// Which of the destination's addresses, to be taken modulo their number.
        address: u32,
        /// How long it may take; the machine aborts it soon after.
        timeout: Duration,
    },
    /// Stop this attempt; its result does not matter.
    AbortAttempt {
        /// Which.
        attempt: AttemptId,
    },
    /// A call ended.
    Done {
        /// Which.
        id: CallId,
        /// How.
        result: CallResult,
    },
}
