//! Workflows: the server keeps what their application has done, and calls it back when it is not heard of.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quorate_e2e::http1::send;
use quorate_e2e::participant::{Asked, Participant};
use quorate_wire::dtmgimp as pb;
use serde_json::{Value, json};

use super::{asked, becomes, named, ok, refused, service, shared, with};
use crate::dtm::Dtm;

/// The body of prepareWorkflow: named `order`, with `input` as its data.
fn order(gid: &str, callback: &str) -> Value {
    let custom = json!({ "name": "order", "data": "aW5wdXQ=" }).to_string();
    let more = json!({ "query_prepared": callback, "custom_data": custom, "protocol": "http" });
    with(named(gid, "workflow"), more)
}

fn begin(dtm: &Dtm, body: &Value) -> Result<Value> {
    let answer = dtm.post("prepareWorkflow", &body.to_string())?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}

fn step(gid: &str, id: &str, op: &str, status: &str, data: &str) -> Value {
    let more = json!({ "branch_id": id, "op": op, "status": status, "data": data });
    with(named(gid, "workflow"), more)
}

fn outcome(gid: &str, status: &str, reason: &str, result: &str) -> Value {
    let extra = json!({ "status": status, "rollback_reason": reason, "result": result });
    with(named(gid, "workflow"), json!({ "req_extra": extra }))
}

#[test]
fn what_was_done_is_told_to_who_begins_again() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let body = order("replay", "");
    let first = begin(&dtm, &body)?;
    let transaction = json!({ "gid": "replay", "status": "prepared" });
    assert_eq!(first, json!({ "transaction": transaction, "progresses": [] }));
    ok(&dtm, "registerBranch", &step("replay", "01", "action", "succeed", "{\"n\":1}"))?;
    ok(&dtm, "registerBranch", &step("replay", "02", "action", "failed", "sold out"))?;
    ok(&dtm, "registerBranch", &step("replay", "01", "rollback", "succeed", ""))?;
    // The application did not get the answer, and registers it again.
    ok(&dtm, "registerBranch", &step("replay", "01", "rollback", "succeed", ""))?;
    let again = begin(&dtm, &body)?;
    let row = |id: &str, op: &str, status: &str, data: &str| json!({ "branch_id": id, "op": op, "status": status, "bin_data": data });
    let expected = json!([
        row("01", "action", "succeed", "eyJuIjoxfQ=="),
        row("02", "action", "failed", "c29sZCBvdXQ="),
        row("01", "rollback", "succeed", ""),
    ]);
    assert_eq!(again["progresses"], expected);
    Ok(())
}

#[test]
fn the_result_is_kept_as_it_was_given() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    begin(&dtm, &order("result", ""))?;
    ok(&dtm, "submit", &outcome("result", "succeed", "", "AP9vaw=="))?;
    // The same outcome once more is fine, another one is not.
    ok(&dtm, "submit", &outcome("result", "succeed", "", "AP9vaw=="))?;
    refused(&dtm, "submit", &outcome("result", "failed", "no", ""))?;
    let again = begin(&dtm, &order("result", ""))?;
    assert_eq!(again["transaction"]["status"], "succeed");
    assert_eq!(again["transaction"]["result"], "AP9vaw==");
    refused(&dtm, "registerBranch", &step("result", "01", "action", "succeed", ""))?;
    Ok(())
}

#[test]
fn a_failure_has_its_reason() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    begin(&dtm, &order("reason-wf", ""))?;
    ok(&dtm, "submit", &outcome("reason-wf", "failed", "sold out FAILURE", ""))?;
    let again = begin(&dtm, &order("reason-wf", ""))?;
    assert_eq!(again["transaction"]["status"], "failed");
    assert_eq!(again["transaction"]["rollback_reason"], "sold out FAILURE");
    Ok(())
}

#[test]
fn nobody_submits_what_was_not_begun() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let answer = dtm.post("submit", &outcome("not-begun", "succeed", "", "").to_string())?;
    assert_eq!(answer.status, 500, "{answer:?}");
    Ok(())
}

/// The rest of a workflow, done by an application that is called back: it reads what was done, goes on behind it,
/// and submits.
fn go_on(endpoint: &str, call: &Asked) -> Result<()> {
    let post = |path: &str, body: &Value| {
        let answer = send(endpoint, "POST", &format!("/api/dtmsvr/{path}"), &body.to_string())?;
        anyhow::ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(serde_json::from_str::<Value>(&answer.body)?)
    };
    let gid = call.parameter("gid");
    let found = post("prepareWorkflow", &order(gid, ""))?;
    anyhow::ensure!(found["progresses"].as_array().map(Vec::len) == Some(1), "{found}");
    post("registerBranch", &step(gid, "02", "action", "succeed", "second"))?;
    post("submit", &outcome(gid, "succeed", "", "eWVz"))?;
    Ok(())
}

#[test]
fn an_application_that_died_is_called_back() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let endpoint = dtm.endpoint().to_owned();
    let failed = Arc::new(OnceLock::new());
    let why = Arc::clone(&failed);
    let application = Participant::start(move |call| match go_on(&endpoint, call) {
        Ok(()) => (200, "{}".to_owned()),
        Err(error) => {
            let _first = why.set(format!("{error:#}"));
            (500, String::new())
        }
    })?;
    let begun = Instant::now();
    let callback = format!("{}/resume?own=1", application.base());
    begin(&dtm, &with(order("died", &callback), json!({ "retry_interval": 0.6 })))?;
    ok(&dtm, "registerBranch", &step("died", "01", "action", "succeed", "first"))?;
    let call = asked(&application, 1)?[0].clone();
    assert!(call.at - begun >= Duration::from_millis(600), "a sign of life holds it back");
    assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/resume"));
    assert_eq!(call.query, "own=1&gid=died&trans_type=workflow&branch_id=00&op=order");
    assert_eq!(call.body, "input");
    let found = becomes(&dtm, "died", "succeed SS");
    let found = found.with_context(|| format!("{failed:?}"))?;
    assert_eq!(found["transaction"]["result"], "eWVz");
    Ok(())
}

/// What a callback answers decides nothing; it is made again, and not each 10 s for ever.
#[test]
fn callbacks_are_repeated_until_an_outcome_is_submitted() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for answer in ["yes", "no", "broken"] {
        let service = service()?;
        let gid = format!("again-{answer}");
        let callback = format!("{}/{answer}", service.base());
        begin(&dtm, &with(order(&gid, &callback), json!({ "retry_interval": 0.2 })))?;
        asked(&service, 2)?;
        becomes(&dtm, &gid, "prepared ")?;
        ok(&dtm, "submit", &outcome(&gid, "succeed", "", ""))?;
        becomes(&dtm, &gid, "succeed ")?;
        let before = service.paths().len();
        std::thread::sleep(Duration::from_millis(900));
        assert!(service.paths().len() <= before + 1, "one may have been under way");
    }
    Ok(())
}

#[tokio::test]
async fn over_grpc_the_result_is_told_too() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let address = format!("http://{}", dtm.endpoint());
    let mut client = pb::dtm_client::DtmClient::connect(address).await?;
    let request = pb::DtmRequest {
        gid: "result-grpc".to_owned(),
        trans_type: "workflow".to_owned(),
        customed_data: json!({ "name": "order", "data": "aW5wdXQ=" }).to_string(),
        steps: "null".to_owned(),
        ..Default::default()
    };
    client.prepare_workflow(request.clone()).await?;
    let step = pb::DtmBranchRequest {
        gid: "result-grpc".to_owned(),
        trans_type: "workflow".to_owned(),
        branch_id: "01".to_owned(),
        data: [("op", "action"), ("status", "succeed")].map(|(k, v)| (k.into(), v.into())).into(),
        busi_payload: b"\xff\0"[..].into(),
        ..Default::default()
    };
    client.register_branch(step).await?;
    let extra = [("status", "succeed"), ("result", "AP9vaw==")];
    let end = pb::DtmRequest {
        req_extra: extra.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..request.clone()
    };
    client.submit(end).await?;
    let found = client.prepare_workflow(request).await?.into_inner();
    let transaction = found.transaction.context("a transaction")?;
    assert_eq!((transaction.status.as_str(), transaction.result.as_str()), ("succeed", "AP9vaw=="));
    assert_eq!(
        (&found.progresses[0].bin_data[..], found.progresses[0].op.as_str()),
        (&b"\xff\0"[..], "action")
    );
    Ok(())
}
