//! New records, and rows that join: what a client sent is checked here, and nowhere later.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_outcall::{Target as Address, Wire};

use crate::api::{Body, BranchRequest, Config, Refused};
use crate::call;
use crate::kind;
use crate::limits::{
    MAX_BODY, MAX_BRANCH_ID, MAX_HEADERS, MAX_ORDERS, MAX_PASSING_STEPS, MAX_ROWS, MAX_TOPIC_STEPS,
    MAX_URL,
};
use crate::record::{
    Content, Kind, Op, Options, Part, Protocol, Record, RowStatus, Source, Status, Topic, Tries,
};
use crate::topics;
use crate::transition::{self, NewRow, Stamp, new_row};

/// The kind that a request names.
pub(crate) fn kind_named(name: &str) -> Result<Kind, Refused> {
    Kind::named(name).ok_or_else(|| Refused::error(format!("unknow trans type: {name}")))
}

/// A new record and its parts: one for each step that names a topic.
///
/// # Errors
/// `Refused` when the body is not acceptable.
pub(crate) fn create(
    config: &Config,
    kind: Kind,
    body: &Body,
    topics: &BTreeMap<String, Topic>,
    status: Status,
    at: Stamp,
) -> Result<(Record, Vec<Part>), Refused> {
    check(kind, body)?;
    let has_content = body.content != Content::default();
    let mut record = Record {
        kind,
        status,
        options: body.options.clone(),
        rows: Vec::new(),
        parts: 0,
        calls: 0,
        audits: 0,
        has_content,
        has_headers: !body.content.headers.is_empty(),
        has_query: !body.content.query_prepared.is_empty(),
        callback: Tries::default(),
        retry_count: 0,
        created_ms: at.group_ms,
        since_ms: at.group_ms,
        changed_ms: at.group_ms,
        due_ms: None,
        done_ms: None,
        created_wall_ms: at.wall_ms,
        updated_wall_ms: at.wall_ms,
        finished_wall_ms: 0,
        rollback_reason: String::new(),
        result: String::new(),
        is_forced: false,
    };
    let parts = add_steps(&mut record, &body.content, topics, at)?;
    if kind == Kind::Workflow {
        let pause = transition::base_ms(config, &record);
        record.callback.next_ms = at.group_ms.saturating_add(pause);
    }
    transition::settle(config, &mut record, at);
    record.due_ms = kind::due(config, &record);
    transition::assert_consistent(&record);
    Ok((record, parts))
}

fn add_steps(
    record: &mut Record,
    content: &Content,
    topics: &BTreeMap<String, Topic>,
    at: Stamp,
) -> Result<Vec<Part>, Refused> {
    let mut parts = Vec::new();
    for (number, step) in content.steps.iter().enumerate() {
        let branch_id = format!("{:02}", number + 1);
        if record.kind == Kind::Msg
            && let Some(name) = topics::named(&step.action)
        {
            if parts.len() >= MAX_TOPIC_STEPS {
                let text = format!("more than {MAX_TOPIC_STEPS} steps name a topic");
                return Err(Refused::error(text));
            }
            let data = content.payloads[number].clone();
            let urls = add_topic(record, &branch_id, topics.get(name), at)?;
            parts.push(Part { urls, data });
            continue;
        }
        let mut add = |op, url: &str| {
            let source = Source::Step(number as u32);
            record.rows.push(new_row(&branch_id, op, source, !url.is_empty(), at));
        };
        if record.kind == Kind::Saga {
            add(Op::Compensate, &step.compensate);
        }
        add(Op::Action, &step.action);
    }
    if record.rows.len() > MAX_ROWS {
        return Err(Refused::error(format!("more than {MAX_ROWS} rows in one transaction")));
    }
    Ok(parts)
}

/// A row for each subscriber; returns their URLs.
fn add_topic(
    record: &mut Record,
    step: &str,
    topic: Option<&Topic>,
    at: Stamp,
) -> Result<Vec<String>, Refused> {
    let subscribers = topic.map_or(&[][..], |topic| &topic.subscribers);
    if subscribers.is_empty() {
        return Err(Refused::error("topic not found"));
    }
    let source = Source::Part(record.parts);
    record.parts += 1;
    for number in 1..=subscribers.len() {
        let branch_id = format!("{step}-{number:02}");
        record.rows.push(new_row(&branch_id, Op::Action, source, true, at));
    }
    Ok(subscribers.iter().map(|subscriber| subscriber.url.clone()).collect())
}

fn check(kind: Kind, body: &Body) -> Result<(), Refused> {
    let Body { content, options, .. } = body;
    let (steps, payloads) = (content.steps.len(), content.payloads.len());
    if !matches!(kind, Kind::Saga | Kind::Msg) && steps > 0 {
        return Err(Refused::error(format!("a {} takes no steps", kind.name())));
    }
    if steps > payloads {
        return Err(Refused::error(format!("{steps} steps, but only {payloads} payloads")));
    }
    let rows = if kind == Kind::Saga { 2 * steps } else { steps };
    if rows > MAX_ROWS {
        return Err(Refused::error(format!("{steps} steps are too many")));
    }
    check_size(content)?;
    check_passing(kind, body)?;
    check_options(options, steps)?;
    for step in &content.steps {
        if kind != Kind::Msg || topics::named(&step.action).is_none() {
            check_url(options.protocol, kind, &step.action)?;
        }
        check_url(options.protocol, kind, &step.compensate)?;
    }
    check_url(options.protocol, kind, &content.query_prepared)
}

fn check_size(content: &Content) -> Result<(), Refused> {
    let headers = content.headers.iter().map(|(name, value)| name.len() + value.len());
    let payloads = content.payloads.iter().map(Bytes::len);
    let urls = content.steps.iter().map(|step| step.action.len() + step.compensate.len());
    let size: usize = headers.chain(payloads).chain(urls).sum();
    if size + content.custom_data.len() + content.name.len() > MAX_BODY {
        return Err(Refused::error(format!("the body is larger than {MAX_BODY} bytes")));
    }
    if content.headers.len() > MAX_HEADERS {
        return Err(Refused::error(format!("more than {MAX_HEADERS} branch_headers")));
    }
    Ok(())
}

/// Results travel in a JSON body.
fn check_passing(kind: Kind, Body { content, options, .. }: &Body) -> Result<(), Refused> {
    if !options.pass_results {
        return Ok(());
    }
    let urls = content.steps.iter().flat_map(|step| [&step.action, &step.compensate]);
    let mut wires = urls.map(|url| call::wire(options.protocol, url, kind, &Bytes::new(), false));
    let why = if kind != Kind::Saga {
        format!("a {} passes no results", kind.name())
    } else if content.steps.len() > MAX_PASSING_STEPS {
        format!("results are passed between at most {MAX_PASSING_STEPS} steps")
    } else if options.protocol == Protocol::JsonRpc || wires.any(|wire| wire == Wire::Grpc) {
        "results are passed over HTTP alone".to_owned()
    } else {
        return Ok(());
    };
    Err(Refused::error(why))
}

fn check_options(options: &Options, steps: usize) -> Result<(), Refused> {
    if options.orders.iter().map(Vec::len).sum::<usize>() > MAX_ORDERS {
        return Err(Refused::error(format!("orders name more than {MAX_ORDERS} prerequisites")));
    }
    kind::check_orders(&options.orders, steps)
}

/// Whether a URL can be called at all. Empty is fine: there is nothing to call.
fn check_url(protocol: Protocol, kind: Kind, url: &str) -> Result<(), Refused> {
    if url.is_empty() {
        return Ok(());
    }
    if url.len() > MAX_URL {
        return Err(Refused::error(format!("a URL is longer than {MAX_URL} bytes")));
    }
    let wire: Wire = call::wire(protocol, url, kind, &Bytes::new(), false);
    match Address::parse(url, wire) {
        Ok(_) => Ok(()),
        Err(why) => Err(Refused::error(format!("{why}: {url}"))),
    }
}

/// Rows and part of a branch that joins. `protocol` is the transaction's.
///
/// # Errors
/// `Refused` when the request is not acceptable.
pub(crate) fn registration(
    kind: Kind,
    protocol: Protocol,
    request: &BranchRequest,
) -> Result<(Vec<NewRow>, Part), Refused> {
    if request.branch_id.len() > MAX_BRANCH_ID {
        return Err(Refused::error(format!("branch_id is longer than {MAX_BRANCH_ID} bytes")));
    }
    if request.data.len() > MAX_BODY {
        return Err(Refused::error(format!("the payload is larger than {MAX_BODY} bytes")));
    }
    if kind == Kind::Workflow {
        return workflow_step(request);
    }
    let fields = fields(kind)?;
    let mut part = Part { urls: Vec::new(), data: request.data.clone() };
    let mut rows = Vec::new();
    for (op, field) in fields {
        let url = request.field(field);
        check_url(protocol, kind, url)?;
        let (op, status, has_url) = (op.clone(), RowStatus::Prepared, !url.is_empty());
        rows.push(NewRow { op, status, has_url });
        part.urls.push(url.to_owned());
    }
    Ok((rows, part))
}

/// Operations of a branch in the order of their rows, each with the field that holds its URL.
fn fields(kind: Kind) -> Result<&'static [(Op, &'static str)], Refused> {
    match kind {
        Kind::Tcc => Ok(&[(Op::Cancel, "cancel"), (Op::Confirm, "confirm")]),
        Kind::Xa => Ok(&[(Op::Rollback, "url"), (Op::Commit, "url")]),
        Kind::ThreePhase => Ok(&[
            (Op::Abort, "abort"),
            (Op::CanCommit, "can_commit"),
            (Op::PreCommit, "pre_commit"),
            (Op::DoCommit, "do_commit"),
        ]),
        kind => Err(Refused::error(format!("unknow trans type: {}", kind.name()))),
    }
}

fn workflow_step(request: &BranchRequest) -> Result<(Vec<NewRow>, Part), Refused> {
    let status = RowStatus::named(request.field("status")).ok_or_else(|| {
        Refused::error(format!("unknown status of a step: '{}'", request.field("status")))
    })?;
    let op = request.field("op");
    if op.is_empty() || op.len() > MAX_BRANCH_ID {
        return Err(Refused::error("op is empty or too long"));
    }
    let part = Part { urls: Vec::new(), data: request.data.clone() };
    Ok((vec![NewRow { op: Op::Named(op.to_owned()), status, has_url: false }], part))
}
