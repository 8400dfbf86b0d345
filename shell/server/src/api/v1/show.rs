//! The machine's values as what `/v1/` says.

use quorate_global_txn::{
    self as global_txn, AuditEntry, CallEntry, Class, Config, Protocol, Record, Row, RowStatus,
    Target, Tries, waited_for,
};

use super::limits::HEAD_BYTES;
use super::types::{
    Answer, Branch, Call, Callback, Deed, Kind, Options, Outcome, Payload, Progress, Status,
    Subscriber, Summary, Topic, Txn,
};
use crate::api::stored::{Origin, Stored, is_stuck, next_time_ms, wall_of, worst};
use crate::api::time::Time;

impl From<global_txn::Kind> for Kind {
    fn from(kind: global_txn::Kind) -> Self {
        match kind {
            global_txn::Kind::Saga => Self::Saga,
            global_txn::Kind::Tcc => Self::Tcc,
            global_txn::Kind::Xa => Self::Xa,
            global_txn::Kind::Msg => Self::Msg,
            global_txn::Kind::Workflow => Self::Workflow,
            global_txn::Kind::ThreePhase => Self::ThreePhase,
        }
    }
}

impl From<global_txn::Status> for Status {
    fn from(status: global_txn::Status) -> Self {
        match status {
            global_txn::Status::Prepared => Self::Prepared,
            global_txn::Status::Submitted => Self::Submitted,
            global_txn::Status::Aborting => Self::Aborting,
            global_txn::Status::Succeed => Self::Succeed,
            global_txn::Status::Failed => Self::Failed,
        }
    }
}

fn outcome(class: Option<Class>) -> Outcome {
    match class {
        None => Outcome::Success,
        Some(Class::Failure) => Outcome::Failure,
        Some(Class::Ongoing) => Outcome::Ongoing,
        Some(Class::Error) => Outcome::Error,
    }
}

fn answer(tries: &Tries) -> Option<Answer> {
    let last = tries.last.as_ref()?;
    Some(Answer { outcome: outcome(Some(last.class)), text: last.text.clone() })
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| head(text.as_bytes()))
}

/// The first bytes of something, as text.
fn head(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]);
    // A character that was cut in two is not shown.
    if bytes.len() > HEAD_BYTES {
        text.trim_end_matches('\u{fffd}').to_owned()
    } else {
        text.into()
    }
}

fn time(ms: u64) -> Time {
    Time::known(ms).unwrap_or_default()
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A transaction in one line.
pub(super) fn summary(config: &Config, stored: &Stored) -> Summary {
    let record = &stored.record;
    let worst = worst(config, record);
    let done = record.rows.iter().filter(|row| row.status == RowStatus::Succeed);
    Summary {
        gid: stored.gid.as_str().to_owned(),
        kind: record.kind.into(),
        status: record.status.into(),
        stuck: is_stuck(config, record),
        overridden: record.is_forced,
        created: time(record.created_wall_ms),
        updated: time(record.updated_wall_ms),
        ended: Time::known(record.finished_wall_ms),
        next_try: next_time_ms(record).and_then(Time::known),
        operations: small(record.rows.len()),
        succeeded: small(done.count()),
        waiting: small(waited_for(config, record).len()),
        errors: worst.map_or(0, |(_, errors)| errors),
        last_answer: worst.and_then(|(target, _)| answer(record.tries(target))),
        reason: filled(&record.rollback_reason),
    }
}

/// A transaction with its branches; `owner_epoch` is for the caller to say.
pub(super) fn txn(config: &Config, stored: &Stored, owner_epoch: i64) -> Txn {
    let record = &stored.record;
    let content = stored.content.as_ref();
    let is_workflow = record.kind == global_txn::Kind::Workflow;
    let input = stored.input().filter(|_| is_workflow).map(|origin| payload(&origin));
    Txn {
        txn: summary(config, stored),
        options: options(record),
        branches: branches(config, stored),
        callback: callback(config, stored),
        custom_data: content.and_then(|content| filled(&content.custom_data)),
        name: content.and_then(|content| filled(&content.name)),
        input,
        result: filled(&record.result),
        headers: content.map_or_else(Vec::new, |content| {
            content.headers.iter().map(|(name, _)| name.clone()).collect()
        }),
        retries: record.retry_count,
        calls: record.calls,
        audits: record.audits,
        owner_epoch,
    }
}

fn options(record: &Record) -> Options {
    let options = &record.options;
    let protocol = match options.protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::JsonRpc => "json-rpc",
    };
    Options {
        protocol: protocol.to_owned(),
        wait_result: options.wait_result,
        concurrent: options.concurrent,
        strict: options.strict,
        timeout_ms: options.timeout_ms,
        request_timeout_ms: options.request_timeout_ms,
        retry_interval_ms: options.retry_interval_ms,
        retry_limit: options.retry_limit,
        delay_ms: options.delay_ms,
        orders: options.orders.clone(),
    }
}

fn branches(config: &Config, stored: &Stored) -> Vec<Branch> {
    let waited_for = waited_for(config, &stored.record);
    let rows = stored.record.rows.iter().enumerate();
    let waits = |at| waited_for.contains(&Target::Row(at));
    rows.map(|(at, row)| branch(stored, at, row, waits(at))).collect()
}

fn branch(stored: &Stored, at: usize, row: &Row, waiting: bool) -> Branch {
    let origin = stored.origin(at, row);
    Branch {
        branch_id: row.branch_id.clone(),
        op: row.op.name().to_owned(),
        status: match row.status {
            RowStatus::Prepared => Progress::Prepared,
            RowStatus::Succeed => Progress::Succeed,
            RowStatus::Failed => Progress::Failed,
        },
        waiting,
        url: origin.url.to_owned(),
        payload: payload(&origin),
        errors: row.tries.errors,
        next_try: next_try(&stored.record, &row.tries, waiting),
        last_answer: answer(&row.tries),
        created: time(row.created_wall_ms),
        ended: Time::known(row.finished_wall_ms),
    }
}

fn next_try(record: &Record, tries: &Tries, waiting: bool) -> Option<Time> {
    let at = wall_of(record, tries.next_ms).filter(|_| waiting && tries.next_ms > 0);
    at.and_then(Time::known)
}

fn payload(origin: &Origin<'_>) -> Payload {
    Payload { bytes: origin.bytes as u64, text: head(origin.data) }
}

fn callback(config: &Config, stored: &Stored) -> Option<Callback> {
    let record = &stored.record;
    let url = stored.content.as_ref().map(|content| content.query_prepared.as_str());
    let url = url.filter(|url| !url.is_empty())?;
    let waiting = waited_for(config, record).contains(&Target::Callback);
    Some(Callback {
        url: url.to_owned(),
        waiting,
        errors: record.callback.errors,
        next_try: next_try(record, &record.callback, waiting),
        last_answer: answer(&record.callback),
    })
}

/// An answered call. Where it went is what the transaction says now: nobody changes it.
pub(super) fn call(stored: &Stored, entry: CallEntry) -> Call {
    let url = destination(stored, &entry).unwrap_or_default().to_owned();
    Call {
        at: time(entry.wall_ms),
        url,
        branch_id: entry.branch_id,
        op: entry.op,
        latency_us: entry.latency_us,
        attempts: entry.attempts,
        outcome: outcome(entry.class),
        text: entry.text,
    }
}

fn destination<'a>(stored: &'a Stored, entry: &CallEntry) -> Option<&'a str> {
    let mut rows = stored.record.rows.iter().enumerate();
    let row = rows.find(|(_, row)| row.branch_id == entry.branch_id && row.op.name() == entry.op);
    match row {
        Some((at, row)) => Some(stored.origin(at, row).url),
        None => Some(stored.content.as_ref()?.query_prepared.as_str()),
    }
}

/// What an operator did.
pub(super) fn deed(entry: AuditEntry) -> Deed {
    Deed { at: time(entry.wall_ms), by: entry.by, what: entry.what, why: entry.why }
}

/// A topic.
pub(super) fn topic(name: String, topic: global_txn::Topic) -> Topic {
    let subscribers = topic.subscribers.into_iter();
    Topic {
        name,
        version: topic.version,
        created: time(topic.created_wall_ms),
        updated: time(topic.updated_wall_ms),
        subscribers: subscribers
            .map(|subscriber| Subscriber { url: subscriber.url, remark: subscriber.remark })
            .collect(),
    }
}
