//! The calls that participants get (the spec's 2.1 and 2.2).
//!
//! Over HTTP the transaction is named by the query parameters `gid`, `trans_type`, `branch_id` and `op`, appended
//! to whatever the URL has; over gRPC by metadata. The payload travels as it was given.

use std::time::Duration;

use bytes::Bytes;
use quorate_outcall::{Call, Method, RetryPolicy, Wire};

use crate::api::Config;
use crate::gid::GlobalTxnId;
use crate::json;
use crate::kind::Target;
use crate::limits::MAX_QUEUE_MS;
use crate::record::{Content, Kind, Op, Part, Protocol, Record, Source};

/// Branch id of check-backs and callbacks.
pub(crate) const OWN_BRANCH: &str = "00";

/// What a call says of itself.
pub(crate) struct Named<'r> {
    pub(crate) gid: &'r GlobalTxnId,
    pub(crate) kind: Kind,
    pub(crate) branch_id: &'r str,
    pub(crate) op: &'r str,
}

/// URL and payload of a target; `None`: its record is missing or does not have it.
pub(crate) fn address(
    record: &Record,
    target: Target,
    content: Option<&Content>,
    part: Option<&Part>,
) -> Option<(String, Bytes)> {
    let Target::Row(row) = target else {
        let content = content?;
        let payload = content.payloads.first().filter(|_| record.kind == Kind::Workflow);
        return Some((content.query_prepared.clone(), payload.cloned().unwrap_or_default()));
    };
    match record.rows[row].source {
        Source::Step(step) => {
            let content = content?;
            let urls = content.steps.get(step as usize)?;
            let url = match record.rows[row].op {
                Op::Compensate => &urls.compensate,
                _ => &urls.action,
            };
            let payload = content.payloads.get(step as usize).cloned();
            Some((url.clone(), payload.unwrap_or_default()))
        }
        Source::Part(_) => {
            let part = part?;
            let url = part.urls.get(place(record, row))?;
            let no_payload = record.kind == Kind::Xa;
            let data = if no_payload { Bytes::new() } else { part.data.clone() };
            Some((url.clone(), data))
        }
    }
}

/// Which of the rows of its source a row is.
pub(crate) fn place(record: &Record, row: usize) -> usize {
    let source = record.rows[row].source;
    record.rows[..row].iter().filter(|before| before.source == source).count()
}

/// Who is called as what.
pub(crate) fn named<'r>(
    gid: &'r GlobalTxnId,
    record: &'r Record,
    target: Target,
    content: Option<&'r Content>,
) -> Named<'r> {
    let (branch_id, op) = match target {
        Target::Row(row) => (record.rows[row].branch_id.as_str(), record.rows[row].op.name()),
        Target::Callback if record.kind == Kind::Workflow => {
            (OWN_BRANCH, content.map_or("", |content| content.name.as_str()))
        }
        Target::Callback => (OWN_BRANCH, Op::CheckBack.name()),
    };
    Named { gid, kind: record.kind, branch_id, op }
}

/// The whole call.
pub(crate) fn build(
    config: &Config,
    record: &Record,
    named: &Named<'_>,
    url: &str,
    payload: Bytes,
    headers: &[(String, String)],
) -> Call {
    let timeout = match record.options.request_timeout_ms {
        0 => config.request_timeout_ms,
        own => own,
    };
    let timeout = Duration::from_millis(timeout.max(1));
    let protocol = record.options.protocol;
    let is_rpc = protocol == Protocol::JsonRpc && is_http(url) && url.contains("method");
    let mut call = Call {
        url: url.to_owned(),
        wire: wire(protocol, url, named.kind, &payload, is_rpc),
        headers: Vec::new(),
        body: payload,
        timeout,
        retry: RetryPolicy {
            attempts: 2, // the second one goes to another address; all else waits for its time in the record
            pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(10),
            within: timeout + Duration::from_millis(MAX_QUEUE_MS),
        },
        verdicts: &["FAILURE", "ONGOING"],
    };
    if call.wire == Wire::Grpc {
        call.headers = metadata(named);
        if named.kind == Kind::Workflow {
            call.body = workflow_data(&call.body);
        }
    } else {
        if is_rpc {
            call.body = rpc_body(url, named, &call.body);
        }
        call.url = with_query(url, named);
        call.headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    call.headers.extend_from_slice(headers);
    call
}

/// The protocol that a URL, or else the transaction, asks for.
pub(crate) fn wire(
    protocol: Protocol,
    url: &str,
    kind: Kind,
    payload: &Bytes,
    is_rpc: bool,
) -> Wire {
    if protocol == Protocol::Grpc && !is_http(url) {
        return Wire::Grpc;
    }
    let posts = is_rpc || !payload.is_empty() || matches!(kind, Kind::Xa | Kind::Workflow);
    Wire::Http { method: if posts { Method::Post } else { Method::Get } }
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn parameters<'n>(named: &'n Named<'_>) -> [(&'static str, &'n str); 4] {
    [
        ("gid", named.gid.as_str()),
        ("trans_type", named.kind.name()),
        ("branch_id", named.branch_id),
        ("op", named.op),
    ]
}

fn with_query(url: &str, named: &Named<'_>) -> String {
    let mut whole = url.split_once('#').map_or(url, |(before, _)| before).to_owned();
    let mut joint = match whole.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    for (name, value) in parameters(named) {
        whole.push_str(joint);
        whole.push_str(name);
        whole.push('=');
        percent_encode(value, &mut whole);
        joint = "&";
    }
    whole
}

/// RFC 3986: what is not unreserved is written as its bytes.
fn percent_encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

fn metadata(named: &Named<'_>) -> Vec<(String, String)> {
    let own = parameters(named).map(|(name, value)| (format!("dtm-{name}"), value.to_owned()));
    own.into_iter().chain([("dtm-dtm".to_owned(), String::new())]).collect()
}

/// The message `workflow.Workflow/Execute` takes: field 1, bytes.
fn workflow_data(data: &Bytes) -> Bytes {
    let mut out = vec![0x0a];
    let mut length = data.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(data);
    out.into()
}

/// A JSON-RPC request whose params are the payload's fields and the transaction's. A payload that is not an
/// object has no fields.
fn rpc_body(url: &str, named: &Named<'_>, payload: &Bytes) -> Bytes {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let method = query.split('&').find_map(|pair| pair.strip_prefix("method="));
    let mut out = String::from(r#"{"jsonrpc":"2.0","id":"#);
    put_json(&format!("{}-{}-{}", named.gid, named.branch_id, named.op), &mut out);
    out.push_str(r#","method":"#);
    put_json(method.unwrap_or_default(), &mut out);
    out.push_str(r#","params":{"#);
    let inside = payload.trim_ascii();
    if json::is_object(inside)
        && let Ok(text) = std::str::from_utf8(&inside[1..inside.len() - 1])
    {
        out.push_str(text);
        out.push_str(if text.trim().is_empty() { "" } else { "," });
    }
    for (at, (name, value)) in parameters(named).into_iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        put_json(name, &mut out);
        out.push(':');
        put_json(value, &mut out);
    }
    out.push_str("}}");
    out.into()
}

/// A step's payload with what earlier steps answered, by branch: `{"data":…,"results":{"01":…}}`. What is JSON
/// stands there as it is, other text as a string; nothing as null.
pub(crate) fn with_results<'r>(
    payload: &Bytes,
    results: impl Iterator<Item = (&'r str, &'r Bytes)>,
) -> Bytes {
    let mut out = String::from(r#"{"data":"#);
    put_value(payload, &mut out);
    out.push_str(r#","results":{"#);
    for (at, (branch_id, result)) in results.enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        put_json(branch_id, &mut out);
        out.push(':');
        put_value(result, &mut out);
    }
    out.push_str("}}");
    out.into()
}

fn put_value(bytes: &Bytes, out: &mut String) {
    match std::str::from_utf8(bytes).map(str::trim_ascii) {
        Ok("") => out.push_str("null"),
        Ok(text) if json::is_value(text.as_bytes()) => out.push_str(text),
        _ => put_json(&String::from_utf8_lossy(bytes), out),
    }
}

/// A JSON string.
pub(crate) fn put_json(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
