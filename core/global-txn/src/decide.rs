//! What becomes of a request, given the record it is about.

use bytes::Bytes;
use quorate_kv::Op;

use crate::api::{Body, BranchRequest, Config, Refused, Request};
use crate::create::{create, kind_named, registration};
use crate::gid::GlobalTxnId;
use crate::keys;
use crate::limits::MAX_ROWS;
use crate::record::{Kind, Record, Status};
use crate::transition::{Event, Stamp, not_prepared, transition};
use crate::write::{self, Found};

/// See the module.
pub(crate) enum Decision {
    /// Put this record in its place, and these beside it.
    Write { record: Box<Record>, extra: Vec<Op> },
    /// It is so already.
    Keep(Box<Record>),
    /// No.
    Refuse(Refused),
    /// It is so already if this key has this value; otherwise no.
    Compare { key: Bytes, value: Bytes },
}

/// The gid of a request.
pub(crate) fn gid_of(request: &Request) -> Result<GlobalTxnId, Refused> {
    GlobalTxnId::parse(match request {
        Request::Prepare(body) | Request::Submit(body) | Request::PrepareWorkflow(body) => {
            &body.gid
        }
        Request::RegisterBranch(branch) => &branch.gid,
        Request::Abort { gid, .. } | Request::ForceStop { gid } | Request::RetryNow { gid } => gid,
    })
}

pub(crate) fn decide(
    config: &Config,
    request: &Request,
    gid: &GlobalTxnId,
    found: &Found,
    at: Stamp,
) -> Decision {
    let Some(record) = &found.record else {
        return begin(config, request, gid, at).unwrap_or_else(Decision::Refuse);
    };
    let decided = match request {
        Request::RegisterBranch(branch) => join(config, record, gid, branch, at),
        _ => event(request).and_then(|event| go_on(config, record, &event, at)),
    };
    decided.unwrap_or_else(Decision::Refuse)
}

/// Nobody has heard of this gid.
fn begin(
    config: &Config,
    request: &Request,
    gid: &GlobalTxnId,
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
        Request::Abort { .. } | Request::ForceStop { .. } | Request::RetryNow { .. } => {
            return Err(Refused::error(format!("no TransGlobal with gid: {gid} found")));
        }
    };
    let (record, content) = create(config, kind, body, status, at)?;
    let content = content.map(|content| write::put(keys::content(gid), content.encode()));
    Ok(Decision::Write { record: Box::new(record), extra: content.into_iter().collect() })
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
        Request::RegisterBranch(_) => unreachable!("a branch joins"),
    })
}

fn submit(body: &Body) -> Result<Event, Refused> {
    match (kind_named(&body.trans_type)?, &body.outcome) {
        (Kind::Workflow, Some(outcome)) => Ok(Event::End(outcome.clone())),
        (Kind::Workflow, None) => Err(Refused::error("req_extra does not say how it ended")),
        (kind, _) => Ok(Event::Submit { kind, options: Box::new(body.options.clone()) }),
    }
}

fn go_on(config: &Config, record: &Record, event: &Event, at: Stamp) -> Result<Decision, Refused> {
    let next = Box::new(transition(config, record, event, at)?);
    let is_new = *next != *record;
    Ok(if is_new {
        Decision::Write { record: next, extra: Vec::new() }
    } else {
        Decision::Keep(next)
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
        .find(|row| row.branch_id == branch.branch_id && rows.iter().any(|(op, ..)| *op == row.op));
    let is_same = same.map(|row| {
        let has_status = rows.iter().any(|(op, status, _)| *op == row.op && *status == row.status);
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
    let extra = vec![write::put(keys::part(gid, number), part.encode())];
    Ok(Decision::Write { record: Box::new(next), extra })
}
