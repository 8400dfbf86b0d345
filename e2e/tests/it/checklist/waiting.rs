//! What a client that waits for the result is told, kind by kind. DTM says 409 for "rolled back" and for "still at
//! it" alike; `status` beside it tells them apart here.

use std::time::{Duration, Instant};

use anyhow::Result;
use quorate_e2e::participant::Participant;
use serde_json::{Value, json};

use super::{LONG, message, message_of, named, prepare, saga, service, shared, with};
use crate::dtm::Dtm;

const NOT_SUCCESS: &str = "wait result not return success: FAILURE";

/// What a submit that waits is answered: status, message, and where the transaction stands.
fn told(dtm: &Dtm, body: &Value) -> Result<(u16, String, String)> {
    let waits = json!({ "wait_result": true, "retry_interval": LONG });
    let answer = dtm.post("submit", &with(body.clone(), waits).to_string())?;
    let said: Value = serde_json::from_str(&answer.body)?;
    let status = said["status"].as_str().unwrap_or_default().to_owned();
    Ok((answer.status, message_of(&answer)?, status))
}

fn words(status: u16, message: &str, stands: &str) -> (u16, String, String) {
    (status, message.to_owned(), stands.to_owned())
}

#[test]
fn who_does_not_wait_is_answered_at_once() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let slow = Participant::start(|_| {
        std::thread::sleep(Duration::from_secs(2));
        (200, String::new())
    })?;
    let begun = Instant::now();
    super::ok(&dtm, "submit", &saga("not-waiting", &slow, &[("a", "b")]))?;
    super::ok(&dtm, "submit", &message("not-waiting-either", &slow, &["a"]))?;
    assert!(begun.elapsed() < Duration::from_millis(1800), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn a_saga_that_waits() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let tell = |gid, steps: &[(&str, &str)]| told(&dtm, &saga(gid, &service, steps));
    assert_eq!(tell("wait-s1", &[("yes", "yes")])?, words(200, "", ""));
    let (status, message, stands) = tell("wait-s2", &[("yes", "yes"), ("no", "yes")])?;
    assert_eq!((status, stands.as_str()), (409, "failed"));
    assert!(message.contains("sold out") && message.ends_with("FAILURE"), "{message}");
    for (gid, action) in [("wait-s3", "later"), ("wait-s4", "broken")] {
        let expected = words(409, NOT_SUCCESS, "submitted");
        assert_eq!(tell(gid, &[(action, "yes")])?, expected, "{action}");
    }
    let (status, message, stands) = tell("wait-s5", &[("no", "broken")])?;
    assert_eq!((status, stands.as_str()), (409, "aborting"));
    assert!(message.contains("sold out"), "{message}");
    Ok(())
}

#[test]
fn a_message_that_waits() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let tell = |gid, path| told(&dtm, &message(gid, &service, &[path]));
    assert_eq!(tell("wait-m1", "yes")?, words(200, "", ""));
    assert_eq!(tell("wait-m2", "later")?, words(409, NOT_SUCCESS, "submitted"));
    let (status, text, stands) = tell("wait-m3", "no")?;
    assert_eq!((status, stands.as_str()), (409, "submitted"), "it is delivered all the same");
    assert!(text.contains("FAILURE"), "{text}");
    let (status, text, stands) = tell("wait-m4", "broken")?;
    assert_eq!((status, stands.as_str()), (500, "submitted"));
    assert!(text.contains("broken") && !text.contains("FAILURE"), "{text}");
    let delayed =
        with(message("wait-m5", &service, &["yes"]), json!({ "custom_data": "{\"delay\":60}" }));
    assert_eq!(told(&dtm, &delayed)?, words(409, NOT_SUCCESS, "submitted"));
    Ok(())
}

#[test]
fn a_second_phase_that_waits() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    for kind in ["tcc", "xa"] {
        for (path, status) in [("yes", 200), ("later", 425), ("no", 409), ("broken", 500)] {
            let gid = format!("wait-{kind}-{path}");
            prepare(&dtm, &named(&gid, kind), &service, &[path])?;
            let body = json!({ "wait_result": true });
            // Options are taken from what was prepared, but for whether to wait.
            let body = with(named(&gid, kind), body);
            let answer = dtm.post("submit", &body.to_string())?;
            assert_eq!(answer.status, status, "{kind} {path}: {answer:?}");
            let said: Value = serde_json::from_str(&answer.body)?;
            match status {
                200 => assert_eq!(said, json!({ "dtm_result": "SUCCESS" })),
                425 => assert_eq!(said["dtm_result"], "ONGOING"),
                409 => assert_eq!(said["dtm_result"], "FAILURE"),
                _ => assert!(said.get("dtm_result").is_none(), "{said}"),
            }
            if status != 200 {
                assert_eq!(said["status"], "submitted", "{said}");
            }
        }
    }
    Ok(())
}

#[test]
fn an_abort_that_waits() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    for (path, status) in [("yes", 200), ("later", 425), ("no", 409), ("broken", 500)] {
        let gid = format!("wait-abort-{path}");
        let body = with(named(&gid, "tcc"), json!({ "wait_result": true, "retry_interval": LONG }));
        prepare(&dtm, &body, &service, &[path])?;
        let answer = dtm.post("abort", &named(&gid, "tcc").to_string())?;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    Ok(())
}

#[test]
fn who_asks_for_what_has_ended_need_not_wait() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = with(named("wait-twice", "tcc"), json!({ "wait_result": true }));
    prepare(&dtm, &body, &service, &["yes"])?;
    super::ok(&dtm, "submit", &body)?;
    let begun = Instant::now();
    super::refused(&dtm, "submit", &body)?;
    assert!(begun.elapsed() < Duration::from_secs(5));
    Ok(())
}
