//! Requests that come twice, too late, or to the wrong transaction.

use std::time::Duration;

use anyhow::Result;
use quorate_e2e::participant::Participant;
use serde_json::json;

use super::{
    LONG, asked, becomes, branch, message_of, named, ok, pattern, prepare, refused, saga, service,
    shared, with,
};

#[test]
fn new_gid_has_a_gid_and_a_result() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let fresh = dtm.get("newGid")?;
    assert_eq!(fresh["dtm_result"], "SUCCESS");
    assert!(fresh["gid"].as_str().is_some_and(|gid| !gid.is_empty()), "{fresh}");
    Ok(())
}

#[test]
fn prepared_twice_is_fine_and_after_the_end_refused() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let tcc = named("prepare-2", "tcc");
    ok(&dtm, "prepare", &tcc)?;
    ok(&dtm, "prepare", &with(tcc.clone(), json!({ "timeout_to_fail": 0.1 })))?;
    // The second body was dropped: its timeout would be over by now.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(pattern(&dtm.query("prepare-2")?), "prepared ");
    ok(&dtm, "submit", &tcc)?;
    becomes(&dtm, "prepare-2", "succeed ")?;
    let said = refused(&dtm, "prepare", &tcc)?;
    assert_eq!(said["message"], "current status 'succeed', cannot prepare. FAILURE");
    Ok(())
}

#[test]
fn submitted_twice_is_fine_and_after_the_end_refused() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = Participant::start(|_| {
        std::thread::sleep(Duration::from_millis(1000));
        (200, String::new())
    })?;
    let body = saga("submit-2", &service, &[("a", "b")]);
    ok(&dtm, "submit", &body)?;
    asked(&service, 1)?;
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "submit-2", "succeed PS")?;
    assert_eq!(service.paths(), ["/a"], "nobody is called again");
    let said = refused(&dtm, "submit", &body)?;
    assert_eq!(said["message"], "current status 'succeed', cannot sumbmit. FAILURE");
    assert_eq!(said["status"], "succeed");
    Ok(())
}

#[test]
fn a_second_submit_of_a_tcc_does_not_skip_its_second_phase() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let tcc = with(named("submit-tcc", "tcc"), json!({ "retry_interval": 1 }));
    prepare(&dtm, &tcc, &service, &["later1"])?;
    ok(&dtm, "submit", &tcc)?;
    asked(&service, 1)?;
    ok(&dtm, "submit", &tcc)?;
    becomes(&dtm, "submit-tcc", "succeed PS")?;
    assert_eq!(service.paths(), ["/later1", "/later1"]);
    Ok(())
}

#[test]
fn a_saga_cannot_be_aborted() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    ok(&dtm, "submit", &saga("abort-saga", &service, &[("later", "yes")]))?;
    let said = refused(&dtm, "abort", &named("abort-saga", "saga"))?;
    let expected = "trans type: 'saga' current status 'submitted', cannot abort. FAILURE";
    assert_eq!(said["message"], expected);
    Ok(())
}

#[test]
fn what_nobody_knows_cannot_be_aborted_or_stopped() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for path in ["abort", "forceStop", "resetNextCronTime"] {
        let answer = dtm.post(path, &named("nobody", "tcc").to_string())?;
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        assert_eq!(message_of(&answer)?, "no TransGlobal with gid: nobody found", "{path}");
    }
    Ok(())
}

#[test]
fn a_branch_cannot_join_after_abort_or_submit() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    for kind in ["tcc", "xa"] {
        for decision in ["submit", "abort"] {
            let gid = format!("join-{kind}-{decision}");
            let body = with(named(&gid, kind), json!({ "retry_interval": LONG }));
            prepare(&dtm, &body, &service, &["later"])?;
            ok(&dtm, decision, &body)?;
            let said = refused(&dtm, "registerBranch", &branch(&gid, kind, "02", &service, "x"))?;
            let expected = format!("no trans with gid: {gid} status: prepared found FAILURE");
            assert_eq!(said["message"], expected);
        }
    }
    refused(&dtm, "registerBranch", &branch("nobody", "tcc", "01", &service, "x"))?;
    Ok(())
}

/// See docs/decisions/0007-registering-twice.md: DTM refuses both.
#[test]
fn the_same_branch_may_join_again_and_another_may_not_take_its_place() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    for kind in ["tcc", "xa", "3pc"] {
        let gid = format!("same-{kind}");
        let body = named(&gid, kind);
        prepare(&dtm, &body, &service, &["a"])?;
        let same = branch(&gid, kind, "01", &service, "a");
        ok(&dtm, "registerBranch", &same)?;
        for other in [
            branch(&gid, kind, "01", &service, "b"),
            with(same.clone(), json!({ "data": "{\"other\":1}" })),
        ] {
            let answer = dtm.post("registerBranch", &other.to_string())?;
            assert_eq!(answer.status, 500, "{answer:?}");
            assert_eq!(message_of(&answer)?, "storage: UniqueKeyConflict");
        }
        let rows = dtm.query(&gid)?["branches"].as_array().map(Vec::len);
        assert_eq!(rows, Some(if kind == "3pc" { 4 } else { 2 }), "{kind}");
    }
    Ok(())
}

#[test]
fn a_stopped_transaction_calls_nobody_any_more() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = with(saga("stop", &service, &[("later", "yes")]), json!({ "retry_interval": 0.3 }));
    ok(&dtm, "submit", &body)?;
    asked(&service, 1)?;
    ok(&dtm, "forceStop", &named("stop", ""))?;
    assert_eq!(pattern(&dtm.query("stop")?), "failed PP");
    let before = service.paths().len();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(service.paths().len(), before);
    refused(&dtm, "forceStop", &named("stop", ""))?;
    Ok(())
}

#[test]
fn retry_now_does_not_wait() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = saga("retry-now", &service, &[("broken1", "yes")]);
    ok(&dtm, "submit", &with(body, json!({ "retry_interval": LONG })))?;
    asked(&service, 1)?;
    ok(&dtm, "resetNextCronTime", &named("retry-now", ""))?;
    becomes(&dtm, "retry-now", "succeed PS")?;
    Ok(())
}

#[test]
fn a_tcc_branch_goes_with_its_aborted_transaction() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = named("abort-2", "tcc");
    prepare(&dtm, &body, &service, &["yes"])?;
    ok(&dtm, "abort", &with(body.clone(), json!({ "rollback_reason": "sold out FAILURE" })))?;
    let found = becomes(&dtm, "abort-2", "failed SP")?;
    assert_eq!(found["transaction"]["rollback_reason"], "sold out FAILURE");
    refused(&dtm, "abort", &body)?;
    refused(&dtm, "submit", &body)?;
    Ok(())
}

#[test]
fn a_gid_belongs_to_one_kind() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    ok(&dtm, "prepare", &named("one-kind", "tcc"))?;
    for kind in ["xa", "3pc", "saga", "msg"] {
        refused(&dtm, "submit", &named("one-kind", kind))?;
    }
    ok(&dtm, "submit", &named("one-kind", "tcc"))
}
