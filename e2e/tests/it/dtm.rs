//! Global transactions over DTM's HTTP protocol: the statuses and bodies that its clients rely on, and what
//! branches are asked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quorate_e2e::http1::{Answer, request, send};
use quorate_e2e::participant::Participant;
use quorate_e2e::ports;
use quorate_e2e::server::Server;
use quorate_e2e::tools::skip_for_etcd;
use serde_json::{Value, json};

/// How long a transaction may take to end here.
const END: Duration = Duration::from_secs(20);

/// A server with DTM's port, or `None` if the server is etcd.
#[derive(Debug)]
pub(crate) struct Dtm {
    server: Server,
    endpoint: String,
}

impl Dtm {
    pub(crate) fn start(name: &str) -> Result<Option<Self>> {
        Self::start_with(name, &[])
    }

    /// As [`Self::start`], with flags.
    pub(crate) fn start_with(name: &str, flags: &[&str]) -> Result<Option<Self>> {
        if skip_for_etcd(name, "which has no global transactions")? {
            return Ok(None);
        }
        let endpoint = format!("127.0.0.1:{}", ports::free()?);
        let listen = format!("--listen-dtm-urls=http://{endpoint}");
        let flags: Vec<&str> = flags.iter().copied().chain([listen.as_str()]).collect();
        let server = Server::start(&flags)?;
        Ok(Some(Self { server, endpoint }))
    }

    /// The process behind it.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// `host:port`, for HTTP and gRPC.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What clients are given.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/dtmsvr", self.endpoint)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let answer = request(&self.endpoint, "GET", &format!("/api/dtmsvr/{path}"))?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Result<Answer> {
        send(&self.endpoint, "POST", &format!("/api/dtmsvr/{path}"), body)
    }

    /// Status of a request with this JSON.
    pub(crate) fn status(&self, path: &str, body: &Value) -> Result<u16> {
        Ok(self.post(path, &body.to_string())?.status)
    }

    pub(crate) fn query(&self, gid: &str) -> Result<Value> {
        self.get(&format!("query?gid={gid}"))
    }

    /// Waits until the transaction has ended; its status and rows as `op:status`.
    pub(crate) fn end(&self, gid: &str) -> Result<(String, Vec<String>)> {
        let begun = Instant::now();
        loop {
            let found = self.query(gid)?;
            let status = found["transaction"]["status"].as_str().context("a status")?.to_owned();
            if matches!(status.as_str(), "succeed" | "failed") {
                return Ok((status, rows(&found)));
            }
            ensure!(begun.elapsed() < END, "{gid} has not ended: {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn tcc(&self, gid: &str, service: &Participant, branches: &[&str]) -> Result<()> {
        ensure!(self.status("prepare", &body(gid))? == 200);
        for branch in branches {
            ensure!(self.status("registerBranch", &branch_of(gid, branch, service))? == 200);
        }
        Ok(())
    }
}

pub(crate) fn rows(found: &Value) -> Vec<String> {
    let rows = found["branches"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| format!("{}:{}", text(row, "op"), text(row, "status"))).collect()
}

fn body(gid: &str) -> Value {
    json!({ "gid": gid, "trans_type": "tcc" })
}

fn branch_of(gid: &str, branch: &str, service: &Participant) -> Value {
    let base = service.base();
    json!({
        "gid": gid, "trans_type": "tcc", "branch_id": branch, "data": format!("{{\"b\":\"{branch}\"}}"),
        "confirm": format!("{base}/confirm{branch}?own=1"), "cancel": format!("{base}/cancel{branch}"),
    })
}

pub(crate) fn yes() -> Result<Participant> {
    Participant::start(|_| (200, "{\"dtm_result\":\"SUCCESS\"}".to_owned()))
}

#[test]
fn names_and_versions() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let fresh = dtm.get("newGid")?;
    assert_eq!(fresh["dtm_result"], "SUCCESS");
    assert_eq!(fresh["gid"].as_str().map(str::len), Some(22));
    assert_ne!(fresh["gid"], dtm.get("newGid")?["gid"]);
    assert!(dtm.get("version")?["version"].as_str().is_some_and(|v| v.starts_with("v1.")));
    let ping = request(&dtm.endpoint, "POST", "/api/ping")?;
    assert_eq!((ping.status, ping.body.as_str()), (200, "{\"msg\":\"pong\"}"));
    assert_eq!(dtm.query("nobody")?, json!({ "transaction": null, "branches": [] }));
    assert_eq!(dtm.post("nosuch", "{}")?.status, 404);
    assert_eq!(request(&dtm.endpoint, "GET", "/api/dtmsvr/query")?.status, 500);
    Ok(())
}

#[test]
fn tcc_confirms_the_last_branch_first() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = yes()?;
    dtm.tcc("t1", &service, &["01", "02"])?;
    assert_eq!(dtm.status("submit", &body("t1"))?, 200);
    let (status, rows) = dtm.end("t1")?;
    assert_eq!(status, "succeed");
    assert_eq!(rows, ["cancel:prepared", "confirm:succeed", "cancel:prepared", "confirm:succeed"]);
    let asked = service.asked();
    assert_eq!(service.paths(), ["/confirm02", "/confirm01"]);
    assert_eq!((asked[0].method.as_str(), asked[0].body.as_str()), ("POST", "{\"b\":\"02\"}"));
    assert!(asked[0].headers.contains("content-type: application/json"), "{:?}", asked[0]);
    assert_eq!(asked[0].query, "own=1&gid=t1&trans_type=tcc&branch_id=02&op=confirm");
    Ok(())
}

#[test]
fn tcc_cancels_with_its_reason() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = yes()?;
    dtm.tcc("t2", &service, &["01", "02"])?;
    let abort = json!({ "gid": "t2", "trans_type": "tcc", "rollback_reason": "no FAILURE" });
    assert_eq!(dtm.status("abort", &abort)?, 200);
    let (status, rows) = dtm.end("t2")?;
    assert_eq!(status, "failed");
    assert_eq!(rows, ["cancel:succeed", "confirm:prepared", "cancel:succeed", "confirm:prepared"]);
    assert_eq!(service.paths(), ["/cancel02", "/cancel01"]);
    assert_eq!(dtm.query("t2")?["transaction"]["rollback_reason"], "no FAILURE");
    Ok(())
}

#[test]
fn what_comes_too_late_is_refused() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = yes()?;
    dtm.tcc("t3", &service, &["01"])?;
    assert_eq!(dtm.status("prepare", &body("t3"))?, 200, "prepared twice");
    assert_eq!(dtm.status("submit", &body("t3"))?, 200);
    dtm.end("t3")?;
    for (path, json) in [
        ("prepare", body("t3")),
        ("submit", body("t3")),
        ("abort", body("t3")),
        ("registerBranch", branch_of("t3", "02", &service)),
        ("forceStop", body("t3")),
    ] {
        let answer = dtm.post(path, &json.to_string())?;
        assert_eq!(answer.status, 409, "{path}: {answer:?}");
        let said: Value = serde_json::from_str(&answer.body)?;
        assert_eq!(said["dtm_result"], "FAILURE", "{path}");
        assert!(said["message"].as_str().is_some_and(|text| text.ends_with("FAILURE")), "{said}");
    }
    assert_eq!(service.paths().len(), 1, "one confirm and nothing else");
    Ok(())
}

#[test]
fn bad_input_is_refused_and_nothing_is_written() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    for (path, text) in [
        ("prepare", ""),
        ("prepare", "{"),
        ("prepare", "[]"),
        ("prepare", r#"{"gid":"","trans_type":"tcc"}"#),
        ("prepare", r#"{"gid":"b1"}"#),
        ("submit", r#"{"gid":"b1","trans_type":"nosuch"}"#),
        ("submit", r#"{"gid":7,"trans_type":"tcc"}"#),
        ("submit", r#"{"gid":"b1","trans_type":"saga","steps":[{"action":"http://a/"}]}"#),
        ("abort", r#"{"gid":"b1","trans_type":"tcc"}"#),
        ("forceStop", r#"{"gid":"b1"}"#),
        ("registerBranch", r#"{"gid":"b1","branch_id":1}"#),
        (
            "submit",
            r#"{"gid":"b1","trans_type":"saga","steps":[{"action":"x"}],"payloads":["{}"]}"#,
        ),
        ("submit", r#"{"gid":"b1","trans_type":"msg","query_prepared":"ftp://a/"}"#),
        ("submit", r#"{"gid":"b1","trans_type":"saga","branch_headers":{"a b":"x"}}"#),
        (
            "submit",
            r#"{"gid":"b1","trans_type":"msg","steps":[{"action":"topic://t"}],"payloads":["1"]}"#,
        ),
        (
            "submit",
            r#"{"gid":"b1","trans_type":"saga","custom_data":"{\"orders\":{\"0\":[1],\"1\":[0]}}",
               "steps":[{"action":""},{"action":""}],"payloads":["1","2"]}"#,
        ),
    ] {
        let answer = dtm.post(path, text)?;
        assert_eq!(answer.status, 500, "{path} {text}: {answer:?}");
        let said: Value = serde_json::from_str(&answer.body)?;
        assert!(said["message"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
        assert!(!answer.body.contains("FAILURE") && said.get("dtm_result").is_none(), "{said}");
    }
    let all = dtm.get("all")?;
    assert_eq!((&all["transactions"], &all["next_position"]), (&json!([]), &json!("")));
    Ok(())
}

#[test]
fn lists_have_pages() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = yes()?;
    for gid in ["p1", "p2", "p3"] {
        dtm.tcc(gid, &service, &["01"])?;
    }
    assert_eq!(dtm.status("submit", &body("p2"))?, 200);
    dtm.end("p2")?;
    let names = |page: &Value| -> Vec<String> {
        let list = page["transactions"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|one| one["gid"].as_str().map(str::to_owned)).collect()
    };
    let first = dtm.get("all?limit=1")?;
    assert_eq!((names(&first), &first["next_position"]), (vec!["p1".to_owned()], &json!("p1")));
    let rest = dtm.get("all?limit=1000&position=p1")?;
    assert_eq!((names(&rest).len(), &rest["next_position"]), (2, &json!("")));
    assert_eq!(names(&dtm.get("all?status=succeed&transType=tcc")?), ["p2"]);
    assert!(names(&dtm.get("all?status=prepared&transType=saga")?).is_empty());
    assert!(names(&dtm.get("all?createTimeEnd=1000")?).is_empty());
    Ok(())
}

#[test]
fn json_rpc_has_its_codes() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let call = |method: &str, params: Value| -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": "9", "method": method, "params": params });
        let answer = send(&dtm.endpoint, "POST", "/api/json-rpc", &body.to_string())?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    };
    assert_eq!(call("newGid", json!({}))?["result"]["gid"].as_str().map(str::len), Some(22));
    let done = json!({ "jsonrpc": "2.0", "id": "9", "error": null, "result": null });
    assert_eq!(call("prepare", body("j1"))?, done);
    assert_eq!(call("abort", body("j1"))?, done);
    dtm.end("j1")?;
    assert_eq!(call("submit", body("j1"))?["error"]["code"], -32_901);
    assert_eq!(call("nosuch", json!({}))?["error"]["code"], -32_601);
    Ok(())
}

#[test]
fn a_saga_is_undone_backwards() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = Participant::start(|asked| match asked.path.as_str() {
        "/do2" => (409, "{\"dtm_result\":\"FAILURE\",\"message\":\"sold out\"}".to_owned()),
        _ => (200, String::new()),
    })?;
    let base = service.base();
    let step = |n: u32| json!({ "action": format!("{base}/do{n}"), "compensate": format!("{base}/undo{n}") });
    let saga = json!({
        "gid": "s1", "trans_type": "saga", "steps": [step(1), step(2)], "payloads": ["{}", "{}"],
        "custom_data": null, "subType": "x",
    });
    assert_eq!(dtm.status("submit", &saga)?, 200);
    let (status, rows) = dtm.end("s1")?;
    assert_eq!(status, "failed");
    assert_eq!(
        rows,
        ["compensate:succeed", "action:succeed", "compensate:succeed", "action:failed"]
    );
    assert_eq!(service.paths(), ["/do1", "/do2", "/undo2", "/undo1"]);
    let reason = dtm.query("s1")?["transaction"]["rollback_reason"].to_string();
    assert!(reason.contains("sold out"), "{reason}");
    assert_eq!(dtm.status("abort", &json!({ "gid": "s1", "trans_type": "saga" }))?, 409);
    Ok(())
}

#[tokio::test]
async fn grpc_says_the_same() -> Result<()> {
    use quorate_wire::dtmgimp as pb;
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = yes()?;
    let address = format!("http://{}", dtm.endpoint);
    let mut client = pb::dtm_client::DtmClient::connect(address).await?;
    assert_eq!(client.new_gid(()).await?.into_inner().gid.len(), 22);
    let request = pb::DtmRequest {
        gid: "g1".to_owned(),
        trans_type: "tcc".to_owned(),
        steps: "null".to_owned(),
        ..Default::default()
    };
    client.prepare(request.clone()).await?;
    let url = |op: &str| (op.to_owned(), format!("{}/{op}", service.base()));
    let branch = pb::DtmBranchRequest {
        gid: "g1".to_owned(),
        trans_type: "tcc".to_owned(),
        branch_id: "01".to_owned(),
        data: [url("confirm"), url("cancel")].into(),
        busi_payload: b"any bytes"[..].into(),
        ..Default::default()
    };
    client.register_branch(branch.clone()).await?;
    client.submit(request.clone()).await?;
    let (status, rows) = dtm.end("g1")?;
    assert_eq!((status.as_str(), rows.len()), ("succeed", 2));
    assert_eq!(service.paths(), ["/confirm"]);
    assert_eq!(service.asked()[0].body, "any bytes");
    let late = client.register_branch(branch).await.expect_err("it has ended");
    assert_eq!(late.code(), tonic::Code::Aborted, "{late:?}");
    assert!(late.message().ends_with("FAILURE"), "{late:?}");
    let unknown = pb::DtmRequest { trans_type: "nosuch".to_owned(), ..request };
    let unknown = client.submit(unknown).await.expect_err("no such kind");
    assert_eq!(unknown.code(), tonic::Code::Unknown, "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn topics_are_changed_over_grpc_too() -> Result<()> {
    use quorate_wire::dtmgimp as pb;
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let mut client = pb::dtm_client::DtmClient::connect(format!("http://{}", dtm.endpoint)).await?;
    let topic = |topic: &str, url: &str| pb::DtmTopicRequest {
        topic: topic.to_owned(),
        url: url.to_owned(),
        remark: "r".to_owned(),
    };
    client.subscribe(topic("news", "http://a/1")).await?;
    client.subscribe(topic("news", "localhost:1/pkg.Service/Method")).await?;
    for (request, text) in [
        (topic("news", "http://a/1"), "this url exists"),
        (topic("", "http://a/1"), "empty topic"),
        (topic("news", ""), "empty url"),
        (topic("news", "nonsense"), "bad URL"),
    ] {
        let refused = client.subscribe(request).await.expect_err(text);
        assert_eq!(refused.code(), tonic::Code::Unknown, "{refused:?}");
        assert!(refused.message().starts_with(text), "{refused:?}");
    }
    client.unsubscribe(topic("news", "http://a/1")).await?;
    let again = client.unsubscribe(topic("news", "http://a/1")).await.expect_err("gone");
    assert_eq!(again.message(), "no such an url");
    let row = &dtm.get("queryKV?cat=topics&key=news")?["kv"][0];
    assert_eq!((&row["k"], &row["version"]), (&json!("news"), &json!(3)));
    let subscribers: Value = serde_json::from_str(row["v"].as_str().context("a text")?)?;
    let expected = json!([{ "url": "localhost:1/pkg.Service/Method", "remark": "r" }]);
    assert_eq!(subscribers, expected);
    client.delete_topic(topic("news", "")).await?;
    let gone = client.delete_topic(topic("news", "")).await.expect_err("gone");
    assert_eq!(gone.message(), "storage: NotFound");
    Ok(())
}

#[test]
fn figures_have_the_names_that_dashboards_know() -> Result<()> {
    let Some(mut dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let service = Participant::start(|asked| match asked.path.as_str() {
        "/confirm02" => (409, "FAILURE".to_owned()),
        _ => (200, String::new()),
    })?;
    dtm.tcc("f1", &service, &["01"])?;
    dtm.tcc("f2", &service, &["02"])?;
    assert_eq!(dtm.status("submit", &body("f1"))?, 200);
    dtm.end("f1")?;
    let waits = json!({ "gid": "f2", "trans_type": "tcc", "wait_result": true });
    assert_eq!(dtm.status("submit", &waits)?, 409, "a confirm that must succeed, and fails");
    let page = request(&dtm.endpoint, "GET", "/api/metrics")?;
    assert_eq!(page.status, 200);
    assert!(page.headers.to_lowercase().contains("content-type: text/plain; version=0.0.4"));
    let client_port = dtm.server().endpoint();
    let whole = request(&client_port, "GET", "/metrics")?;
    for line in [
        "dtm_server_process_total{type=\"http\",api=\"submit\",status=\"fail\"} 1",
        "dtm_transaction_process_total{model=\"tcc\",status=\"ok\"} 1",
        "dtm_transaction_handled_duration_count{model=\"tcc\"} 1",
        "dtm_branch_process_total{model=\"tcc\",branchid=\"02\",branchtype=\"confirm\",status=\"fail\"} 1",
        "quorate_global_txn_prepare_ratio{kind=\"tcc\"} 1",
        "quorate_global_txn_commit_ratio{kind=\"tcc\"} 1",
        "quorate_global_txn_must_succeed_failures_total 1",
        "quorate_global_txn_unfinished 1",
        "quorate_outcall_destinations{breaker=\"closed\"} 1",
    ] {
        let has = |text: &str| text.lines().any(|found| found.trim_end() == line);
        assert!(has(&page.body), "{line} is not in\n{}", page.body);
        assert!(has(&whole.body), "{line} is not in /metrics");
    }
    let plain = |line: &&str| !line.starts_with('#');
    let names: Vec<&str> =
        whole.body.lines().filter(plain).filter_map(|l| l.split(' ').next()).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "a figure is told twice");
    Ok(())
}

#[tokio::test]
async fn a_full_store_is_named_and_is_no_reason_to_ask_again() -> Result<()> {
    use quorate_wire::dtmgimp as pb;
    let quota = "--quota-backend-bytes=8388608";
    let Some(dtm) = Dtm::start_with("dtm", &[quota])? else { return Ok(()) };
    let payload = "x".repeat(900_000);
    let refused = (0..64).find_map(|number| {
        let message = json!({
            "gid": format!("q{number}"), "trans_type": "msg", "query_prepared": "http://a/",
            "steps": [{ "action": "http://a/" }], "payloads": [payload],
        });
        let answer = dtm.post("prepare", &message.to_string());
        answer.map(|answer| (answer.status != 200).then_some((number, answer))).transpose()
    });
    let (number, answer) = refused.context("the quota never struck")??;
    assert!(number > 3, "8 MiB hold more than {number} x 900 kB");
    assert_eq!(answer.status, 507, "{answer:?}");
    let said: Value = serde_json::from_str(&answer.body)?;
    assert!(said["message"].as_str().is_some_and(|text| text.contains("quota")), "{said}");
    assert_eq!(
        dtm.query(&format!("q{number}"))?["transaction"],
        Value::Null,
        "nothing was written"
    );
    let mut client = pb::dtm_client::DtmClient::connect(format!("http://{}", dtm.endpoint)).await?;
    let request =
        pb::DtmRequest { gid: "qg".to_owned(), trans_type: "tcc".to_owned(), ..Default::default() };
    let refused = client.prepare(request).await.expect_err("full");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    Ok(())
}

#[test]
fn a_port_that_is_taken_matters_only_if_it_was_asked_for() -> Result<()> {
    let Some(dtm) = Dtm::start("dtm")? else { return Ok(()) };
    let plan = quorate_e2e::server::Plan::new(tempfile::tempdir()?.path().join("data"))?;
    let taken = format!("--listen-dtm-urls=http://{}", dtm.endpoint);
    let mut refused = plan.with(&[&taken]).spawn()?;
    let code = refused.process().wait(quorate_e2e::limits::REFUSAL)?.code();
    assert_eq!(code, Some(1), "{}", refused.process().tail());
    assert!(refused.process().stderr().contains("--listen-dtm-urls"));
    Server::start(&["--listen-dtm-urls=none"])?;
    Ok(())
}
