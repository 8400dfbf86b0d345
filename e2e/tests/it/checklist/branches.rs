//! How branches are called over HTTP, and what their answers mean.

use std::time::Duration;

use anyhow::Result;
use quorate_e2e::participant::Participant;
use serde_json::{Value, json};

use super::{LONG, asked, becomes, message, named, ok, prepare, saga, service, shared, with};
use crate::dtm::Dtm;

#[test]
fn a_call_names_its_transaction_and_keeps_the_rest() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let payload = "{ \"n\" : 1.50,\n \"text\":\"\\u00e9 \u{e9}\" }";
    let step = json!({ "action": format!("{}/a?own=1&gid2=x", service.base()), "compensate": "" });
    let body = json!({
        "gid": "verbatim", "trans_type": "saga", "steps": [step], "payloads": [payload],
    });
    ok(&dtm, "submit", &body)?;
    let call = &asked(&service, 1)?[0];
    assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/a"));
    assert_eq!(call.query, "own=1&gid2=x&gid=verbatim&trans_type=saga&branch_id=01&op=action");
    assert_eq!(call.body, payload, "byte for byte");
    assert!(call.headers.contains("content-type: application/json"), "{}", call.headers);
    Ok(())
}

#[test]
fn a_strange_gid_is_escaped() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let gid = "a b&c=d/\u{e9}'";
    ok(&dtm, "submit", &saga(gid, &service, &[("a", "b")]))?;
    let call = &asked(&service, 1)?[0];
    let expected = "gid=a%20b%26c%3Dd%2F%C3%A9%27&trans_type=saga&branch_id=01&op=action";
    assert_eq!(call.query, expected);
    Ok(())
}

#[test]
fn without_a_payload_it_is_a_get_but_for_xa() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let plain = service()?;
    let body = with(saga("get", &plain, &[("a", "b")]), json!({ "payloads": [""] }));
    ok(&dtm, "submit", &body)?;
    let call = &asked(&plain, 1)?[0];
    assert_eq!((call.method.as_str(), call.body.as_str()), ("GET", ""));
    let xa = service()?;
    prepare(&dtm, &named("post", "xa"), &xa, &["a"])?;
    ok(&dtm, "submit", &named("post", "xa"))?;
    let call = &asked(&xa, 1)?[0];
    assert_eq!((call.method.as_str(), call.body.as_str()), ("POST", ""));
    assert_eq!(call.query, "gid=post&trans_type=xa&branch_id=01&op=commit");
    Ok(())
}

/// What a tcc that waits is told if its confirm answers this: the four are told apart so.
fn taken(dtm: &Dtm, at: usize, answer: (u16, &'static str), more: &Value) -> Result<u16> {
    let service = Participant::start(move |_| (answer.0, answer.1.to_owned()))?;
    let gid = format!("words-{}-{at}", more["strict"].as_bool().unwrap_or_default());
    let waits = json!({ "wait_result": true, "retry_interval": LONG });
    let body = with(with(named(&gid, "tcc"), waits), more.clone());
    prepare(dtm, &body, &service, &["confirm"])?;
    dtm.status("submit", &body)
}

#[test]
fn words_and_statuses_mean_what_they_mean_to_dtm() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let cases = [
        ((200, ""), 200),
        ((200, "{\"dtm_result\":\"SUCCESS\"}"), 200),
        ((200, "an error page, but a polite one"), 200),
        ((200, "{\"dtm_result\":\"FAILURE\"}"), 409),
        ((200, "{\"dtm_result\":\"ONGOING\"}"), 425),
        ((409, ""), 409),
        ((409, "anything"), 409),
        ((409, "ONGOING"), 425),
        ((425, ""), 425),
        ((425, "FAILURE"), 425),
        ((500, "FAILURE"), 409),
        ((500, "ONGOING"), 425),
        ((201, "{}"), 500),
        ((202, ""), 500),
        ((400, ""), 500),
        ((404, "not found"), 500),
        ((500, ""), 500),
        ((503, ""), 500),
    ];
    for (at, (answer, expected)) in cases.into_iter().enumerate() {
        assert_eq!(taken(&dtm, at, answer, &json!({}))?, expected, "{answer:?}");
    }
    Ok(())
}

#[test]
fn strict_transactions_take_less_for_success() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let cases = [
        ((200, ""), 200),
        ((201, "{\"id\":1}"), 200),
        ((200, "{\"text\":\"no FAILURE here\"}"), 200),
        ((200, "{\"dtm_result\":\"FAILURE\"}"), 409),
        ((200, "an error page"), 500),
        ((500, "FAILURE"), 500),
    ];
    for (at, (answer, expected)) in cases.into_iter().enumerate() {
        assert_eq!(taken(&dtm, at, answer, &json!({ "strict": true }))?, expected, "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_branch_that_nobody_answers_for_is_an_error() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let nobody = format!("http://127.0.0.1:{}/x", quorate_e2e::ports::free()?);
    let body = json!({
        "gid": "unreachable", "trans_type": "msg", "steps": [{ "action": nobody }], "payloads": ["{}"],
        "wait_result": true, "retry_interval": LONG,
    });
    assert_eq!(dtm.status("submit", &body)?, 500);
    becomes(&dtm, "unreachable", "submitted P")?;
    Ok(())
}

#[test]
fn json_rpc_branches_are_called_and_read() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for (code, status) in [(0, 200), (-32_901, 409), (-32_902, 425), (-32_603, 500)] {
        let error = if code == 0 { Value::Null } else { json!({ "code": code, "message": "m" }) };
        let answer = json!({ "jsonrpc": "2.0", "id": "1", "error": error, "result": null });
        let service = Participant::start(move |_| (200, answer.to_string()))?;
        let gid = format!("rpc-branch{code}");
        let waits = json!({ "protocol": "json-rpc", "wait_result": true, "retry_interval": LONG });
        let body = with(named(&gid, "tcc"), waits);
        ok(&dtm, "prepare", &body)?;
        let url = format!("{}/rpc?method=confirm", service.base());
        let branch = json!({
            "gid": gid, "trans_type": "tcc", "branch_id": "01", "data": "{\"amount\":30}",
            "confirm": url, "cancel": "",
        });
        ok(&dtm, "registerBranch", &branch)?;
        assert_eq!(dtm.status("submit", &body)?, status, "{code}");
        let call = &asked(&service, 1)?[0];
        let said: Value = serde_json::from_str(&call.body)?;
        assert_eq!((&said["jsonrpc"], &said["method"]), (&json!("2.0"), &json!("confirm")));
        assert!(said["id"].as_str().is_some_and(|id| !id.is_empty()), "{said}");
        let params = json!({
            "amount": 30, "gid": gid, "trans_type": "tcc", "branch_id": "01", "op": "confirm",
        });
        assert_eq!(said["params"], params);
    }
    Ok(())
}

/// The server's own is 0.4 s here.
#[test]
fn a_longer_request_timeout_is_honoured() -> Result<()> {
    let flags = ["--dtm-request-timeout=400ms"];
    let Some(dtm) = Dtm::start_with("dtm checklist", &flags)? else { return Ok(()) };
    let slow = || {
        Participant::start(|_| {
            std::thread::sleep(Duration::from_millis(1000));
            (200, String::new())
        })
    };
    let (patient, hasty) = (slow()?, slow()?);
    let more = json!({ "wait_result": true, "retry_interval": LONG });
    let body = with(saga("hasty", &hasty, &[("a", "b")]), more.clone());
    assert_eq!(dtm.status("submit", &body)?, 409, "nobody waits that long for it");
    let body = with(saga("patient", &patient, &[("a", "b")]), more);
    ok(&dtm, "submit", &with(body, json!({ "request_timeout": 10 })))?;
    assert_eq!(patient.paths(), ["/a"], "called once");
    Ok(())
}

#[test]
fn branch_headers_are_on_every_call() -> Result<()> {
    let Some(mut dtm) = Dtm::start("dtm checklist")? else { return Ok(()) };
    let service = service()?;
    let headers = json!({ "X-Tenant": "seven", "Authorization": "Bearer abc" });
    let more = json!({ "branch_headers": headers, "retry_interval": 0.3 });
    let body = with(message("headers", &service, &["broken", "yes"]), more.clone());
    ok(&dtm, "submit", &body)?;
    asked(&service, 2)?;
    // Also by whoever takes over: nothing but what is on disk is known then.
    dtm.server().restart()?;
    let before = service.asked().len();
    for call in asked(&service, before + 1)? {
        assert!(call.headers.contains("x-tenant: seven"), "{}", call.headers);
        assert!(call.headers.contains("authorization: bearer abc"), "{}", call.headers);
    }
    let tcc = self::service()?;
    let body = with(named("headers-tcc", "tcc"), more);
    prepare(&dtm, &body, &tcc, &["broken1"])?;
    // A bare submit does not take away what was prepared.
    ok(&dtm, "submit", &named("headers-tcc", "tcc"))?;
    for call in asked(&tcc, 2)? {
        assert!(call.headers.contains("x-tenant: seven"), "{}", call.headers);
    }
    Ok(())
}
