//! What becomes of a request, given the record it is about.

use bytes::Bytes;
use quorate_kv::Op;

use crate::api::{Body, BranchRequest, Config, Operation, Refused, Request};
use crate::create::{create, kind_named, registration};
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::limits::MAX_ROWS;
use crate::record::{AuditEntry, Kind, Record, Status};
use crate::subject::Found;
use crate::transition::{Event, Stamp, cut, not_prepared, transition};
use crate::write;

/// See the module.
pub(crate) enum Decision {
    /// Do this; the record is then this one.
    Write { record: Option<Box<Record>>, ops: Vec<Op> },
    /// It is so already.
    Keep(Option<Box<Record>>),
    /// No.
    Refuse(Refused),
    /// It is so already if this key has this value; otherwise no.
    Compare { key: Bytes, value: Bytes },
}

pub(crate) fn decide(
    config: &Config,
    request: &Request,
    gid: &GlobalTxnId,
    found: &Found,
    at: Stamp,
) -> Decision {
    let Some(record) = &found.record else {
        return begin(config, request, gid, found, at).unwrap_or_else(Decision::Refuse);
    };
    let decided = match request {
        Request::RegisterBranch(branch) => join(config, record, gid, branch, at),
        Request::Operate { operation, by, why, .. } => {
            operate(config, record, gid, operation, (by, why), at)
        }
        _ => event(request).and_then(|event| go_on(config, record, gid, &event, at)),
    };
    decided.unwrap_or_else(Decision::Refuse)
}

/// Nobody has heard of this gid.
fn begin(
    config: &Config,
    request: &Request,
    gid: &GlobalTxnId,
    found: &Found,
    at: Stamp,
) -> Result<Decision, Refused> {
    let (body, kind, status) = match request {
        Request::Prepare(body) => (body, kind_named(&body.trans_type)?, Status::Prepared),
        Request::PrepareWorkflow(body) => (body, Kind::Workflow, Status::Prepared),
        Request::Submit(body) => match kind_named(&body.trans_type)? {
            Kind::Workflow => return Err(Refused::error("storage: NotFound")),
            kind => (body, kind, Status::Submitted),
        },
        Request::RegisterBranch(branch) => {
            kind_named(&branch.trans_type)?;
            return Err(not_prepared(gid));
        }
        _ => {
            return Err(Refused::error(format!("no TransGlobal with gid: {gid} found")));
        }
    };
    let (record, parts) = create(config, kind, body, &found.topics, status, at)?;
    let content = record.has_content.then(|| body.content.encode());
    let content = content.map(|content| write::put(keys::content(gid), content));
    let parts = (0..).zip(parts).map(|(n, part)| write::put(keys::part(gid, n), part.encode()));
    Ok(written(gid, None, record, content.into_iter().chain(parts)))
}

fn written(
    gid: &GlobalTxnId,
    before: Option<&Record>,
    next: Record,
    extra: impl IntoIterator<Item = Op>,
) -> Decision {
    let mut ops = write::replace(gid, before, &next, next.encode());
    ops.extend(extra);
    Decision::Write { record: Some(Box::new(next)), ops }
}

/// What a request means for a transaction that exists.
fn event(request: &Request) -> Result<Event, Refused> {
    Ok(match request {
        Request::Prepare(body) => Event::Prepare { kind: kind_named(&body.trans_type)? },
        Request::PrepareWorkflow(_) => Event::Resume,
        Request::Submit(body) => submit(body)?,
        Request::Abort { trans_type, reason, .. } => {
            Event::Abort { trans_type: trans_type.clone(), reason: reason.clone() }
        }
        Request::ForceStop { .. } => Event::Stop,
        Request::RetryNow { .. } => Event::RetryNow,
        _ => unreachable!("decided elsewhere"),
    })
}

/// An operator intervenes, and it is written down that it did.
fn operate(
    config: &Config,
    record: &Record,
    gid: &GlobalTxnId,
    operation: &Operation,
    (by, why): (&str, &str),
    at: Stamp,
) -> Result<Decision, Refused> {
    let event = Event::Operate(operation.clone());
    let next = transition(config, record, &event, at)?;
    let what = match operation {
        Operation::Stop => "stop".to_owned(),
        Operation::RetryNow => "retry now".to_owned(),
        Operation::Skip { branch_id, op } => format!("skip {op} of branch {branch_id}"),
        Operation::Submit => "submit".to_owned(),
        Operation::Abort => "abort".to_owned(),
    };
    let entry = AuditEntry { wall_ms: at.wall_ms, by: cut(by), what: cut(&what), why: cut(why) };
    let entry = write::put(keys::audit(gid, record.audits), entry.encode());
    Ok(written(gid, Some(record), next, [entry]))
}

fn submit(body: &Body) -> Result<Event, Refused> {
    match (kind_named(&body.trans_type)?, &body.outcome) {
        (Kind::Workflow, Some(outcome)) => Ok(Event::End(outcome.clone())),
        (Kind::Workflow, None) => Err(Refused::error("req_extra does not say how it ended")),
        (kind, _) => Ok(Event::Submit { kind, options: Box::new(body.options.clone()) }),
    }
}

fn go_on(
    config: &Config,
    record: &Record,
    gid: &GlobalTxnId,
    event: &Event,
    at: Stamp,
) -> Result<Decision, Refused> {
    let next = transition(config, record, event, at)?;
    Ok(match next == *record {
        true => Decision::Keep(Some(Box::new(next))),
        false => written(gid, Some(record), next, []),
    })
}

/// A branch joins. One that is there already may join again if it is the same, byte for byte: its
/// application did not get the first answer.
fn join(
    config: &Config,
    record: &Record,
    gid: &GlobalTxnId,
    branch: &BranchRequest,
    at: Stamp,
) -> Result<Decision, Refused> {
    let kind = kind_named(&branch.trans_type)?;
    let (rows, part) = registration(kind, record.options.protocol, branch)?;
    let same = record
        .rows
        .iter()
        .find(|row| row.branch_id == branch.branch_id && rows.iter().any(|new| new.op == row.op));
    let is_same = same.map(|row| {
        let has_status = rows.iter().any(|new| new.op == row.op && new.status == row.status);
        (row.source, has_status)
    });
    let number = match is_same {
        None => record.parts,
        Some((crate::record::Source::Part(number), true)) if record.status == Status::Prepared => {
            return Ok(Decision::Compare { key: keys::part(gid, number), value: part.encode() });
        }
        Some(_) if record.status == Status::Prepared => {
            return Err(Refused::error("storage: UniqueKeyConflict"));
        }
        Some(_) => record.parts,
    };
    if record.rows.len() + rows.len() > MAX_ROWS {
        return Err(Refused::error(format!("more than {MAX_ROWS} rows in one transaction")));
    }
    let event =
        Event::Register { gid: gid.clone(), kind, branch_id: branch.branch_id.clone(), rows };
    let next = transition(config, record, &event, at)?;
    let part = write::put(keys::part(gid, number), part.encode());
    Ok(written(gid, Some(record), next, [part]))
}
