//! What goes out with calls of branches beyond DTM's own protocol: the trace that the client's request belongs to, TLS with
//! an authority that the operator names, and what earlier steps of a saga answered.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quorate_e2e::grpc_participant::GrpcParticipant;
use quorate_e2e::http1::send_as;
use quorate_e2e::limits::REFUSAL;
use quorate_e2e::participant::{Asked, Participant};
use quorate_e2e::process::Process;
use quorate_e2e::server::Plan;
use quorate_e2e::tls::Authority;
use quorate_e2e::tools::skip_for_etcd;
use quorate_wire::dtmgimp as pb;
use serde_json::{Value, json};

use crate::dtm::{Dtm, yes};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";
const STATE: &str = "shop=17";
/// From submit to the first answer of a branch.
const SOON: Duration = Duration::from_secs(15);

/// A POST of JSON that belongs to a trace.
fn traced(dtm: &Dtm, path: &str, parent: &str, body: &Value) -> Result<()> {
    let headers = format!(
        "Host: {}\r\nContent-Type: application/json\r\nTraceparent: {parent}\r\ntracestate: {STATE}\r\n",
        dtm.endpoint()
    );
    let answer = send_as(dtm.endpoint(), "POST", path, &headers, &body.to_string())?;
    ensure!(answer.status == 200 && !answer.body.contains("\"code\""), "{path}: {answer:?}");
    Ok(())
}

/// A saga of one step, whose action and compensation are these URLs.
fn saga(gid: &str, action: &str, compensate: &str) -> Value {
    let steps = json!([{ "action": action, "compensate": compensate }]);
    json!({ "gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["{}"] })
}

fn no() -> Result<Participant> {
    Participant::start(|asked| match asked.path.as_str() {
        "/do" => (409, "{\"dtm_result\":\"FAILURE\"}".to_owned()),
        _ => (200, String::new()),
    })
}

#[test]
fn a_trace_goes_on_over_http() -> Result<()> {
    let Some(dtm) = Dtm::start("outgoing")? else { return Ok(()) };
    let service = no()?;
    let url = |path: &str| format!("{}/{path}", service.base());
    let traces = |gid: &str, calls: &[(&str, &str)]| -> Result<()> {
        dtm.end(gid)?;
        let asked = service.asked_of(gid);
        let found: Vec<_> =
            asked.iter().map(|call| (call.path.as_str(), call.header("traceparent"))).collect();
        let calls: Vec<_> = calls.iter().map(|(path, parent)| (*path, vec![*parent])).collect();
        ensure!(found == calls, "{found:?}");
        Ok(())
    };
    // Also the calls that undo.
    let undone = saga("t-saga", &url("do"), &url("undo"));
    traced(&dtm, "/api/dtmsvr/submit", PARENT, &undone)?;
    traces("t-saga", &[("/do", PARENT), ("/undo", PARENT)])?;
    assert_eq!(service.asked_of("t-saga")[0].header("tracestate"), [STATE]);
    let over_rpc = saga("t-rpc", &url("yes"), "");
    let over_rpc = json!({ "jsonrpc": "2.0", "id": "1", "method": "submit", "params": over_rpc });
    traced(&dtm, "/api/json-rpc", PARENT, &over_rpc)?;
    traces("t-rpc", &[("/yes", PARENT)])?;
    // What the client asks for by name is its own business.
    let mut own = saga("t-own", &url("yes"), "");
    own["branch_headers"] = json!({ "TraceParent": OTHER });
    traced(&dtm, "/api/dtmsvr/submit", PARENT, &own)?;
    traces("t-own", &[("/yes", OTHER)])?;
    // The request that begins a transaction says which trace it belongs to.
    let named = json!({ "gid": "t-tcc", "trans_type": "tcc" });
    let mut branch = named.clone();
    for (name, value) in
        [("branch_id", "01"), ("data", "{}"), ("confirm", &url("yes")), ("cancel", "")]
    {
        branch[name] = value.into();
    }
    traced(&dtm, "/api/dtmsvr/prepare", PARENT, &named)?;
    traced(&dtm, "/api/dtmsvr/registerBranch", OTHER, &branch)?;
    traced(&dtm, "/api/dtmsvr/submit", OTHER, &named)?;
    traces("t-tcc", &[("/yes", PARENT)])
}

#[tokio::test]
async fn a_trace_goes_on_over_grpc() -> Result<()> {
    let Some(dtm) = Dtm::start("outgoing")? else { return Ok(()) };
    let service = GrpcParticipant::start(|_| Ok(()))?;
    let url = format!("http://{}", dtm.endpoint());
    let mut client = pb::dtm_client::DtmClient::connect(url).await?;
    let mut request = tonic::Request::new(pb::DtmRequest {
        gid: "t-grpc".to_owned(),
        trans_type: "saga".to_owned(),
        steps: json!([{ "action": service.url("Do") }]).to_string(),
        bin_payloads: vec![bytes::Bytes::from_static(b"\x0a\x01x")],
        ..Default::default()
    });
    request.metadata_mut().insert("traceparent", PARENT.parse()?);
    request.metadata_mut().insert("tracestate", STATE.parse()?);
    client.submit(request).await?;
    assert_eq!(dtm.end("t-grpc")?.0, "succeed");
    // And from one to the other.
    let mut mixed = saga("t-mixed", &service.url("Do"), "");
    mixed["protocol"] = "grpc".into();
    traced(&dtm, "/api/dtmsvr/submit", PARENT, &mixed)?;
    assert_eq!(dtm.end("t-mixed")?.0, "succeed");
    let asked = service.asked();
    assert_eq!(asked.len(), 2);
    for call in asked {
        let found = (call.header("traceparent"), call.header("tracestate"));
        assert_eq!(found, (PARENT, STATE), "{:?}", call.headers);
    }
    Ok(())
}

/// Waits until a call of the only step's action has failed; what the operator is told about it.
fn why_not(dtm: &Dtm, gid: &str) -> Result<String> {
    let begun = Instant::now();
    loop {
        let found = dtm.query(gid)?;
        if let Some(why) = found["branches"][1]["last_answer"].as_str() {
            ensure!(found["transaction"]["status"] == "submitted", "{found}");
            return Ok(why.to_owned());
        }
        ensure!(begun.elapsed() < SOON, "{found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_authority_that_the_operator_names_is_trusted() -> Result<()> {
    let authority = Authority::new()?;
    let flag = format!("--branch-ca-file={}", authority.file().display());
    let Some(dtm) = Dtm::start_with("outgoing", &[&flag])? else { return Ok(()) };
    let (http, grpc) = (yes()?, GrpcParticipant::start(|_| Ok(()))?);
    let http_port = authority.door(http.address(), &["http/1.1"])?;
    let grpc_port = authority.door(grpc.address(), &["h2"])?;
    let plain = saga("tls-http", &format!("https://localhost:{http_port}/do"), "");
    ensure!(dtm.status("submit", &plain)? == 200);
    assert_eq!(dtm.end("tls-http")?.0, "succeed");
    assert_eq!(http.paths(), ["/do"]);
    let mut over = saga("tls-grpc", &format!("grpcs://localhost:{grpc_port}/e2e.Busi/Do"), "");
    over["protocol"] = "grpc".into();
    ensure!(dtm.status("submit", &over)? == 200);
    assert_eq!(dtm.end("tls-grpc")?.0, "succeed");
    assert_eq!(grpc.methods(), ["Do"]);
    // Its word is good for the name in the certificate alone.
    let misnamed = saga("tls-name", &format!("https://127.0.0.1:{http_port}/do"), "");
    ensure!(dtm.status("submit", &misnamed)? == 200);
    let why = why_not(&dtm, "tls-name")?;
    assert!(why.contains("NotValidForName") || why.contains("not valid for name"), "{why}");
    assert_eq!(http.paths(), ["/do"], "nothing was said to the wrong one");
    Ok(())
}

#[test]
fn an_authority_that_nobody_named_is_not() -> Result<()> {
    let Some(dtm) = Dtm::start("outgoing")? else { return Ok(()) };
    let (authority, service) = (Authority::new()?, yes()?);
    let port = authority.door(service.address(), &["http/1.1"])?;
    let body = saga("tls-stranger", &format!("https://localhost:{port}/do"), "");
    ensure!(dtm.status("submit", &body)? == 200);
    let why = why_not(&dtm, "tls-stranger")?;
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert!(service.asked().is_empty(), "nothing was said to the stranger");
    Ok(())
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused() -> Result<()> {
    if skip_for_etcd("outgoing", "which calls nobody")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")?;
    for file in [folder.path().join("absent.pem"), garbage] {
        let flag = format!("--branch-ca-file={}", file.display());
        let plan = Plan::new(folder.path().join("data"))?.with(&[&flag]);
        let mut command = plan.program()?;
        command.args(plan.flags());
        let mut process = Process::spawn("a refused start", command)?;
        let status = process.wait(REFUSAL)?;
        let said = process.stderr();
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("--branch-ca-file"), "{said}");
        assert!(said.contains(&file.display().to_string()), "{said}");
    }
    Ok(())
}

/// What a call was given, and what of earlier steps.
fn given(asked: &[Asked], path: &str) -> Result<Value> {
    let call = asked.iter().find(|call| call.path == path);
    let Some(call) = call else { anyhow::bail!("{path} was not called: {asked:?}") };
    Ok(serde_json::from_str(&call.body)?)
}

#[test]
fn a_step_gets_what_it_rests_on() -> Result<()> {
    let Some(dtm) = Dtm::start("outgoing")? else { return Ok(()) };
    let service = Participant::start(|asked| match asked.path.as_str() {
        "/seat/do" => (200, "{\"seat\":\"12A\"}".to_owned()),
        "/meal/do" => (200, "vegetarian, \"hot\"".to_owned()),
        "/bill/do" => {
            // The meal has answered by then.
            std::thread::sleep(Duration::from_millis(500));
            (409, "{\"dtm_result\":\"FAILURE\"}".to_owned())
        }
        _ => (200, String::new()),
    })?;
    let step = |name: &str| {
        let url = |what: &str| format!("{}/{name}/{what}", service.base());
        json!({ "action": url("do"), "compensate": url("undo") })
    };
    // The meal rests on nothing; the bill on the seat alone.
    let custom = json!({ "pass_results": true, "concurrent": true, "orders": { "2": [0] } });
    let body = json!({
        "gid": "results", "trans_type": "saga", "custom_data": custom.to_string(),
        "steps": [step("seat"), step("meal"), step("bill")],
        "payloads": ["{\"row\":12}", "text", ""],
    });
    ensure!(dtm.status("submit", &body)? == 200);
    assert_eq!(dtm.end("results")?.0, "failed");
    let asked = service.asked();
    let seat = json!({ "seat": "12A" });
    for (path, expected) in [
        ("/seat/do", json!({ "data": { "row": 12 }, "results": {} })),
        ("/meal/do", json!({ "data": "text", "results": {} })),
        ("/bill/do", json!({ "data": null, "results": { "01": seat } })),
        ("/bill/undo", json!({ "data": null, "results": { "01": seat } })),
        ("/seat/undo", json!({ "data": { "row": 12 }, "results": { "01": seat } })),
        ("/meal/undo", json!({ "data": "text", "results": { "02": "vegetarian, \"hot\"" } })),
    ] {
        assert_eq!(given(&asked, path)?, expected, "{path}");
    }
    Ok(())
}
