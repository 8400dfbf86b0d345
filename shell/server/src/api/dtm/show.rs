//! Transactions and branches as JSON.
//!
//! Clients in typed languages read this: ids are below 2^31, times that are not set are left out and never
//! null, and `branches` is a list even when it is empty.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_global_txn::{Op, Progress, Protocol, Record, Row, RowStatus, Status, Step};
use serde_json::{Map, Value, json};

use crate::api::stored::{Stored, next_time_ms};
use crate::api::time::rfc3339;

/// Largest id: some clients read it into 31 bits.
const MAX_ID: i64 = i32::MAX as i64;

/// A transaction.
pub(super) fn transaction(stored: &Stored) -> Value {
    let record = &stored.record;
    let mut out = Map::new();
    out.insert("id".to_owned(), (stored.created.0 % MAX_ID).into());
    put_time(&mut out, "create_time", record.created_wall_ms);
    put_time(&mut out, "update_time", record.updated_wall_ms);
    put_text(&mut out, "gid", stored.gid.as_str());
    put_text(&mut out, "trans_type", record.kind.name());
    put_text(&mut out, "status", record.status.name());
    put_text(&mut out, "protocol", protocol(record.options.protocol));
    match record.status {
        Status::Succeed => put_time(&mut out, "finish_time", record.finished_wall_ms),
        Status::Failed => put_time(&mut out, "rollback_time", record.finished_wall_ms),
        _ => {}
    }
    put_text(&mut out, "result", &record.result);
    put_text(&mut out, "rollback_reason", &record.rollback_reason);
    put_time(&mut out, "next_cron_time", next_time_ms(record).unwrap_or_default());
    put_options(&mut out, record);
    put_content(&mut out, stored);
    Value::Object(out)
}

fn put_options(out: &mut Map<String, Value>, record: &Record) {
    let options = &record.options;
    out.insert("concurrent".to_owned(), options.concurrent.into());
    for (name, truth) in [("wait_result", options.wait_result), ("strict", options.strict)] {
        if truth {
            out.insert(name.to_owned(), true.into());
        }
    }
    for (name, ms) in [
        ("timeout_to_fail", options.timeout_ms),
        ("request_timeout", options.request_timeout_ms),
        ("retry_interval", options.retry_interval_ms),
    ] {
        put_seconds(out, name, ms);
    }
    for (name, count) in [("retry_limit", options.retry_limit), ("retry_count", record.retry_count)]
    {
        if count > 0 {
            out.insert(name.to_owned(), count.into());
        }
    }
    put_text(out, "options", &json!({ "concurrent": options.concurrent }).to_string());
}

fn put_content(out: &mut Map<String, Value>, stored: &Stored) {
    let Some(content) = &stored.content else { return };
    put_text(out, "query_prepared", &content.query_prepared);
    put_text(out, "custom_data", &content.custom_data);
    if !content.steps.is_empty() {
        out.insert("steps".to_owned(), content.steps.iter().map(step).collect());
        let payloads = content.payloads.iter().map(|payload| String::from_utf8_lossy(payload));
        out.insert("payloads".to_owned(), payloads.collect());
    }
    if !content.headers.is_empty() {
        let headers = content.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.as_str().into()));
        out.insert("branch_headers".to_owned(), Value::Object(headers.collect()));
    }
}

fn step(step: &Step) -> Value {
    let mut out = Map::new();
    put_text(&mut out, "action", &step.action);
    put_text(&mut out, "compensate", &step.compensate);
    Value::Object(out)
}

/// A transaction's rows, in order of creation.
pub(super) fn branches(stored: &Stored) -> Value {
    let rows = stored.record.rows.iter().enumerate();
    rows.map(|(at, row)| branch(stored, at, row)).collect()
}

fn branch(stored: &Stored, at: usize, row: &Row) -> Value {
    let mut out = Map::new();
    out.insert("id".to_owned(), (at + 1).into());
    put_time(&mut out, "create_time", row.created_wall_ms);
    put_time(&mut out, "update_time", row.finished_wall_ms.max(row.created_wall_ms));
    put_text(&mut out, "gid", stored.gid.as_str());
    put_text(&mut out, "branch_id", &row.branch_id);
    put_text(&mut out, "op", row.op.name());
    put_text(&mut out, "status", row.status.name());
    let origin = stored.origin(at, row);
    put_text(&mut out, "url", origin.url);
    put_text(&mut out, "bin_data", &STANDARD.encode(origin.data));
    let is_undo = matches!(row.op, Op::Compensate | Op::Cancel | Op::Rollback | Op::Abort);
    if row.status != RowStatus::Prepared {
        let name = if is_undo { "rollback_time" } else { "finish_time" };
        put_time(&mut out, name, row.finished_wall_ms);
    }
    if row.tries.errors > 0 {
        out.insert("errors".to_owned(), row.tries.errors.into());
    }
    if let Some(last) = &row.tries.last {
        put_text(&mut out, "last_answer", &last.text);
    }
    Value::Object(out)
}

/// A workflow and what it has done, as its client reads it.
pub(super) fn progress(progress: &Progress) -> Value {
    let record = &progress.record;
    let mut transaction = Map::new();
    put_text(&mut transaction, "gid", progress.gid.as_str());
    put_text(&mut transaction, "status", record.status.name());
    put_text(&mut transaction, "rollback_reason", &record.rollback_reason);
    put_text(&mut transaction, "result", &record.result);
    let rows = record.rows.iter().zip(&progress.data).map(|(row, data)| {
        json!({
            "branch_id": row.branch_id,
            "op": row.op.name(),
            "status": row.status.name(),
            "bin_data": STANDARD.encode(data),
        })
    });
    json!({ "transaction": transaction, "progresses": rows.collect::<Vec<_>>() })
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::JsonRpc => "json-rpc",
    }
}

fn put_text(out: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        out.insert(name.to_owned(), text.into());
    }
}

/// 0 is "not set".
fn put_time(out: &mut Map<String, Value>, name: &str, ms: u64) {
    if ms > 0 {
        out.insert(name.to_owned(), rfc3339(ms).into());
    }
}

/// A whole number where it is one: that is what other servers' clients know.
fn put_seconds(out: &mut Map<String, Value>, name: &str, ms: u64) {
    if ms > 0 {
        let seconds =
            if ms.is_multiple_of(1000) { (ms / 1000).into() } else { json!(ms as f64 / 1000.0) };
        out.insert(name.to_owned(), seconds);
    }
}
