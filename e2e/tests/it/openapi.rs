//! The OpenAPI document is true: schemathesis makes requests of it, valid and not, against a server that has
//! transactions in every status, and checks each answer against it. Any 5xx is a failure.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use quorate_e2e::http1::{request, send};
use quorate_e2e::participant::Participant;
use quorate_e2e::tools::{python_with, skip};
use serde_json::{Value, json};

use crate::dtm::Dtm;

/// Seconds of each of the two runs.
const SECONDS: &str = "20";

/// A transaction that the second run names in each path.
const VICTIM: &str = "victim";

/// Transactions of several kinds in every status, stuck ones among them.
fn populate(dtm: &Dtm, service: &Participant) -> Result<()> {
    let base = service.base();
    let post = |route: &str, body: &Value| -> Result<()> {
        let answer = dtm.post(route, &body.to_string())?;
        ensure!(answer.status == 200, "{route}: {answer:?}");
        Ok(())
    };
    for (gid, path) in
        [("fine", "/ok"), ("refused", "/no"), ("stuck", "/broken"), (VICTIM, "/broken")]
    {
        let step = |action: &str| json!({ "action": format!("{base}{action}"), "compensate": format!("{base}/ok") });
        let steps = [step("/ok"), step(path)];
        let saga =
            json!({ "gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["{}", "{}"] });
        post("submit", &saga)?;
    }
    for gid in ["prepared", "confirming", "a/b c ü"] {
        post("prepare", &json!({ "gid": gid, "trans_type": "tcc", "timeout_to_fail": 3600 }))?;
        post(
            "registerBranch",
            &json!({
                "gid": gid, "trans_type": "tcc", "branch_id": "01", "data": "{}",
                "confirm": format!("{base}/broken"), "cancel": format!("{base}/ok"),
            }),
        )?;
    }
    post("submit", &json!({ "gid": "confirming", "trans_type": "tcc" }))?;
    post(
        "prepare",
        &json!({
            "gid": "message", "trans_type": "msg", "timeout_to_fail": 3600, "payloads": ["{}"],
            "query_prepared": format!("{base}/ok"), "steps": [{ "action": format!("{base}/ok") }],
        }),
    )?;
    let flow = json!({
        "gid": "flow", "trans_type": "workflow", "query_prepared": format!("{base}/ok"),
        "custom_data": "{\"name\":\"flow\",\"data\":\"e30=\"}",
    });
    post("prepareWorkflow", &flow)?;
    dtm.get("subscribe?topic=news&url=http://h/n&remark=r").map(drop)
}

/// Runs it with the given lines of configuration.
fn fuzz(python: &Path, url: &str, config: &str) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("schemathesis.toml");
    std::fs::write(&file, config)?;
    let run = "import schemathesis.cli; schemathesis.cli.schemathesis()";
    let mut command = Command::new(python);
    command.args(["-c", run, "--config-file"]).arg(&file).args(["run", url, "--no-color"]);
    // Nobody logs in here, so that there is no login that could be ignored.
    command.args(["--checks", "all", "--exclude-checks", "ignored_auth", "--warnings", "off"]);
    // A failing request is printed as a curl command; the seed makes a run on another machine alike.
    command.args(["--max-time", SECONDS, "--seed", "1", "--request-timeout", "20"]);
    Ok(command.current_dir(folder.path()).output()?)
}

#[test]
fn answers_are_as_the_document_says() -> Result<()> {
    let flags = ["--dtm-alert-after=1", "--dtm-retry-interval=2s"];
    let Some(mut dtm) = Dtm::start_with("openapi", &flags)? else { return Ok(()) };
    let Some(python) = python_with("schemathesis") else {
        skip("openapi", "no Python with schemathesis; cargo xtask peers gets one");
        return Ok(());
    };
    let service = Participant::start(|asked| match asked.path.as_str() {
        "/no" => (409, "{\"dtm_result\":\"FAILURE\"}".to_owned()),
        "/broken" => (500, "broken".to_owned()),
        _ => (200, String::new()),
    })?;
    populate(&dtm, &service)?;
    let endpoint = dtm.server().endpoint();
    let url = format!("http://{endpoint}/v1/openapi.json");
    let named = format!("[parameters]\n\"path.gid\" = \"{VICTIM}\"\n");
    for config in ["", &named] {
        let output = fuzz(&python, &url, config)?;
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("No issues found"), "{said}");
    }
    // The requests were none that fail on their way: what they asked for was done.
    let audit = request(&endpoint, "GET", &format!("/v1/txns/{VICTIM}/audit"))?;
    let audit: Value = serde_json::from_str(&audit.body).with_context(|| format!("{audit:?}"))?;
    assert!(audit["deeds"].as_array().is_some_and(|deeds| !deeds.is_empty()), "{audit}");
    let put = send(&endpoint, "POST", "/v1/txns/refused/stop", r#"{"by":"ada","why":"late"}"#)?;
    assert_eq!(put.status, 409, "it goes on serving: {put:?}");
    Ok(())
}
