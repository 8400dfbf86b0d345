//! Intervals between tries, and alerts.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use quorate_e2e::participant::{Asked, Participant};
use quorate_e2e::server::Server;
use serde_json::{Value, json};

use super::{SOON, asked, becomes, message, ok, saga, service, shared, with};
use crate::dtm::Dtm;

/// Seconds from now until the transaction is looked at again.
fn next_in(found: &Value) -> Result<f64> {
    let text = found["transaction"]["next_cron_time"].as_str().context("next_cron_time")?;
    let at = seconds(text).with_context(|| text.to_owned())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    Ok(at - now % 86_400.0)
}

/// Seconds of the day that a time of RFC 3339 in UTC tells. A day may end in between: then once more a day.
fn seconds(text: &str) -> Option<f64> {
    let clock = text.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

/// A saga whose first action answers like this once, with a long interval: when it goes on.
fn waits(gid: &str, answer: &str) -> Result<Option<f64>> {
    let Some(dtm) = shared()? else { return Ok(None) };
    let service = service()?;
    let more = json!({ "retry_interval": 100, "wait_result": true });
    let answered = dtm.status("submit", &with(saga(gid, &service, &[(answer, "yes")]), more))?;
    ensure!(answered == 409, "{answered}");
    next_in(&dtm.query(gid)?).map(Some)
}

/// Whether a wait is in these bounds, whatever the hour: a day may have ended in between.
fn within(waits: Option<f64>, from: f64, to: f64) {
    let Some(waits) = waits else { return };
    let waits = waits.rem_euclid(86_400.0);
    assert!((from..=to).contains(&waits), "{waits} s instead of {from} to {to}");
}

#[test]
fn ongoing_keeps_the_interval() -> Result<()> {
    within(waits("keeps", "later")?, 80.0, 102.0);
    Ok(())
}

/// The doubled one, less up to a fifth by chance.
#[test]
fn an_error_doubles_the_interval() -> Result<()> {
    within(waits("doubles", "broken")?, 140.0, 202.0);
    Ok(())
}

fn gaps(calls: &[Asked]) -> Vec<f64> {
    calls.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
}

#[test]
fn ongoing_keeps_it_each_time() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body =
        with(saga("keeps-on", &service, &[("later", "yes")]), json!({ "retry_interval": 0.2 }));
    ok(&dtm, "submit", &body)?;
    let gaps = gaps(&asked(&service, 6)?);
    assert!(gaps.iter().all(|gap| *gap >= 0.19), "{gaps:?}");
    // Doubled each time, the last one alone would be 6.4 s.
    assert!(gaps.iter().sum::<f64>() < 6.0, "{gaps:?}");
    ok(&dtm, "forceStop", &body)
}

#[test]
fn errors_double_it_each_time() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body =
        with(saga("doubles-on", &service, &[("broken", "yes")]), json!({ "retry_interval": 0.1 }));
    ok(&dtm, "submit", &body)?;
    let gaps = gaps(&asked(&service, 5)?);
    for (gap, least) in gaps.iter().zip([0.16, 0.32, 0.64, 1.28]) {
        assert!(*gap >= least - 0.01, "{gaps:?}");
    }
    ok(&dtm, "forceStop", &body)
}

#[test]
fn success_resets_it() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let body = message("resets", &service, &["broken3", "broken1"]);
    ok(&dtm, "submit", &with(body, json!({ "retry_interval": 0.2 })))?;
    becomes(&dtm, "resets", "succeed SS")?;
    let gaps = gaps(&service.asked());
    // 0.4, 0.8, 1.6 s; then the other branch at once, and again after 0.4 s, not after 3.2 s.
    assert_eq!(gaps.len(), 5, "{gaps:?}");
    assert!(gaps[2] >= 1.27, "{gaps:?}");
    assert!(gaps[4] >= 0.31 && gaps[4] < 2.5, "{gaps:?}");
    Ok(())
}

#[test]
fn the_interval_has_a_bound() -> Result<()> {
    let flags = ["--dtm-retry-interval=100ms", "--dtm-max-backoff=200ms"];
    let Some(dtm) = Dtm::start_with("dtm checklist", &flags)? else { return Ok(()) };
    let service = service()?;
    ok(&dtm, "submit", &saga("bound", &service, &[("broken", "yes")]))?;
    let gaps = gaps(&asked(&service, 7)?);
    // Without it 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 6.4.
    assert!(gaps.iter().sum::<f64>() < 8.0, "{gaps:?}");
    Ok(())
}

#[test]
fn the_third_error_is_reported() -> Result<()> {
    let (alerts, service) = (Participant::start(|_| (200, String::new()))?, service()?);
    let flag = format!("--dtm-alert-url={}/alert", alerts.base());
    let Some(dtm) = Dtm::start_with("dtm checklist", &[&flag])? else { return Ok(()) };
    let body =
        with(saga("alert", &service, &[("broken4", "yes")]), json!({ "retry_interval": 0.1 }));
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "alert", "succeed PS")?;
    let reports = asked(&alerts, 2)?;
    assert_eq!(reports.len(), 2, "the third and the fourth: {reports:?}");
    let third = service.asked()[2].at;
    assert!(reports[0].at >= third, "not before the third error");
    assert_eq!((reports[0].method.as_str(), reports[0].path.as_str()), ("POST", "/alert"));
    let said: Value = serde_json::from_str(&reports[0].body)?;
    let url = format!("{}/broken4", service.base());
    let error = said["error"].as_str().unwrap_or_default();
    assert!(error.contains("broken"), "{said}");
    let expected = json!({
        "gid": "alert", "status": "submitted", "branch": url, "error": error, "retry_count": 3,
    });
    assert_eq!(said, expected);
    Ok(())
}

/// What is due goes on after a crash of the server, with the interval that it had.
#[test]
fn retries_outlive_the_server() -> Result<()> {
    let Some(mut dtm) = Dtm::start("dtm checklist")? else { return Ok(()) };
    let service = service()?;
    let body =
        with(message("outlives", &service, &["broken2", "yes"]), json!({ "retry_interval": 0.5 }));
    ok(&dtm, "submit", &body)?;
    asked(&service, 1)?;
    let begun = Instant::now();
    Server::restart(dtm.server())?;
    becomes(&dtm, "outlives", "succeed SS")?;
    assert!(begun.elapsed() < SOON + Duration::from_secs(5));
    assert_eq!(service.paths().last().map(String::as_str), Some("/yes"));
    Ok(())
}
