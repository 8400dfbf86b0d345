//! What clients did and what they were told: the only thing that the checkers of clients' promises see.

use std::fmt;

use quorate_consensus::NodeId;
use quorate_kv::{Command, LeaseId, Op, RangeRequest, RangeResult, Refusal, Reply};
use quorate_node::Failure;

use crate::queue::Time;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command through the log.
    Write(Command),
    /// A read of a view.
    Read {
        /// What to read.
        request: RangeRequest,
        /// Whether with a barrier.
        linearizable: bool,
    },
    /// Renewal of a lease.
    KeepAlive(LeaseId),
}

/// What a client knows afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it may have happened, or happen yet, or never.
    Unknown,
    /// It did not happen and never will.
    NotDone(Failure),
    /// A command was applied; perhaps the result is a refusal.
    Replied {
        /// The revision of the response's header.
        revision: i64,
        /// The result.
        result: Result<Reply, Refusal>,
    },
    /// A view was read.
    Read {
        /// The view's revision.
        revision: i64,
        /// The result.
        result: Result<RangeResult, Refusal>,
    },
    /// A lease was renewed.
    Renewed {
        /// The revision of the response's header.
        revision: i64,
        /// Its time to live in seconds; 0: there is none such.
        ttl_s: i64,
    },
}

impl Outcome {
    /// Why the state machine, or the node before it, refused it.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NotDone(Failure::Refused(refusal))
            | Self::Replied { result: Err(refusal), .. }
            | Self::Read { result: Err(refusal), .. } => Some(*refusal),
            _ => None,
        }
    }

    /// The revision that the response spoke of.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Replied { revision, .. }
            | Self::Read { revision, .. }
            | Self::Renewed { revision, .. } => Some(*revision),
            Self::Unknown | Self::NotDone(_) => None,
        }
    }
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Number, unique in the run.
    pub id: u64,
    /// The client.
    pub client: usize,
    /// The server that it asked.
    pub server: NodeId,
    /// What for.
    pub action: Action,
    /// When it was sent.
    pub start: Time,
    /// When the outcome was known; `None` while nobody knows.
    pub end: Option<Time>,
    /// The outcome.
    pub outcome: Outcome,
}

impl Operation {
    /// Whether a reply says that it succeeded, or was refused by the state machine.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.outcome.revision().is_some()
    }

    /// Whether it may have happened without anybody being told.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outcome == Outcome::Unknown && matches!(self.action, Action::Write(_))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, server, action, start, end, outcome } = self;
        write!(f, "#{id} client {client} at node {server} [{start} ..")?;
        match end {
            Some(end) => write!(f, " {end}]")?,
            None => write!(f, " ?]")?,
        }
        match action {
            Action::Write(command) => write!(f, " {}", brief(command))?,
            Action::Read { request, linearizable } => {
                let kind = if *linearizable { "read" } else { "serializable read" };
                let end = &request.range.range_end;
                write!(f, " {kind} {:?}..{end:?} at {}", request.range.key, request.revision)?;
            }
            Action::KeepAlive(lease) => write!(f, " keep alive {}", lease.0)?,
        }
        match outcome {
            Outcome::Replied { revision, result: Ok(reply) } => {
                write!(f, " -> revision {revision} {}", brief_reply(reply))
            }
            Outcome::Read { revision, result: Ok(result) } => {
                write!(f, " -> revision {revision} {}", brief_range(result))
            }
            other => write!(f, " -> {other:?}"),
        }
    }
}

/// A command in a few words, values cut short.
#[must_use]
pub fn brief(command: &Command) -> String {
    match command {
        Command::Put(put) => {
            format!("put {:?}={} lease {}", put.key, brief_value(&put.value), put.lease.0)
        }
        Command::Delete(delete) => {
            format!("delete {:?}..{:?}", delete.range.key, delete.range.range_end)
        }
        Command::Txn(txn) => {
            let ops = |ops: &[Op]| ops.iter().map(brief_op).collect::<Vec<_>>().join(", ");
            let compares: Vec<String> = txn
                .compare
                .iter()
                .map(|c| format!("{:?} {:?} {:?}", c.range.key, c.result, c.target))
                .collect();
            let compares = compares.join(", ");
            format!("txn if [{compares}] then [{}] else [{}]", ops(&txn.success), ops(&txn.failure))
        }
        other => format!("{other:?}"),
    }
}

fn brief_op(op: &Op) -> String {
    match op {
        Op::Put(put) => format!("put {:?}={}", put.key, brief_value(&put.value)),
        Op::Range(range) => format!("get {:?}..{:?}", range.range.key, range.range.range_end),
        Op::Delete(delete) => {
            format!("delete {:?}..{:?}", delete.range.key, delete.range.range_end)
        }
        Op::Txn(txn) => brief(&Command::Txn(txn.clone())),
    }
}

/// The first bytes of a value, and how many there are.
#[must_use]
pub fn brief_value(value: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&value[..value.len().min(12)]);
    format!("{}({} B)", shown.trim_end_matches('.'), value.len())
}

fn brief_reply(reply: &Reply) -> String {
    match reply {
        Reply::Put(put) => match &put.prev_kv {
            Some(kv) => format!("ok, before: {}@{}", brief_value(&kv.value), kv.mod_revision.0),
            None => "ok".to_owned(),
        },
        Reply::Delete(delete) => format!("deleted {}", delete.deleted),
        Reply::Txn(txn) => format!("succeeded: {}", txn.succeeded),
        other => format!("{other:?}"),
    }
}

fn brief_range(result: &RangeResult) -> String {
    let kvs: Vec<String> = result
        .kvs
        .iter()
        .map(|kv| format!("{:?}={}@{}", kv.key, brief_value(&kv.value), kv.mod_revision.0))
        .collect();
    format!("count {} [{}]", result.count, kvs.join(", "))
}
