//! TCC, XA and 3pc: who is told what, in which order, and what a timeout does.

use std::time::Duration;

use anyhow::Result;
use quorate_e2e::participant::Participant;
use serde_json::{Value, json};

use super::{
    LONG, YES, asked, becomes, branch, named, ok, prepare, refused, service, shared, with,
};

/// `op/branch` of what a service was asked, in order.
fn told(service: &Participant) -> Vec<String> {
    let asked = service.asked().into_iter();
    asked.map(|call| format!("{}/{}", call.parameter("op"), call.parameter("branch_id"))).collect()
}

fn ends(gid: &str, kind: &str, decision: &str, expected: &str) -> Result<Vec<String>> {
    let Some(dtm) = shared()? else { return Ok(Vec::new()) };
    let service = service()?;
    let body = named(gid, kind);
    prepare(&dtm, &body, &service, &["yes1", "yes2", "yes3"])?;
    ok(&dtm, decision, &body)?;
    becomes(&dtm, gid, expected)?;
    Ok(told(&service))
}

fn are(told: &[String], expected: &[&str]) {
    assert!(told.is_empty() || told == expected, "{told:?} instead of {expected:?}");
}

#[test]
fn tcc_confirms_the_last_branch_first() -> Result<()> {
    let told = ends("tcc-order", "tcc", "submit", "succeed PSPSPS")?;
    are(&told, &["confirm/03", "confirm/02", "confirm/01"]);
    Ok(())
}

#[test]
fn tcc_cancels_the_last_branch_first() -> Result<()> {
    let told = ends("tcc-back", "tcc", "abort", "failed SPSPSP")?;
    are(&told, &["cancel/03", "cancel/02", "cancel/01"]);
    Ok(())
}

#[test]
fn xa_commits_the_first_branch_first() -> Result<()> {
    let told = ends("xa-order", "xa", "submit", "succeed PSPSPS")?;
    are(&told, &["commit/01", "commit/02", "commit/03"]);
    Ok(())
}

#[test]
fn xa_rolls_the_first_branch_back_first() -> Result<()> {
    let told = ends("xa-back", "xa", "abort", "failed SPSPSP")?;
    are(&told, &["rollback/01", "rollback/02", "rollback/03"]);
    Ok(())
}

/// Whoever is not heard of is taken to have failed, and nobody can join any more.
#[test]
fn silence_is_a_rollback() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for (kind, rows) in [("tcc", "failed SP"), ("xa", "failed SP"), ("3pc", "failed SPPP")] {
        let service = service()?;
        let gid = format!("silent-{kind}");
        let body = with(named(&gid, kind), json!({ "timeout_to_fail": 0.6 }));
        prepare(&dtm, &body, &service, &["yes"])?;
        let found = becomes(&dtm, &gid, rows)?;
        assert_eq!(found["transaction"]["rollback_reason"], "Timeout after 0.6 seconds");
        assert_eq!(service.paths().len(), 1, "{kind}");
        refused(&dtm, "registerBranch", &branch(&gid, kind, "02", &service, "yes"))?;
    }
    Ok(())
}

#[test]
fn without_branches_there_is_nobody_to_tell() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let body = with(named("nobody-joined", "xa"), json!({ "timeout_to_fail": 0.3 }));
    ok(&dtm, "prepare", &body)?;
    let found = becomes(&dtm, "nobody-joined", "failed ")?;
    assert_eq!(found["branches"], json!([]));
    Ok(())
}

/// It is a programming error over there; the decision stands.
#[test]
fn a_confirm_that_refuses_is_told_again() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = with(named("confirm-no", "tcc"), json!({ "retry_interval": 0.1 }));
    prepare(&dtm, &body, &service, &["no"])?;
    ok(&dtm, "submit", &body)?;
    asked(&service, 3)?;
    let found = becomes(&dtm, "confirm-no", "submitted PP")?;
    let last = found["branches"][1]["last_answer"].as_str().unwrap_or_default();
    assert!(last.contains("sold out"), "{found}");
    ok(&dtm, "forceStop", &body)
}

#[test]
fn nested_branches_are_told_before_their_parent() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = named("nested", "tcc");
    prepare(&dtm, &body, &service, &["yes"])?;
    for id in ["0101", "0102"] {
        ok(&dtm, "registerBranch", &branch("nested", "tcc", id, &service, "yes"))?;
    }
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "nested", "succeed PSPSPS")?;
    assert_eq!(told(&service), ["confirm/0102", "confirm/0101", "confirm/01"]);
    Ok(())
}

/// `01/can_commit` and so on, a phase at a time; within a phase in any order.
fn phases(service: &Participant) -> Vec<Vec<String>> {
    let mut phases: Vec<(String, Vec<String>)> = Vec::new();
    for call in service.asked() {
        let (op, id) = (call.parameter("op").to_owned(), call.parameter("branch_id").to_owned());
        match phases.last_mut() {
            Some((last, ids)) if *last == op => ids.push(id),
            _ => phases.push((op, vec![id])),
        }
    }
    let sorted = |(op, mut ids): (String, Vec<String>)| {
        ids.sort();
        [vec![op], ids].concat()
    };
    phases.into_iter().map(sorted).collect()
}

#[test]
fn three_phases_follow_each_other() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = named("3pc", "3pc");
    prepare(&dtm, &body, &service, &["a", "b"])?;
    ok(&dtm, "submit", &with(body, json!({ "wait_result": true })))?;
    becomes(&dtm, "3pc", "succeed PSSSPSSS")?;
    let expected =
        [["can_commit", "01", "02"], ["pre_commit", "01", "02"], ["do_commit", "01", "02"]];
    assert_eq!(phases(&service), expected);
    assert_eq!(service.asked()[0].body, "{}");
    Ok(())
}

/// A service that answers one path otherwise than with yes.
fn except(path: &'static str, answer: (u16, &'static str)) -> Result<Participant> {
    Participant::start(move |call| {
        let (status, body) = if call.path == path { answer } else { YES };
        (status, body.to_owned())
    })
}

#[test]
fn a_refused_vote_aborts_all_branches() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    // It refuses once the other vote is in: one that is on its way then does not count.
    let service = Participant::start(|call| {
        let (status, body) = match call.path.as_str() {
            "/b/can_commit" => {
                std::thread::sleep(Duration::from_millis(300));
                super::NO
            }
            _ => YES,
        };
        (status, body.to_owned())
    })?;
    let body = named("3pc-no", "3pc");
    prepare(&dtm, &body, &service, &["a", "b"])?;
    let waiting = with(body.clone(), json!({ "wait_result": true }));
    let said = refused(&dtm, "submit", &waiting)?;
    assert!(said["message"].as_str().is_some_and(|text| text.contains("sold out")), "{said}");
    // The abort has its own time: the client heard of the refusal, or of the end.
    let found = becomes(&dtm, "3pc-no", "failed SSPPSFPP")?;
    assert!(found["transaction"]["rollback_reason"].to_string().contains("sold out"), "{found}");
    assert_eq!(phases(&service), [["can_commit", "01", "02"], ["abort", "01", "02"]]);
    Ok(())
}

#[test]
fn a_vote_that_does_not_come_in_time_aborts() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = except("/b/can_commit", super::LATER)?;
    let body =
        with(named("3pc-late", "3pc"), json!({ "timeout_to_fail": 0.8, "retry_interval": LONG }));
    prepare(&dtm, &body, &service, &["a", "b"])?;
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "3pc-late", "failed SSPPSPPP")?;
    assert_eq!(phases(&service), [["can_commit", "01", "02"], ["abort", "01", "02"]]);
    Ok(())
}

#[test]
fn what_was_announced_to_all_is_done() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = except("/b/do_commit", super::BROKEN)?;
    let more: Value = json!({ "timeout_to_fail": 0.5, "retry_interval": 0.2 });
    let body = with(named("3pc-done", "3pc"), more);
    prepare(&dtm, &body, &service, &["a", "b"])?;
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "3pc-done", "submitted PSSSPSSP")?;
    std::thread::sleep(Duration::from_millis(900));
    becomes(&dtm, "3pc-done", "submitted PSSSPSSP")?;
    assert!(service.paths().iter().all(|path| !path.ends_with("abort")), "{:?}", service.paths());
    ok(&dtm, "forceStop", &body)
}
