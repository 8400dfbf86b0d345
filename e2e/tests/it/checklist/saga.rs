//! Sagas: the rows that they end with, in the order compensation 1, action 1, compensation 2, action 2, as
//! P(repared), S(ucceed) or F(ailed).

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{LONG, asked, becomes, ok, saga, service, shared, with};

/// A saga of these two actions, compensated by `undo1` and `undo2`, reaches these rows; what was called.
fn reaches(gid: &str, actions: [&str; 2], more: Value, expected: &str) -> Result<Vec<String>> {
    let Some(dtm) = shared()? else { return Ok(Vec::new()) };
    let service = service()?;
    let steps = [(actions[0], "undo1"), (actions[1], "undo2")];
    ok(&dtm, "submit", &with(saga(gid, &service, &steps), more))?;
    let found = becomes(&dtm, gid, expected)?;
    let reason = found["transaction"]["rollback_reason"].as_str().unwrap_or_default();
    if expected.starts_with("succeed") {
        assert_eq!(reason, "", "{found}");
    }
    Ok(service.paths())
}

fn orders(of: Value) -> Value {
    json!({ "custom_data": of.to_string() })
}

/// Nothing, if the server is etcd.
fn called(paths: &[String], expected: &[&str]) {
    assert!(paths.is_empty() || paths == expected, "{paths:?} instead of {expected:?}");
}

#[test]
fn success_is_psps() -> Result<()> {
    let paths = reaches("rows-1", ["yes1", "yes2"], json!({}), "succeed PSPS")?;
    called(&paths, &["/yes1", "/yes2"]);
    Ok(())
}

#[test]
fn a_refused_second_step_is_sssf() -> Result<()> {
    let paths = reaches("rows-2", ["yes", "no"], json!({}), "failed SSSF")?;
    called(&paths, &["/yes", "/no", "/undo2", "/undo1"]);
    Ok(())
}

#[test]
fn an_ongoing_first_step_is_pppp() -> Result<()> {
    let more = json!({ "retry_interval": LONG, "wait_result": false });
    let paths = reaches("rows-3", ["later", "yes"], more, "submitted PPPP")?;
    called(&paths[..paths.len().min(1)], &["/later"]);
    Ok(())
}

#[test]
fn an_ongoing_first_step_beside_others_is_ppps() -> Result<()> {
    let more = with(orders(json!({ "concurrent": true })), json!({ "retry_interval": LONG }));
    reaches("rows-4", ["later", "yes"], more, "submitted PPPS")?;
    Ok(())
}

#[test]
fn a_refused_prerequisite_is_sfpp() -> Result<()> {
    let more = orders(json!({ "concurrent": true, "orders": { "1": [0] } }));
    let paths = reaches("rows-5", ["no", "yes"], more, "failed SFPP")?;
    called(&paths, &["/no", "/undo1"]);
    Ok(())
}

#[test]
fn a_timeout_before_anything_succeeded_is_sppp() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let more = json!({ "retry_interval": LONG, "timeout_to_fail": 0.5 });
    let paths = reaches("rows-6", ["later", "yes"], more, "failed SPPP")?;
    called(&paths, &["/later", "/undo1"]);
    let reason = &dtm.query("rows-6")?["transaction"]["rollback_reason"];
    assert_eq!(*reason, "Timeout after 0.5 seconds");
    Ok(())
}

#[test]
fn retries_used_up_are_sssp() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let more = json!({ "retry_limit": 1 });
    let paths = reaches("rows-7", ["yes", "broken"], more, "failed SSSP")?;
    called(&paths, &["/yes", "/broken", "/broken", "/undo2", "/undo1"]);
    let reason = &dtm.query("rows-7")?["transaction"]["rollback_reason"];
    assert_eq!(*reason, "RetryCount is greater than RetryLimit, RetryLimit: 1");
    Ok(())
}

#[test]
fn a_compensation_that_errs_once_is_tried_again() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let steps = [("yes", "broken1"), ("no", "undo2")];
    let body = with(saga("rows-8", &service, &steps), json!({ "retry_interval": 0.8 }));
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "rows-8", "aborting PSSF")?;
    becomes(&dtm, "rows-8", "failed SSSF")?;
    assert_eq!(service.paths(), ["/yes", "/no", "/undo2", "/broken1", "/broken1"]);
    Ok(())
}

#[test]
fn a_refusal_is_the_reason() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    ok(&dtm, "submit", &saga("reason", &service, &[("no", "undo")]))?;
    let found = becomes(&dtm, "reason", "failed SF")?;
    let reason = found["transaction"]["rollback_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("sold out"), "{reason}");
    Ok(())
}

#[test]
fn concurrent_steps_do_not_wait_for_each_other() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = quorate_e2e::participant::Participant::start(|_| {
        std::thread::sleep(Duration::from_millis(600));
        (200, String::new())
    })?;
    let steps = [("a", "x"), ("b", "y"), ("c", "z")];
    let concurrent = orders(json!({ "concurrent": true, "orders": { "2": [0, 1] } }));
    ok(&dtm, "submit", &with(saga("beside", &service, &steps), concurrent))?;
    let calls = asked(&service, 3)?;
    assert!(calls[1].at - calls[0].at < Duration::from_millis(500), "{calls:?}");
    assert_eq!(calls[2].path, "/c");
    assert!(calls[2].at - calls[0].at >= Duration::from_millis(600), "{calls:?}");
    becomes(&dtm, "beside", "succeed PSPSPS")?;
    Ok(())
}

#[test]
fn steps_without_urls_need_no_call() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let begun = Instant::now();
    let body = json!({
        "gid": "no-urls", "trans_type": "saga", "steps": [{ "action": "" }, {}], "payloads": ["", ""],
        "wait_result": true,
    });
    ok(&dtm, "submit", &body)?;
    assert!(begun.elapsed() < Duration::from_secs(5));
    becomes(&dtm, "no-urls", "succeed PSPS")?;
    Ok(())
}
