//! What may be read: one transaction, pages of them, and answers over JSON-RPC.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use quorate_e2e::http1::{request, send};
use serde_json::{Value, json};

use super::{LONG, becomes, named, ok, prepare, saga, service, shared, with};
use crate::dtm::Dtm;

#[test]
fn nobody_is_null_with_no_branches() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    assert_eq!(dtm.query("nobody")?, json!({ "transaction": null, "branches": [] }));
    let all = dtm.get("all?gid=nobody")?;
    assert_eq!(all["transactions"], Value::Null);
    let no_gid = request(dtm.endpoint(), "GET", "/api/dtmsvr/query")?;
    assert_eq!(no_gid.status, 500);
    assert!(no_gid.body.contains("no gid specified"), "{no_gid:?}");
    Ok(())
}

/// C# reads numbers of 31 bits and times that must not be null.
#[test]
fn typed_clients_can_read_a_transaction() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = saga("typed", &service, &[("later", "yes")]);
    ok(&dtm, "submit", &with(body, json!({ "retry_interval": LONG })))?;
    let found = becomes(&dtm, "typed", "submitted PP")?;
    let transaction = &found["transaction"];
    for time in ["create_time", "update_time", "next_cron_time"] {
        assert!(transaction[time].as_str().is_some_and(|text| text.ends_with('Z')), "{found}");
    }
    assert!(transaction["id"].as_i64().is_some_and(|id| id < 1 << 31), "{found}");
    assert_eq!(transaction["concurrent"], false);
    for unset in ["finish_time", "rollback_time"] {
        assert!(transaction.get(unset).is_none(), "{found}");
        assert!(found["branches"][0].get(unset).is_none(), "{found}");
    }
    assert!(!found.to_string().contains("null"), "{found}");
    Ok(())
}

fn names(page: &Value) -> BTreeSet<String> {
    let list = page["transactions"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|one| one["gid"].as_str().map(str::to_owned)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn pages_bring_each_transaction_once() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm checklist")? else { return Ok(()) };
    for gid in ["p1", "p2", "p3"] {
        ok(&dtm, "prepare", &named(gid, "tcc"))?;
    }
    let (mut found, mut position) = (Vec::new(), String::new());
    loop {
        let page = dtm.get(&format!("all?limit=1&position={position}"))?;
        found.extend(names(&page));
        position = page["next_position"].as_str().unwrap_or("none").to_owned();
        if position.is_empty() {
            break;
        }
        ensure!(found.len() < 4, "{found:?}");
    }
    found.sort();
    assert_eq!(found, ["p1", "p2", "p3"]);
    let all = dtm.get("all?limit=1000")?;
    assert_eq!((names(&all), &all["next_position"]), (set(&["p1", "p2", "p3"]), &json!("")));
    assert_eq!(names(&dtm.get("all?gid=p2")?), set(&["p2"]));
    assert_eq!(request(dtm.endpoint(), "GET", "/api/dtmsvr/all?limit=x")?.status, 500);
    Ok(())
}

#[test]
fn lists_can_be_filtered() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm checklist")? else { return Ok(()) };
    let service = service()?;
    ok(&dtm, "prepare", &named("f1", "tcc"))?;
    ok(&dtm, "submit", &saga("f2", &service, &[("yes", "yes")]))?;
    becomes(&dtm, "f2", "succeed PS")?;
    for (filter, expected) in [
        ("status=prepared", set(&["f1"])),
        ("status=succeed&transType=saga", set(&["f2"])),
        ("status=succeed&transType=tcc", set(&[])),
        ("status=nosuch", set(&[])),
        ("createTimeEnd=1000", set(&[])),
        ("createTimeStart=1000", set(&["f1", "f2"])),
        ("createTimeStart=1000&createTimeEnd=9000000000000", set(&["f1", "f2"])),
        ("createTimeStart=9000000000000", set(&[])),
    ] {
        let page = dtm.get(&format!("all?{filter}"))?;
        assert_eq!((names(&page), &page["next_position"]), (expected, &json!("")), "{filter}");
    }
    Ok(())
}

#[test]
fn what_waits_for_long_can_be_woken_in_bulk() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm checklist")? else { return Ok(()) };
    let service = service()?;
    for gid in ["w1", "w2"] {
        let body = saga(gid, &service, &[("later", "yes")]);
        ok(&dtm, "submit", &with(body, json!({ "retry_interval": 1000 })))?;
    }
    super::asked(&service, 2)?;
    for gid in ["w1", "w2"] {
        becomes(&dtm, gid, "submitted PP")?;
    }
    let first = dtm.get("resetCronTime?timeout=100&limit=1")?;
    assert_eq!(first, json!({ "succeed_count": 1, "has_remaining": true }));
    super::asked(&service, 3)?;
    Ok(())
}

fn rpc(dtm: &Dtm, body: &str) -> Result<(u16, Value)> {
    let answer = send(dtm.endpoint(), "POST", "/api/json-rpc", body)?;
    let said: Value = serde_json::from_str(&answer.body)?;
    let keys: Vec<_> =
        said.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let sorted: BTreeSet<_> = keys.iter().map(String::as_str).collect();
    ensure!(sorted == BTreeSet::from(["error", "id", "jsonrpc", "result"]), "{said}");
    Ok((answer.status, said))
}

#[test]
fn json_rpc_has_its_codes() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let call = |method: &str, params: Value| {
        json!({ "jsonrpc": "2.0", "id": "9", "method": method, "params": params }).to_string()
    };
    for (text, code, status) in [
        ("{".to_owned(), -32_700, 400),
        (r#"{"jsonrpc":"2.0","id":7,"method":"newGid"}"#.to_owned(), -32_700, 400),
        (r#"{"jsonrpc":"2.0","id":"","method":"newGid"}"#.to_owned(), -32_600, 200),
        (r#"{"jsonrpc":"1.0","id":"9","method":"newGid"}"#.to_owned(), -32_600, 200),
        (call("nosuch", json!({})), -32_601, 200),
        (call("submit", named("rpc-kind", "nosuch")), -32_603, 200),
    ] {
        let (found, said) = rpc(&dtm, &text)?;
        assert_eq!((found, said["error"]["code"].as_i64()), (status, Some(code)), "{text}: {said}");
        assert_eq!(said["result"], Value::Null, "{said}");
    }
    let (_, fresh) = rpc(&dtm, &call("newGid", json!({})))?;
    assert!(fresh["result"]["gid"].is_string() && fresh["error"].is_null(), "{fresh}");
    for method in ["prepare", "abort"] {
        let (_, said) = rpc(&dtm, &call(method, named("rpc", "tcc")))?;
        assert_eq!(said, json!({ "jsonrpc": "2.0", "id": "9", "error": null, "result": null }));
    }
    becomes(&dtm, "rpc", "failed ")?;
    let (_, said) = rpc(&dtm, &call("submit", named("rpc", "tcc")))?;
    assert_eq!(said["error"]["code"], -32_901, "{said}");
    let stands = json!({ "http": 409, "status": "failed", "state": "rolled_back" });
    assert_eq!(said["error"]["data"], stands, "{said}");
    Ok(())
}

#[test]
fn still_going_on_is_an_internal_error_over_json_rpc() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = with(named("rpc-on", "tcc"), json!({ "wait_result": true, "retry_interval": LONG }));
    prepare(&dtm, &body, &service, &["later"])?;
    let call = json!({ "jsonrpc": "2.0", "id": "9", "method": "submit", "params": body });
    let (_, said) = rpc(&dtm, &call.to_string())?;
    assert_eq!(said["error"]["code"], -32_603, "{said}");
    let stands = json!({ "http": 425, "status": "submitted", "state": "running" });
    assert_eq!(said["error"]["data"], stands, "{said}");
    Ok(())
}
