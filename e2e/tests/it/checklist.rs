//! What DTM promises to its clients and to branches, one test for each promise: the checklist that other servers
//! of its protocol are held against as well.
//!
//! | file | promises about |
//! |---|---|
//! | `requests` | prepare, submit, abort, registerBranch, forceStop: what is refused, and how |
//! | `json` | what real clients send: nulls, unknown and repeated fields, old paths and field numbers |
//! | `reading` | query, all, JSON-RPC's codes |
//! | `waiting` | what a client with `wait_result` is told |
//! | `branches` | how branches are called, and what their answers mean |
//! | `saga` | the patterns of rows |
//! | `phases` | tcc, xa, 3pc: the order of calls, timeouts |
//! | `messages` | check-back, delay, topics |
//! | `retries` | intervals, alerts |
//! | `workflow` | replay, outcome, callback |
//! | `grpc` | branches that are called over gRPC, and clients that call over it |
//!
//! Times here are fractions of a second, which DTM does not have. Lower bounds of waits are exact, upper bounds leave
//! room for a busy machine.

mod branches;
mod grpc;
mod json;
mod messages;
mod phases;
mod reading;
mod requests;
mod retries;
mod saga;
mod waiting;
mod workflow;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quorate_e2e::http1::Answer;
use quorate_e2e::participant::{Asked, Participant};
use serde_json::{Value, json};

use crate::dtm::Dtm;

/// Yes, no, not yet, and what is none of these, as branches say it.
const YES: (u16, &str) = (200, "{\"dtm_result\":\"SUCCESS\"}");
const NO: (u16, &str) = (409, "{\"dtm_result\":\"FAILURE\",\"message\":\"sold out\"}");
const LATER: (u16, &str) = (425, "{\"dtm_result\":\"ONGOING\"}");
const BROKEN: (u16, &str) = (500, "broken");

/// A pause that no test sits out.
const LONG: f64 = 60.0;
/// How long something may take that takes no time.
const SOON: Duration = Duration::from_secs(15);

/// A server that all tests share which run at the same time; `None` if the server is etcd. It ends with the last of
/// them.
fn shared() -> Result<Option<Arc<Dtm>>> {
    static SHARED: Mutex<Weak<Dtm>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(dtm) = shared.upgrade() {
        return Ok(Some(dtm));
    }
    let dtm = Dtm::start("dtm checklist")?.map(Arc::new);
    if let Some(dtm) = &dtm {
        *shared = Arc::downgrade(dtm);
    }
    Ok(dtm)
}

/// A service whose paths say what they answer: see [`verdict`].
fn service() -> Result<Participant> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    Participant::start(move |call| {
        let mut before = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = before.iter().filter(|path| **path == call.path).count();
        before.push(call.path.clone());
        let (status, body) = verdict(call, times);
        (status, body.to_owned())
    })
}

/// `/no` refuses, `/later` and `/broken` go on like that; with a number behind, only so many times.
fn verdict(call: &Asked, times: usize) -> (u16, &'static str) {
    let name = call.path.trim_start_matches('/');
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let until: usize = name[word.len()..].parse().unwrap_or(usize::MAX);
    match word {
        "no" => NO,
        "later" if times < until => LATER,
        "broken" if times < until => BROKEN,
        _ => YES,
    }
}

/// The body of a saga of these actions and compensations, paths of the service.
fn saga(gid: &str, service: &Participant, steps: &[(&str, &str)]) -> Value {
    let url = |path: &str| format!("{}/{path}", service.base());
    let step =
        |(action, undo): &(&str, &str)| json!({ "action": url(action), "compensate": url(undo) });
    let payloads = vec!["{}"; steps.len()];
    let steps: Vec<_> = steps.iter().map(step).collect();
    json!({ "gid": gid, "trans_type": "saga", "steps": steps, "payloads": payloads })
}

/// The body of a message to these paths.
fn message(gid: &str, service: &Participant, paths: &[&str]) -> Value {
    let step = |path: &&str| json!({ "action": format!("{}/{path}", service.base()) });
    let steps: Vec<_> = paths.iter().map(step).collect();
    let payloads = vec!["{}"; steps.len()];
    json!({ "gid": gid, "trans_type": "msg", "steps": steps, "payloads": payloads })
}

/// A body with more fields.
fn with(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// The body of what is named alone.
fn named(gid: &str, kind: &str) -> Value {
    json!({ "gid": gid, "trans_type": kind })
}

/// A branch of a tcc or xa whose operations all go to one path.
fn branch(gid: &str, kind: &str, id: &str, service: &Participant, path: &str) -> Value {
    let url = format!("{}/{path}", service.base());
    let common = json!({ "gid": gid, "trans_type": kind, "branch_id": id, "data": "{}" });
    match kind {
        "xa" => with(common, json!({ "url": url })),
        "3pc" => {
            let url = |op: &str| format!("{url}/{op}");
            with(
                common,
                json!({
                    "can_commit": url("can_commit"), "pre_commit": url("pre_commit"),
                    "do_commit": url("do_commit"), "abort": url("abort"),
                }),
            )
        }
        _ => with(common, json!({ "confirm": url, "cancel": url })),
    }
}

/// Asserts that a request is answered with 200.
fn ok(dtm: &Dtm, path: &str, body: &Value) -> Result<()> {
    let answer = dtm.post(path, &body.to_string())?;
    ensure!(answer.status == 200, "{path} {body}: {answer:?}");
    ensure!(!answer.body.contains("FAILURE") && !answer.body.contains("ONGOING"), "{answer:?}");
    Ok(())
}

/// Asserts that a request is refused with 409 in DTM's form; the whole answer.
fn refused(dtm: &Dtm, path: &str, body: &Value) -> Result<Value> {
    let answer = dtm.post(path, &body.to_string())?;
    ensure!(answer.status == 409, "{path} {body}: {answer:?}");
    let said: Value = serde_json::from_str(&answer.body)?;
    ensure!(said["dtm_result"] == "FAILURE", "{said}");
    ensure!(message_of(&answer)?.ends_with("FAILURE"), "{said}");
    Ok(said)
}

/// The text of an answer that is not 200.
fn message_of(answer: &Answer) -> Result<String> {
    let said: Value = serde_json::from_str(&answer.body)?;
    Ok(said["message"].as_str().unwrap_or_default().to_owned())
}

/// Prepares a tcc or xa with branches 01, 02 ..., one for each path.
fn prepare(dtm: &Dtm, body: &Value, service: &Participant, paths: &[&str]) -> Result<()> {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    ok(dtm, "prepare", body)?;
    for (at, path) in paths.iter().enumerate() {
        let id = format!("{:02}", at + 1);
        ok(dtm, "registerBranch", &branch(&text("gid"), &text("trans_type"), &id, service, path))?;
    }
    Ok(())
}

/// Status and rows, each a letter: P, S or F.
fn pattern(found: &Value) -> String {
    let rows = found["branches"].as_array().cloned().unwrap_or_default();
    let letter = |row: &Value| row["status"].as_str().and_then(|status| status.chars().next());
    let rows: String = rows.iter().filter_map(letter).collect();
    let status = found["transaction"]["status"].as_str().unwrap_or("none");
    format!("{status} {}", rows.to_uppercase())
}

/// Waits until status and rows are these.
fn becomes(dtm: &Dtm, gid: &str, expected: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let found = dtm.query(gid)?;
        if pattern(&found) == expected {
            return Ok(found);
        }
        let last = || format!("{gid}: {} instead of {expected}: {found}", pattern(&found));
        ensure!(begun.elapsed() < SOON, last());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the service has been asked so many times; what it was asked.
fn asked(service: &Participant, times: usize) -> Result<Vec<Asked>> {
    let begun = Instant::now();
    loop {
        let asked = service.asked();
        if asked.len() >= times {
            return Ok(asked);
        }
        ensure!(begun.elapsed() < SOON, "asked {} times instead of {times}", asked.len());
        std::thread::sleep(Duration::from_millis(10));
    }
}
