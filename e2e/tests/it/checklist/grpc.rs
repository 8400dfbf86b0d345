//! Branches that are called over gRPC, and clients that call over it.

use anyhow::Result;
use quorate_e2e::grpc_participant::GrpcParticipant;
use quorate_wire::dtmgimp as pb;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{becomes, shared};
use crate::dtm::Dtm;

type Client = pb::dtm_client::DtmClient<Channel>;

async fn client(dtm: &Dtm) -> Result<Client> {
    Ok(Client::connect(format!("http://{}", dtm.endpoint())).await?)
}

/// A service whose methods say what they answer.
fn service() -> Result<GrpcParticipant> {
    let calls = std::sync::Mutex::new(Vec::new());
    GrpcParticipant::start(move |asked| {
        let mut calls = calls.lock().expect("nobody panics in here");
        let times = calls.iter().filter(|method| **method == asked.method).count();
        calls.push(asked.method.clone());
        match asked.method.as_str() {
            "No" => Err(Status::aborted("sold out")),
            "OldLater" if times == 0 => Err(Status::aborted("ONGOING")),
            "Later" if times == 0 => Err(Status::failed_precondition("not yet")),
            "Broken" if times == 0 => Err(Status::unavailable("broken FAILURE")),
            _ => Ok(()),
        }
    })
}

fn request(gid: &str, kind: &str) -> pb::DtmRequest {
    pb::DtmRequest { gid: gid.to_owned(), trans_type: kind.to_owned(), ..Default::default() }
}

/// A saga of these methods; its payloads are no text.
fn saga(gid: &str, service: &GrpcParticipant, steps: &[(&str, &str)]) -> pb::DtmRequest {
    let step = |(action, undo): &(&str, &str)| json!({ "action": service.url(action), "compensate": service.url(undo) });
    let all: Vec<_> = steps.iter().map(step).collect();
    let payload = |at: usize| bytes::Bytes::from(vec![0xff, 0, u8::try_from(at).expect("few")]);
    pb::DtmRequest {
        steps: json!(all).to_string(),
        bin_payloads: (0..steps.len()).map(payload).collect(),
        trans_options: Some(pb::DtmTransOptions {
            retry_interval: 1,
            request_timeout: 7,
            branch_headers: [("X-Tenant".to_owned(), "Seven".to_owned())].into(),
            ..Default::default()
        }),
        ..request(gid, "saga")
    }
}

#[tokio::test]
async fn a_call_names_its_transaction_in_its_metadata() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let saga = saga("g-saga", &service, &[("Out", "OutBack"), ("No", "InBack")]);
    client(&dtm).await?.submit(saga).await?;
    becomes(&dtm, "g-saga", "failed SSSF")?;
    assert_eq!(service.methods(), ["Out", "No", "InBack", "OutBack"]);
    let calls = service.asked();
    for (call, (branch, op)) in calls.iter().zip([
        ("01", "action"),
        ("02", "action"),
        ("02", "compensate"),
        ("01", "compensate"),
    ]) {
        assert_eq!((call.header("dtm-gid"), call.header("dtm-trans_type")), ("g-saga", "saga"));
        assert_eq!((call.header("dtm-branch_id"), call.header("dtm-op")), (branch, op));
        assert!(call.headers.contains_key("dtm-dtm") && call.header("dtm-dtm").is_empty());
        assert_eq!(call.header("x-tenant"), "Seven");
        let step = if branch == "01" { 0 } else { 1 };
        assert_eq!(&call.message[..], [0xff, 0, step], "byte for byte");
        // The unit is the caller's choice: of 7 s there is little less than all.
        let deadline = call.header("grpc-timeout").strip_suffix('m').and_then(|ms| ms.parse().ok());
        assert!(deadline.is_some_and(|ms: u32| (5000..=7000).contains(&ms)), "{:?}", call.headers);
        assert!(call.header("content-type").starts_with("application/grpc"));
    }
    let reason = &dtm.query("g-saga")?["transaction"]["rollback_reason"];
    assert!(reason.to_string().contains("sold out"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn codes_mean_what_they_mean_to_dtm() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    for (method, status) in [
        ("OldLater", "succeed PS"),
        ("Later", "succeed PS"),
        ("Broken", "succeed PS"),
        ("No", "failed SF"),
    ] {
        let service = service()?;
        let gid = format!("g-{method}");
        let mut client = client(&dtm).await?;
        client.submit(saga(&gid, &service, &[(method, "Back")])).await?;
        // ONGOING keeps the interval of 1 s, an error makes it 2 s: read in between, the row tells which it was.
        if method != "No" {
            let found = becomes(&dtm, &gid, "submitted PP")?;
            let errors = |found: &serde_json::Value| found["branches"][1]["errors"].as_u64();
            let mut found = found;
            while found["branches"][1]["last_answer"].is_null() {
                found = dtm.query(&gid)?;
            }
            assert_eq!(errors(&found), (method == "Broken").then_some(1), "{found}");
        }
        becomes(&dtm, &gid, status)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_tcc_is_confirmed_over_grpc() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let mut client = client(&dtm).await?;
    for (gid, decision, methods) in [
        ("g-tcc-yes", "submit", ["Confirm2", "Confirm1"]),
        ("g-tcc-no", "abort", ["Cancel2", "Cancel1"]),
    ] {
        let before = service.asked().len();
        client.prepare(request(gid, "tcc")).await?;
        for n in 1..=2 {
            let url = |op: &str, name: &str| (op.to_owned(), service.url(&format!("{name}{n}")));
            let branch = pb::DtmBranchRequest {
                gid: gid.to_owned(),
                trans_type: "tcc".to_owned(),
                branch_id: format!("0{n}"),
                data: [url("confirm", "Confirm"), url("cancel", "Cancel")].into(),
                busi_payload: vec![0xff, n].into(),
                ..Default::default()
            };
            client.register_branch(branch).await?;
        }
        match decision {
            "submit" => client.submit(request(gid, "tcc")).await?,
            _ => client.abort(request(gid, "tcc")).await?,
        };
        becomes(&dtm, gid, if decision == "submit" { "succeed PSPS" } else { "failed SPSP" })?;
        assert_eq!(service.methods()[before..], methods);
        assert_eq!(&service.asked()[before].message[..], [0xff, 2]);
    }
    Ok(())
}

#[tokio::test]
async fn a_message_is_checked_back_over_grpc() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let message = pb::DtmRequest {
        steps: json!([{ "action": service.url("In") }]).to_string(),
        bin_payloads: vec![vec![0xff].into()],
        query_prepared: service.url("Check"),
        trans_options: Some(pb::DtmTransOptions { timeout_to_fail: 1, ..Default::default() }),
        ..request("g-msg", "msg")
    };
    client(&dtm).await?.prepare(message).await?;
    becomes(&dtm, "g-msg", "succeed S")?;
    assert_eq!(service.methods(), ["Check", "In"]);
    let check = &service.asked()[0];
    assert_eq!((check.header("dtm-branch_id"), check.header("dtm-op")), ("00", "msg"));
    assert!(check.message.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_workflow_is_called_back_over_grpc() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let flow = pb::DtmRequest {
        customed_data: json!({ "name": "order", "data": "aW5wdXQ=" }).to_string(),
        query_prepared: service.url("Execute"),
        trans_options: Some(pb::DtmTransOptions { retry_interval: 1, ..Default::default() }),
        ..request("g-flow", "workflow")
    };
    client(&dtm).await?.prepare_workflow(flow).await?;
    while service.asked().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let call = &service.asked()[0];
    assert_eq!((call.header("dtm-branch_id"), call.header("dtm-op")), ("00", "order"));
    assert_eq!(&call.message[..], b"\x0a\x05input", "a message with one field");
    Ok(())
}

/// A transaction over gRPC may have branches over HTTP.
#[tokio::test]
async fn the_url_says_how_a_branch_is_called() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let (grpc, http) = (service()?, super::service()?);
    let steps = json!([{ "action": grpc.url("Out") }, { "action": format!("{}/in", http.base()) }]);
    let both = pb::DtmRequest {
        steps: steps.to_string(),
        bin_payloads: vec![b"one"[..].into(), b"two"[..].into()],
        ..request("g-both", "saga")
    };
    client(&dtm).await?.submit(both).await?;
    becomes(&dtm, "g-both", "succeed PSPS")?;
    assert_eq!(http.asked()[0].body, "two");
    let scheme = pb::DtmRequest {
        steps: json!([{ "action": "discovery:///service/method" }]).to_string(),
        bin_payloads: vec![bytes::Bytes::new()],
        ..request("g-scheme", "saga")
    };
    let refused = client(&dtm).await?.submit(scheme).await.expect_err("no such driver");
    assert_eq!(refused.code(), Code::Unknown, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn outcomes_have_their_codes() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let service = service()?;
    let mut client = client(&dtm).await?;
    let gid = client.new_gid(()).await?.into_inner().gid;
    assert!(!gid.is_empty());
    let waits = |mut saga: pb::DtmRequest| {
        if let Some(options) = saga.trans_options.as_mut() {
            options.wait_result = true;
        }
        saga
    };
    client.submit(waits(saga("g-yes", &service, &[("Out", "Back")]))).await?;
    let no = client.submit(waits(saga("g-no", &service, &[("No", "Back")]))).await;
    let no = no.expect_err("it was rolled back");
    assert_eq!(no.code(), Code::Aborted, "{no:?}");
    assert!(no.message().contains("sold out") && no.message().ends_with("FAILURE"), "{no:?}");
    let late = client.submit(request("g-yes", "saga")).await.expect_err("it has ended");
    assert_eq!(late.code(), Code::Aborted, "{late:?}");
    let unknown = client.submit(request("g-kind", "nosuch")).await.expect_err("no such kind");
    assert_eq!(unknown.code(), Code::Unknown, "{unknown:?}");
    let nobody = client.abort(request("nobody", "tcc")).await.expect_err("nobody");
    assert_eq!(nobody.code(), Code::Unknown, "{nobody:?}");

    let mut tcc = request("g-ongoing", "tcc");
    tcc.trans_options = Some(pb::DtmTransOptions { wait_result: true, ..Default::default() });
    client.prepare(tcc.clone()).await?;
    let branch = pb::DtmBranchRequest {
        gid: "g-ongoing".to_owned(),
        trans_type: "tcc".to_owned(),
        branch_id: "01".to_owned(),
        data: [("confirm".to_owned(), service.url("Later"))].into(),
        ..Default::default()
    };
    client.register_branch(branch).await?;
    let ongoing = client.submit(tcc).await.expect_err("not yet");
    assert_eq!(ongoing.code(), Code::FailedPrecondition, "{ongoing:?}");
    Ok(())
}

#[tokio::test]
async fn topics_are_kept_over_grpc() -> Result<()> {
    let Some(dtm) = shared()? else { return Ok(()) };
    let (service, mut client) = (service()?, client(&dtm).await?);
    let topic = |method: &str| pb::DtmTopicRequest {
        topic: "g-news".to_owned(),
        url: service.url(method),
        remark: String::new(),
    };
    client.subscribe(topic("One")).await?;
    client.subscribe(topic("Two")).await?;
    client.unsubscribe(topic("One")).await?;
    let message = pb::DtmRequest {
        steps: json!([{ "action": "topic://g-news" }]).to_string(),
        bin_payloads: vec![vec![0xff].into()],
        ..request("g-topic", "msg")
    };
    client.submit(message).await?;
    becomes(&dtm, "g-topic", "succeed S")?;
    assert_eq!(service.methods(), ["Two"]);
    client.delete_topic(topic("")).await?;
    let gone = client.unsubscribe(topic("Two")).await.expect_err("it is gone");
    assert_eq!(gone.code(), Code::Unknown, "{gone:?}");
    Ok(())
}
