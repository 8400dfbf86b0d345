//! Messages: the check-back, the delay, topics.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quorate_e2e::http1::request;
use quorate_e2e::participant::Participant;
use serde_json::{Value, json};

use super::{LONG, asked, becomes, message, message_of, named, ok, refused, service, shared, with};
use crate::dtm::Dtm;

/// A message with a check-back path, prepared.
fn prepared(
    dtm: &Dtm,
    gid: &str,
    service: &Participant,
    check: &str,
    more: Value,
) -> Result<Value> {
    let url = json!({ "query_prepared": format!("{}/{check}?own=1", service.base()) });
    let body = with(with(message(gid, service, &["yes"]), url), more);
    ok(dtm, "prepare", &body)?;
    Ok(body)
}

#[test]
fn a_silent_sender_is_asked_only_after_the_timeout() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let begun = Instant::now();
    let more = json!({ "timeout_to_fail": 1, "retry_interval": 0.1 });
    prepared(&dtm, "check-yes", &service, "check", more)?;
    let call = asked(&service, 1)?[0].clone();
    let waited = call.at - begun;
    assert!(waited >= Duration::from_millis(1000), "{waited:?}");
    assert_eq!(
        (call.method.as_str(), call.path.as_str(), call.body.as_str()),
        ("GET", "/check", "")
    );
    assert_eq!(call.query, "own=1&gid=check-yes&trans_type=msg&branch_id=00&op=msg");
    becomes(&dtm, "check-yes", "succeed S")?;
    assert_eq!(service.paths(), ["/check", "/yes"]);
    Ok(())
}

#[test]
fn a_sender_that_says_no_has_it_dropped() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = prepared(&dtm, "check-no", &service, "no", json!({ "timeout_to_fail": 0.3 }))?;
    becomes(&dtm, "check-no", "failed P")?;
    assert_eq!(service.paths(), ["/no"]);
    refused(&dtm, "submit", &body)?;
    Ok(())
}

#[test]
fn a_sender_that_cannot_say_is_asked_again() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for check in ["later2", "broken2"] {
        let service = service()?;
        let gid = format!("check-{check}");
        let more = json!({ "timeout_to_fail": 0.3, "retry_interval": 0.2 });
        prepared(&dtm, &gid, &service, check, more)?;
        becomes(&dtm, &gid, "succeed S")?;
        let check = format!("/{check}");
        assert_eq!(service.paths(), [&check, &check, &check, "/yes"]);
    }
    Ok(())
}

#[test]
fn who_submits_or_aborts_is_not_asked() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let (one, other) = (service()?, service()?);
    let more = json!({ "timeout_to_fail": 0.5 });
    let body = prepared(&dtm, "spoken-yes", &one, "check", more.clone())?;
    ok(&dtm, "submit", &body)?;
    let body = prepared(&dtm, "spoken-no", &other, "check", more)?;
    ok(&dtm, "abort", &body)?;
    becomes(&dtm, "spoken-yes", "succeed S")?;
    becomes(&dtm, "spoken-no", "failed P")?;
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(one.paths(), ["/yes"]);
    assert!(other.paths().is_empty());
    Ok(())
}

#[test]
fn after_submit_there_is_no_way_back() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body =
        with(message("no-way-back", &service, &["no", "yes"]), json!({ "retry_interval": 0.1 }));
    ok(&dtm, "submit", &body)?;
    let calls = asked(&service, 3)?;
    assert!(calls.iter().all(|call| call.path == "/no"), "in order, stopping at the first");
    refused(&dtm, "abort", &named("no-way-back", "msg"))?;
    becomes(&dtm, "no-way-back", "submitted PP")?;
    ok(&dtm, "forceStop", &named("no-way-back", ""))
}

#[test]
fn a_concurrent_message_goes_to_all_at_once() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let more = json!({ "concurrent": true, "retry_interval": LONG });
    ok(&dtm, "submit", &with(message("at-once", &service, &["no", "yes1", "yes2"]), more))?;
    becomes(&dtm, "at-once", "submitted PSS")?;
    Ok(())
}

#[test]
fn a_delayed_message_is_not_early() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let delay = json!({ "custom_data": "{\"delay\":1}" });
    let begun = Instant::now();
    ok(&dtm, "submit", &with(message("delayed", &service, &["yes"]), delay))?;
    let waited = asked(&service, 1)?[0].at - begun;
    assert!(waited >= Duration::from_millis(1000), "{waited:?}");
    becomes(&dtm, "delayed", "succeed S")?;
    Ok(())
}

/// Go sets the delay at the submit, not at the prepare.
#[test]
fn a_delay_may_come_with_the_submit() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = prepared(&dtm, "delayed-late", &service, "check", json!({}))?;
    let begun = Instant::now();
    ok(&dtm, "submit", &with(body, json!({ "custom_data": "{\"delay\":1}" })))?;
    let waited = asked(&service, 1)?[0].at - begun;
    // Counted from the creation, which was a little earlier.
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    Ok(())
}

/// A GET of a topic's route: status and message.
fn topic(dtm: &Dtm, method: &str, path: &str) -> Result<(u16, String)> {
    let answer = request(dtm.endpoint(), method, &format!("/api/dtmsvr/{path}"))?;
    Ok((answer.status, message_of(&answer).unwrap_or_default()))
}

fn topic_ok(dtm: &Dtm, method: &str, path: &str) -> Result<()> {
    let (status, text) = topic(dtm, method, path)?;
    ensure!(status == 200, "{method} {path}: {status} {text}");
    Ok(())
}

#[test]
fn a_topic_is_expanded_to_its_subscribers() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    for name in ["one", "two"] {
        let url = format!("{}/{name}", service.base());
        topic_ok(&dtm, "GET", &format!("subscribe?topic=news&url={url}&remark=r"))?;
    }
    let body = json!({
        "gid": "topic", "trans_type": "msg", "payloads": ["{\"n\":1}", "{\"n\":2}"],
        "steps": [{ "action": "topic://news" }, { "action": format!("{}/plain", service.base()) }],
    });
    ok(&dtm, "submit", &body)?;
    let found = becomes(&dtm, "topic", "succeed SSS")?;
    let ids: Vec<_> = found["branches"].as_array().into_iter().flatten().collect();
    let ids: Vec<_> = ids.iter().filter_map(|row| row["branch_id"].as_str()).collect();
    assert_eq!(ids, ["01-01", "01-02", "02"]);
    let told = service.asked().into_iter().map(|call| (call.path, call.body));
    let told: BTreeSet<(String, String)> = told.collect();
    let expected = [("/one", "{\"n\":1}"), ("/two", "{\"n\":1}"), ("/plain", "{\"n\":2}")];
    assert_eq!(told, expected.map(|(path, body)| (path.to_owned(), body.to_owned())).into());
    Ok(())
}

#[test]
fn an_unknown_topic_is_an_error() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let body = json!({
        "gid": "topic-none", "trans_type": "msg", "steps": [{ "action": "topic://nosuch" }], "payloads": ["{}"],
    });
    for path in ["prepare", "submit"] {
        let answer = dtm.post(path, &body.to_string())?;
        assert_eq!(answer.status, 500, "{answer:?}");
        assert!(message_of(&answer)?.contains("topic not found"), "{answer:?}");
    }
    assert_eq!(dtm.query("topic-none")?["transaction"], Value::Null);
    Ok(())
}

#[test]
fn wrong_uses_of_topics_are_errors() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    topic_ok(&dtm, "GET", "subscribe?topic=wrong&url=http://a/1")?;
    for (method, path, text) in [
        ("GET", "subscribe?topic=&url=http://a/1", "empty topic"),
        ("GET", "subscribe?topic=wrong&url=", "empty url"),
        ("GET", "subscribe?topic=wrong&url=http://a/1", "this url exists"),
        ("GET", "unsubscribe?topic=nosuch&url=http://a/1", "no such a topic"),
        ("GET", "unsubscribe?topic=wrong&url=http://a/2", "no such an url"),
        ("DELETE", "topic/nosuch", ""),
    ] {
        let (status, said) = topic(&dtm, method, path)?;
        assert_eq!(status, 500, "{path}: {said}");
        assert!(said.contains(text) && !said.is_empty(), "{path}: {said}");
    }
    topic_ok(&dtm, "GET", "unsubscribe?topic=wrong&url=http://a/1")?;
    let (status, said) = topic(&dtm, "GET", "unsubscribe?topic=wrong&url=http://a/1")?;
    assert_eq!(status, 500, "{said}");
    assert!(said.contains("this topic is empty"), "{said}");
    topic_ok(&dtm, "DELETE", "topic/wrong")
}

/// The row of a topic.
fn row(dtm: &Dtm, name: &str) -> Result<Value> {
    let found = dtm.get(&format!("queryKV?cat=topics&key={name}"))?;
    Ok(found["kv"][0].clone())
}

#[test]
fn each_change_of_a_topic_counts() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let rounds = 3;
    for n in 0..rounds {
        topic_ok(&dtm, "GET", &format!("subscribe?topic=counted&url=http://a/{n}&remark=n{n}"))?;
    }
    let full = row(&dtm, "counted")?;
    assert_eq!(
        (&full["cat"], &full["k"], &full["version"]),
        (&json!("topics"), &json!("counted"), &json!(3))
    );
    let list: Value = serde_json::from_str(full["v"].as_str().unwrap_or_default())?;
    assert_eq!(list[1], json!({ "url": "http://a/1", "remark": "n1" }));
    for n in 0..rounds {
        topic_ok(&dtm, "GET", &format!("unsubscribe?topic=counted&url=http://a/{n}"))?;
    }
    assert_eq!(row(&dtm, "counted")?["version"], 2 * rounds);
    Ok(())
}

/// Nobody's change is lost: each one that was accepted counts.
#[test]
fn subscribers_that_come_at_once_are_all_there_or_told_that_they_are_not() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let accepted: usize = std::thread::scope(|scope| {
        let dtm = &dtm;
        let subscribe = |n: usize| {
            scope.spawn(move || {
                topic(dtm, "GET", &format!("subscribe?topic=crowd&url=http://a/{n}"))
            })
        };
        let all: Vec<_> = (0..8).map(subscribe).collect();
        let done = all.into_iter().map(|one| one.join().expect("a thread"));
        done.filter(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200)).count()
    });
    assert!(accepted >= 1);
    let row = row(&dtm, "crowd")?;
    assert_eq!(row["version"], accepted, "{row}");
    let list: Value = serde_json::from_str(row["v"].as_str().unwrap_or_default())?;
    assert_eq!(list.as_array().map(Vec::len), Some(accepted), "{row}");
    Ok(())
}

#[test]
fn a_subscriber_hears_of_the_next_message() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let url = |name: &str| format!("{}/{name}", service.base());
    let body = |gid: &str| {
        json!({
            "gid": gid, "trans_type": "msg", "steps": [{ "action": "topic://fresh" }], "payloads": ["{}"],
        })
    };
    topic_ok(&dtm, "GET", &format!("subscribe?topic=fresh&url={}", url("one")))?;
    ok(&dtm, "submit", &body("fresh-1"))?;
    topic_ok(&dtm, "GET", &format!("subscribe?topic=fresh&url={}", url("two")))?;
    ok(&dtm, "submit", &body("fresh-2"))?;
    becomes(&dtm, "fresh-1", "succeed S")?;
    becomes(&dtm, "fresh-2", "succeed SS")?;
    topic_ok(&dtm, "DELETE", "topic/fresh")?;
    assert_eq!(dtm.status("submit", &body("fresh-3"))?, 500);
    Ok(())
}
