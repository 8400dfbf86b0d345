//! From results to lines.

use super::*;

pub(super) fn text(bytes: &Bytes) -> String {
    if bytes.len() > 20 {
        return format!("{}... ({} bytes)", char::from(bytes[0]), bytes.len());
    }
    bytes.escape_ascii().to_string()
}

pub(super) fn print_refusal(refusal: &impl std::fmt::Display) -> String {
    format!("refused: {refusal}\n")
}

pub(super) fn print_pair(kv: &KeyValue) -> String {
    let lease = kv.lease.some().map_or(String::new(), |lease| format!(" lease={}", lease.0));
    let KeyValue { create_revision, mod_revision, version, .. } = kv;
    let (create, modified) = (create_revision.0, mod_revision.0);
    let (key, value) = (text(&kv.key), text(&kv.value));
    format!("{key}={value} create={create} mod={modified} version={version}{lease}")
}

pub(super) fn print_range(result: &RangeResult) -> String {
    let more = if result.more { " more" } else { "" };
    let mut out = format!("rev={} count={}{more}\n", result.revision.0, result.count);
    result.kvs.iter().for_each(|kv| out.push_str(&format!("  {}\n", print_pair(kv))));
    out
}

fn print_put(result: &PutResult) -> String {
    let prev = result.prev_kv.iter().map(|kv| format!("  prev {}\n", print_pair(kv)));
    format!("rev={}\n{}", result.revision.0, prev.collect::<String>())
}

fn print_delete(result: &DeleteResult) -> String {
    let prev = result.prev_kvs.iter().map(|kv| format!("  prev {}\n", print_pair(kv)));
    let (revision, deleted) = (result.revision.0, result.deleted);
    format!("rev={revision} deleted={deleted}\n{}", prev.collect::<String>())
}

fn print_txn(result: &TxnResult) -> String {
    let branch = if result.succeeded { "succeeded" } else { "failed" };
    let mut out = format!("rev={} {branch}\n", result.revision.0);
    let many = result.responses.len() > 10;
    for response in result.responses.iter().take(if many { 1 } else { 10 }) {
        let inner = match response {
            OpResult::Range(result) => format!("get: {}", print_range(result)),
            OpResult::Put(result) => format!("put: {}", print_put(result)),
            OpResult::Delete(result) => format!("del: {}", print_delete(result)),
            OpResult::Txn(result) => format!("txn: {}", print_txn(result)),
        };
        inner.lines().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    if many {
        out.push_str(&format!("  ... {} responses\n", result.responses.len()));
    }
    out
}

pub(super) fn print_reply(reply: &Reply) -> String {
    match reply {
        Reply::Put(result) => print_put(result),
        Reply::Delete(result) => print_delete(result),
        Reply::Txn(result) => print_txn(result),
        Reply::Compact { revision } | Reply::LeaseRevoke { revision } => {
            format!("rev={}\n", revision.0)
        }
        Reply::LeaseGrant { revision, id, ttl_s } => {
            format!("rev={} lease={} ttl={ttl_s}s\n", revision.0, id.0)
        }
        Reply::LeaseRenew { revision, ttls_s } => format!("rev={} ttls={ttls_s:?}\n", revision.0),
        Reply::Alarm { revision, alarms } => {
            let alarms = alarms.iter().map(|a| format!(" {:?} of member {}", a.kind, a.member));
            format!("rev={}{}\n", revision.0, alarms.collect::<String>())
        }
    }
}

pub(super) fn print_event(event: &Event, with_prev: bool) -> String {
    let change = match event.kind {
        EventKind::Put => format!("put {}", print_pair(&event.kv)),
        EventKind::Delete => format!("del {} mod={}", text(&event.kv.key), event.kv.mod_revision.0),
    };
    let prev = event.prev_kv.as_ref().filter(|_| with_prev);
    let prev = prev.map_or(String::new(), |kv| format!(" (before: {})", print_pair(kv)));
    format!("{change}{prev}")
}

pub(super) fn print_watch_reply(stream: StreamId, reply: &WatchReply) -> String {
    let what = match &reply.kind {
        WatchReplyKind::Created => "created".into(),
        WatchReplyKind::Refused { reason } => format!("created canceled reason='{reason}'"),
        WatchReplyKind::Canceled { compact_revision } => {
            format!("canceled compact_revision={}", compact_revision.0)
        }
        WatchReplyKind::Progress => "progress".into(),
        WatchReplyKind::Events { events, prev_kv, fragment } => {
            let fragment = if *fragment { " (fragment)" } else { "" };
            let events = events.iter().flat_map(Matched::events);
            let events = events.map(|event| format!("\n    {}", print_event(event, *prev_kv)));
            format!("events{fragment}{}", events.collect::<String>())
        }
    };
    let (stream, id, revision) = (stream.0, reply.watch_id.0, reply.revision.0);
    format!("  stream {stream} watch {id} rev={revision}: {what}\n")
}
