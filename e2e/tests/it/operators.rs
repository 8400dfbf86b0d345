//! What operators see of global transactions and do about them: `quorate txn`, and `/v1/` below it, against one
//! server and against a follower of three.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quorate_e2e::cluster::Cluster;
use quorate_e2e::http1::{Answer, request, send, send_as};
use quorate_e2e::participant::Participant;
use quorate_e2e::ports;
use quorate_e2e::server::clean_environment;
use quorate_e2e::tools::{binary, skip_for_etcd};
use serde_json::{Value, json};

use crate::dtm::Dtm;

/// One error of a call is enough to be stuck, and the next try is far away.
const FLAGS: [&str; 2] = ["--dtm-alert-after=1", "--dtm-retry-interval=120s"];

/// How long something may take that takes no time.
const SOON: Duration = Duration::from_secs(30);

/// A server as its operator and its clients see it: `host:port` of both faces, and a service whose `/broken` fails
/// until it is repaired and whose `/never` fails for ever.
struct Place {
    v1: String,
    dtm: String,
    service: Participant,
    is_repaired: Arc<AtomicBool>,
}

/// Code, standard output, standard error.
type Said = (Option<i32>, String, String);

impl Place {
    fn new(v1: String, dtm: String) -> Result<Self> {
        let is_repaired = Arc::new(AtomicBool::new(false));
        let repaired = Arc::clone(&is_repaired);
        let service = Participant::start(move |asked| match asked.path.as_str() {
            "/broken" if repaired.load(Ordering::SeqCst) => (200, String::new()),
            "/broken" | "/never" => (500, "the shelf fell down".to_owned()),
            _ => (200, String::new()),
        })?;
        Ok(Self { v1, dtm, service, is_repaired })
    }

    fn begin(&self, route: &str, body: &Value) -> Result<()> {
        let path = format!("/api/dtmsvr/{route}");
        let answer = send(&self.dtm, "POST", &path, &body.to_string())?;
        ensure!(answer.status == 200, "{route}: {answer:?}");
        Ok(())
    }

    /// A saga whose second action goes to this path.
    fn saga(&self, gid: &str, path: &str) -> Result<()> {
        let base = self.service.base();
        let step = |action: &str| json!({ "action": format!("{base}{action}"), "compensate": format!("{base}/undo") });
        self.begin(
            "submit",
            &json!({
                "gid": gid, "trans_type": "saga", "steps": [step("/fine"), step(path)],
                "payloads": ["{\"piece\":1}", "{}"], "branch_headers": { "authorization": "secret" },
            }),
        )
    }

    /// A TCC that its application has not decided yet.
    fn tcc(&self, gid: &str) -> Result<()> {
        let base = self.service.base();
        let plain: String = gid.chars().filter(char::is_ascii_alphanumeric).collect();
        let head = json!({ "gid": gid, "trans_type": "tcc", "timeout_to_fail": 3600 });
        self.begin("prepare", &head)?;
        self.begin(
            "registerBranch",
            &json!({
                "gid": gid, "trans_type": "tcc", "branch_id": "01", "data": "{}",
                "confirm": format!("{base}/confirm-{plain}"), "cancel": format!("{base}/cancel-{plain}"),
            }),
        )
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = request(&self.v1, "GET", &format!("/v1/{path}"))?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// `quorate txn`.
    fn txn(&self, args: &[&str]) -> Result<Said> {
        let mut command = Command::new(&binary()?.path);
        clean_environment(&mut command);
        let output = command.arg("txn").args(args).args(["--endpoints", &self.v1]).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// What must work.
    fn done(&self, args: &[&str]) -> Result<String> {
        let (code, out, err) = self.txn(args)?;
        ensure!(code == Some(0), "txn {args:?}: {code:?} {out}{err}");
        Ok(out)
    }

    fn shown(&self, gid: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.done(&["show", gid, "--json"])?)?)
    }

    fn wait_stuck(&self, gid: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let page: Value = serde_json::from_str(&self.done(&["ls", "--stuck", "--json"])?)?;
            let txns = page["txns"].as_array().context("a list")?;
            if txns.iter().any(|txn| txn["gid"] == gid && txn["stuck"] == true) {
                return Ok(());
            }
            ensure!(begun.elapsed() < SOON, "{gid} is not stuck: {page}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The calls of a timeline, in order.
fn calls(shown: &Value) -> Vec<String> {
    let text = |call: &Value, name: &str| call[name].as_str().unwrap_or_default().to_owned();
    let calls = shown["timeline"]["calls"].as_array().cloned().unwrap_or_default();
    let told = |call: &Value| ["branch_id", "op", "outcome"].map(|name| text(call, name)).join(" ");
    calls.iter().map(told).collect()
}

fn audit(shown: &Value) -> Vec<String> {
    let text = |deed: &Value, name: &str| deed[name].as_str().unwrap_or_default().to_owned();
    let deeds = shown["audit"].as_array().cloned().unwrap_or_default();
    deeds.iter().map(|deed| ["by", "what", "why"].map(|name| text(deed, name)).join(": ")).collect()
}

/// One that fails is seen; after the repair a retry ends it at once, though its next try is far away.
fn retried(place: &Place) -> Result<()> {
    place.saga("retried", "/broken")?;
    place.wait_stuck("retried")?;
    let (ls, show) = (place.done(&["ls", "--stuck"])?, place.done(&["show", "retried"])?);
    for wanted in ["submitted, stuck", "status 500: the shelf fell down"] {
        assert!(ls.contains(wanted) && show.contains(wanted), "{ls}{show}");
    }
    assert!(show.contains("TIMELINE  2 calls") && !show.contains("secret"), "{show}");
    place.is_repaired.store(true, Ordering::SeqCst);
    let told = place.done(&["retry", "retried", "--by", "ada", "--why", "repaired"])?;
    assert!(told.contains("it has ended: succeed"), "{told}");
    let shown = place.shown("retried")?;
    assert_eq!(calls(&shown), ["01 action success", "02 action error", "02 action success"]);
    let call = &shown["timeline"]["calls"][1];
    assert_eq!(call["url"], format!("{}/broken", place.service.base()));
    assert!(call["latency_us"].as_u64() > Some(0) && call["at"].is_string(), "{call}");
    assert_eq!(audit(&shown), ["ada: retry now: repaired"]);
    assert_eq!(
        (&shown["txn"]["overridden"], &shown["txn"]["stuck"]),
        (&json!(false), &json!(false))
    );
    let (code, _, err) = place.txn(&["retry", "retried"])?;
    assert!(code == Some(1) && err.contains("'succeed'"), "{err}");
    Ok(())
}

/// Only what is waited for can be skipped, and it is not called for it.
fn skipped(place: &Place) -> Result<()> {
    place.saga("skipped", "/never")?;
    place.wait_stuck("skipped")?;
    let (code, _, err) = place.txn(&["skip", "skipped", "01", "action", "--why", "no"])?;
    assert!(code == Some(1) && err.contains("not waited for"), "{err}");
    assert_eq!(place.txn(&["skip", "skipped", "02", "action"])?.0, Some(2), "why is missing");
    let args = ["skip", "skipped", "02", "action", "--by", "ada", "--why", "sent by hand"];
    let told = place.done(&args)?;
    assert!(told.contains("it has ended: succeed, by hand"), "{told}");
    let shown = place.shown("skipped")?;
    assert_eq!(calls(&shown), ["01 action success", "02 action error"]);
    assert_eq!(audit(&shown), ["ada: skip action of branch 02: sent by hand"]);
    assert_eq!(shown["txn"]["overridden"], true);
    Ok(())
}

/// What nobody has decided can be decided, once.
fn forced(place: &Place) -> Result<()> {
    for (gid, word, status) in [("yes", "confirm", "succeed"), ("no", "cancel", "failed")] {
        place.tcc(gid)?;
        let told = place.done(&["force", gid, word, "--by", "ada", "--why", "they called"])?;
        assert!(told.contains(&format!("it has ended: {status}, by hand")), "{told}");
        assert!(place.service.paths().contains(&format!("/{word}-{gid}")), "{gid}");
        let (code, _, err) = place.txn(&["force", gid, word, "--why", "again"])?;
        assert!(code == Some(1) && err.contains(status), "{err}");
        assert_eq!(audit(&place.shown(gid)?).len(), 1, "a refusal changes nothing");
    }
    Ok(())
}

/// One that was stopped says so, and nobody hears of it any more.
fn stopped(place: &Place) -> Result<()> {
    place.saga("stopped", "/never")?;
    place.wait_stuck("stopped")?;
    place.done(&["stop", "stopped", "--by", "ada", "--why", "given up"])?;
    let shown = place.shown("stopped")?;
    assert_eq!(
        (&shown["txn"]["status"], &shown["txn"]["overridden"]),
        (&json!("failed"), &json!(true))
    );
    assert_eq!(audit(&shown), ["ada: stop: given up"]);
    assert_eq!(calls(&shown), ["01 action success", "02 action error"]);
    let text = place.done(&["show", "stopped"])?;
    assert!(text.contains("failed, by hand") && text.contains("given up"), "{text}");
    Ok(())
}

fn all(place: &Place) -> Result<()> {
    retried(place)?;
    skipped(place)?;
    forced(place)?;
    stopped(place)
}

#[test]
fn on_one_server() -> Result<()> {
    let Some(mut dtm) = Dtm::start_with("operators", &FLAGS)? else { return Ok(()) };
    let place = Place::new(dtm.server().endpoint(), dtm.endpoint().to_owned())?;
    all(&place)?;
    let (code, _, err) = place.txn(&["show", "nobody"])?;
    assert_eq!((code, err.as_str()), (Some(1), "quorate: there is no transaction 'nobody'\n"));
    let figures = place.get("figures")?;
    let of = |kind: &str| {
        let kinds = figures["kinds"]
            .as_array()
            .and_then(|kinds| kinds.iter().find(|of| of["kind"] == kind));
        kinds.cloned().unwrap_or_default()
    };
    assert_eq!((&of("saga")["succeed"], &of("tcc")["failed"]), (&json!(2), &json!(1)), "{figures}");
    assert_eq!(of("tcc")["p_commit_given_prepare"], json!(1.0), "{figures}");
    assert!(figures["is_driving"] == true && figures["stuck"] == 0, "{figures}");
    Ok(())
}

#[tokio::test]
async fn on_a_follower() -> Result<()> {
    let name = "operators of three";
    if skip_for_etcd(name, "which has no global transactions")? || !crate::three_nodes_allowed(name)
    {
        return Ok(());
    }
    let ports = (0..3).map(|_| ports::free()).collect::<Result<Vec<_>>>()?;
    let flags = |index: usize| {
        let listen = format!("--listen-dtm-urls=http://127.0.0.1:{}", ports[index]);
        FLAGS.iter().map(|flag| (*flag).to_owned()).chain([listen]).collect()
    };
    let cluster = Cluster::start_with(3, flags)?;
    let follower = (cluster.leader(&[0, 1, 2]).await? + 1) % 3;
    let dtm = format!("127.0.0.1:{}", ports[follower]);
    let place = Place::new(cluster.members[follower].endpoint(), dtm)?;
    all(&place)?;
    let figures = place.get("figures")?;
    assert!(figures["is_driving"] == false && figures["leader"] != figures["member"], "{figures}");
    Ok(())
}

#[test]
fn pages_hold_everything_once() -> Result<()> {
    let Some(mut dtm) = Dtm::start_with("operators: pages", &FLAGS)? else { return Ok(()) };
    let place = Place::new(dtm.server().endpoint(), dtm.endpoint().to_owned())?;
    let names: Vec<String> = (0..7).map(|n| format!("p/{n} ü")).collect();
    names.iter().try_for_each(|gid| place.tcc(gid))?;
    let end_of = |gid: &str| -> Result<()> {
        let begun = Instant::now();
        // A while at least, so that no two end in the same millisecond.
        std::thread::sleep(Duration::from_millis(20));
        while place.shown(gid)?["txn"]["ended"].is_null() {
            ensure!(begun.elapsed() < SOON, "{gid} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    place.saga("a", "/fine")?;
    end_of("a")?;
    let walk = |query: &str| -> Result<Vec<String>> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = place.get(&format!("txns?limit=3{query}{after}"))?;
            let txns = page["txns"].as_array().context("a list")?;
            ensure!(txns.len() <= 3, "{page}");
            found.extend(txns.iter().filter_map(|txn| Some(txn["gid"].as_str()?.to_owned())));
            let Some(next) = page["next"].as_str() else { return Ok(found) };
            after = format!("&after={next}");
        }
    };
    assert_eq!(walk("")?, [vec!["a".to_owned()], names.clone()].concat());
    assert_eq!(walk("&order=due")?, names, "all alike: first come, first due");
    assert_eq!(walk("&status=prepared&kind=tcc")?, names);
    assert_eq!(walk("&status=succeed")?, ["a"]);
    assert!(walk("&kind=xa")?.is_empty() && walk("&stuck=true")?.is_empty());
    let shown = place.shown(&names[0])?;
    assert_eq!(
        (&shown["txn"]["gid"], &shown["txn"]["status"]),
        (&json!(names[0]), &json!("prepared"))
    );
    place.begin("submit", &json!({ "gid": names[1], "trans_type": "tcc" }))?;
    for gid in [&names[4], &names[2]] {
        place.begin("abort", &json!({ "gid": gid, "trans_type": "tcc" }))?;
        end_of(gid)?;
    }
    let failed = [names[4].clone(), names[2].clone()];
    assert_eq!(walk("&order=ended&status=failed&kind=tcc")?, failed, "in the order of their ends");
    assert_eq!(walk("&order=ended&kind=saga")?, ["a"]);
    request(&place.dtm, "GET", "/api/dtmsvr/subscribe?topic=news&url=http://h/n&remark=r")?;
    let topics = place.get("topics")?;
    assert_eq!(topics["topics"][0]["subscribers"], json!([{ "url": "http://h/n", "remark": "r" }]));
    Ok(())
}

#[test]
fn what_is_wrong_is_said_in_one_shape() -> Result<()> {
    let Some(mut dtm) = Dtm::start_with("operators: errors", &FLAGS)? else { return Ok(()) };
    let place = Place::new(dtm.server().endpoint(), dtm.endpoint().to_owned())?;
    place.tcc("t")?;
    let v1 = place.v1.as_str();
    let own = format!("Host: {v1}\r\n");
    let json_type = format!("{own}Content-Type: application/json\r\n");
    let ok = r#"{"by":"ada","why":"w"}"#;
    let with = |extra: &str| format!("{own}{extra}\r\n");
    let stop = "/v1/txns/t/stop";
    let cases: [(&str, &str, &str, &str, u16, &str); 15] = [
        ("GET", "/v1/txns?limit=0", &own, "", 400, "bad_request"),
        ("GET", "/v1/txns?stuk=true", &own, "", 400, "bad_request"),
        ("GET", "/v1/txns/nobody", &own, "", 404, "not_found"),
        ("GET", "/v1/nothing", &own, "", 404, "not_found"),
        ("DELETE", "/v1/txns/t", &own, "", 405, "method_not_allowed"),
        ("GET", stop, &own, "", 405, "method_not_allowed"),
        ("POST", stop, &own, ok, 415, "unsupported_media_type"),
        ("POST", stop, &with("Content-Type: text/plain"), ok, 415, "unsupported_media_type"),
        ("POST", stop, &json_type, r#"{"by":"ada"}"#, 400, "bad_request"),
        ("POST", stop, &json_type, r#"{"by":"","why":"w"}"#, 400, "bad_request"),
        ("POST", stop, &json_type, &" ".repeat(20_000), 413, "too_large"),
        ("POST", "/v1/txns/nobody/stop", &json_type, ok, 404, "not_found"),
        ("GET", "/v1/txns", "Host: evil.test\r\n", "", 403, "forbidden"),
        ("GET", "/v1/txns", &with("Origin: http://evil.test"), "", 403, "forbidden"),
        ("POST", stop, &format!("{json_type}Origin: null\r\n"), ok, 403, "forbidden"),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = send_as(v1, method, path, headers, body)?;
        assert_eq!(answer.status, status, "{method} {path} {headers}: {answer:?}");
        told(&answer, code)?;
    }
    assert_eq!(place.shown("t")?["txn"]["status"], "prepared", "none of these changed anything");
    assert_eq!(send_as(v1, "POST", stop, &json_type, ok)?.status, 200);
    let again = send_as(v1, "POST", stop, &json_type, ok)?;
    assert_eq!(again.status, 409);
    told(&again, "conflict")
}

fn told(answer: &Answer, code: &str) -> Result<()> {
    let said: Value = serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
    assert_eq!(said["error"]["code"], code, "{answer:?}");
    assert!(said["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
    assert!(said.as_object().is_some_and(|said| said.len() == 1), "{answer:?}");
    Ok(())
}
