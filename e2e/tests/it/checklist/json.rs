//! What real clients send, byte for byte where it matters.

use anyhow::Result;
use quorate_e2e::raw::Raw;
use serde_json::json;

use super::{asked, becomes, message_of, named, ok, service, shared};

/// Python writes every field, and null where it has nothing.
#[test]
fn nulls_are_as_good_as_absent() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let base = service.base();
    let body = json!({
        "gid": "null-saga", "trans_type": "saga", "custom_data": null, "query_prepared": null,
        "protocol": null, "wait_result": true, "timeout_to_fail": null, "retry_interval": null,
        "request_timeout": 8, "branch_headers": {}, "passthrough_headers": [],
        "steps": [{ "action": format!("{base}/a"), "compensate": format!("{base}/b") }],
        "payloads": ["{\"amount\": 30}"],
    });
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "null-saga", "succeed PS")?;
    let tcc = json!({ "gid": "null-tcc", "trans_type": "tcc", "custom_data": null });
    ok(&dtm, "prepare", &tcc)?;
    let branch = json!({
        "gid": "null-tcc", "trans_type": "tcc", "branch_id": "01", "data": "{}", "status": "prepared",
        "confirm": format!("{base}/confirm"), "cancel": null,
    });
    ok(&dtm, "registerBranch", &branch)?;
    ok(&dtm, "submit", &tcc)?;
    becomes(&dtm, "null-tcc", "succeed PS")?;
    Ok(())
}

/// Java's serializer writes a field twice, and fields that nobody reads.
#[test]
fn unknown_and_repeated_fields_are_no_error() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let text = r#"{"gid":"java","trans_type":"tcc","subType":"tcc","subType":"tcc","branch_headers":{},
        "passthrough_headers":[],"custom_data":null,"status":"succeed","owner":"x","id":7,
        "next_cron_time":"2020-01-01T00:00:00Z","create_time":"2020-01-01T00:00:00Z"}"#;
    assert_eq!(dtm.post("prepare", text)?.status, 200);
    let found = becomes(&dtm, "java", "prepared ")?;
    let created = found["transaction"]["create_time"].as_str().unwrap_or_default();
    assert!(created > "2024", "the server's own fields are not taken: {found}");
    Ok(())
}

/// Node knows the path of DTM's first versions, and says no kind.
#[test]
fn branches_join_at_the_old_path() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let url = |op: &str| format!("{}/{op}", service.base());
    ok(&dtm, "prepare", &named("node", "tcc"))?;
    let branch = json!({
        "gid": "node", "branch_id": "01", "status": "prepared", "data": "{\"amount\":30}",
        "try": url("try"), "confirm": url("confirm"), "cancel": url("cancel"),
    });
    ok(&dtm, "registerTccBranch", &branch)?;
    ok(&dtm, "submit", &named("node", "tcc"))?;
    becomes(&dtm, "node", "succeed PS")?;
    assert_eq!(asked(&service, 1)?[0].path, "/confirm");
    Ok(())
}

/// Clients before DTM 1.7 put payloads into the steps.
#[test]
fn payloads_may_stand_in_the_steps() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let step = json!({ "action": format!("{}/a", service.base()), "data": "{\"old\":1}" });
    let body = json!({ "gid": "old-steps", "trans_type": "saga", "steps": [step] });
    ok(&dtm, "submit", &body)?;
    becomes(&dtm, "old-steps", "succeed PS")?;
    assert_eq!(asked(&service, 1)?[0].body, "{\"old\":1}");
    Ok(())
}

#[test]
fn what_cannot_be_read_is_no_failure() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for text in ["", "{", "[]", r#"{"gid":7,"trans_type":"tcc"}"#, r#"{"trans_type":"tcc"}"#] {
        let answer = dtm.post("prepare", text)?;
        assert_eq!(answer.status, 500, "{text}: {answer:?}");
        assert!(!message_of(&answer)?.is_empty() && !answer.body.contains("FAILURE"), "{answer:?}");
    }
    Ok(())
}

/// PHP and Node send the field that once was a list of headers.
#[tokio::test]
async fn an_old_field_over_grpc_is_skipped() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    // A field of bytes: number and type, length, bytes.
    let field = |number: u8, bytes: &[u8]| -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("short");
        [&[number << 3 | 2, length][..], bytes].concat()
    };
    let options = [field(4, b"x-request-id"), field(4, b"x-other"), vec![6 << 3, 8]].concat();
    let message = [field(1, b"old-field"), field(2, b"tcc"), field(3, &options)].concat();
    let raw = Raw::connect(&format!("http://{}", dtm.endpoint())).await?;
    raw.call("/dtmgimp.Dtm/Prepare", &message, &[]).await?;
    let found = becomes(&dtm, "old-field", "prepared ")?;
    assert_eq!(found["transaction"]["request_timeout"], 8);
    Ok(())
}
