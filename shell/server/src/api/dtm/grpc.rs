//! The same over gRPC: `dtmgimp.Dtm`.
//!
//! A refusal is Aborted, what still goes on FailedPrecondition, a passing absence Unavailable, any other
//! error Unknown, a full store ResourceExhausted; the message is that of HTTP. Where the transaction stands is told in the
//! metadata `dtm-status` and `dtm-state`. Calls of branches go over gRPC unless their URL says `http`.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use quorate_global_txn::{
    Body as Begun, BranchRequest, Progress, Refused, Reply, Request as Wanted,
};
use quorate_wire::dtmgimp as pb;
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::answer::{Problem, state};
use super::json::{Json, Object};
use super::lenient::Unreadable;
use super::{Api, body, gid};
use crate::grpc as wire;
use crate::grpc::Body;
use crate::limits::GRPC_OVERHEAD_BYTES;

/// Answers a call.
pub(super) async fn call(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let (api, max) = (api.clone(), api.max_request_bytes + GRPC_OVERHEAD_BYTES);
    match request.uri().path() {
        "/dtmgimp.Dtm/NewGid" => {
            let fresh = |(), _| async { Ok(pb::DtmGidReply { gid: gid::fresh() }) };
            wire::unary(request, max, fresh).await
        }
        "/dtmgimp.Dtm/Prepare" => {
            let wanted = |message| begun(message).map(Wanted::Prepare);
            wire::unary(request, max, |message, bytes| done(api, wanted(message), bytes)).await
        }
        "/dtmgimp.Dtm/Submit" => {
            let wanted = |message| begun(message).map(Wanted::Submit);
            wire::unary(request, max, |message, bytes| done(api, wanted(message), bytes)).await
        }
        "/dtmgimp.Dtm/Abort" => {
            wire::unary(request, max, |message, bytes| done(api, Ok(abort(message)), bytes)).await
        }
        "/dtmgimp.Dtm/RegisterBranch" => {
            wire::unary(request, max, |message, bytes| done(api, Ok(branch(message)), bytes)).await
        }
        "/dtmgimp.Dtm/Subscribe" => {
            wire::unary(request, max, |m, bytes| done(api, Ok(subscribe(m)), bytes)).await
        }
        "/dtmgimp.Dtm/Unsubscribe" => {
            wire::unary(request, max, |m, bytes| done(api, Ok(unsubscribe(m)), bytes)).await
        }
        "/dtmgimp.Dtm/DeleteTopic" => {
            wire::unary(request, max, |m, bytes| done(api, Ok(delete_topic(m)), bytes)).await
        }
        "/dtmgimp.Dtm/PrepareWorkflow" => {
            wire::unary(request, max, |message, bytes| workflow(api, message, bytes)).await
        }
        path => {
            let status = Status::unimplemented(format!("unknown method {path}"));
            wire::refuse(request, &status).await
        }
    }
}

async fn done(api: Api, wanted: Result<Wanted, Unreadable>, bytes: usize) -> Result<(), Status> {
    ask(&api, wanted, bytes).await.map(drop)
}

async fn workflow(
    api: Api,
    message: pb::DtmRequest,
    bytes: usize,
) -> Result<pb::DtmProgressesReply, Status> {
    match ask(&api, begun(message).map(Wanted::PrepareWorkflow), bytes).await? {
        Reply::Progress(found) => Ok(progress(*found)),
        _ => Err(Status::internal("a workflow was prepared without a progress")),
    }
}

async fn ask(api: &Api, wanted: Result<Wanted, Unreadable>, bytes: usize) -> Result<Reply, Status> {
    let mut wanted = wanted.map_err(|unreadable| refused(&unreadable.into()))?;
    api.trace.add(&mut wanted);
    match api.handle.global_txn(wanted, bytes).await {
        Ok(Reply::Refused(refusal)) => Err(refused(&Problem::Refused(refusal))),
        Ok(reply) => Ok(reply),
        Err(failure) => Err(refused(&failure.into())),
    }
}

fn refused(problem: &Problem) -> Status {
    let text = problem.message();
    let mut status = match problem.status().as_u16() {
        409 => Status::aborted(text),
        425 => Status::failed_precondition(text),
        503 => Status::unavailable(text),
        507 => Status::resource_exhausted(text),
        _ => Status::unknown(text),
    };
    if let Problem::Refused(Refused { status: Some(stands), is_delayed, .. }) = problem {
        let metadata = status.metadata_mut();
        metadata.insert("dtm-status", MetadataValue::from_static(stands.name()));
        metadata.insert("dtm-state", MetadataValue::from_static(state(*stands, *is_delayed)));
    }
    status
}

/// A transaction, through the JSON that HTTP has, but for its payloads, which may be any bytes.
fn begun(message: pb::DtmRequest) -> Result<Box<Begun>, Unreadable> {
    let mut entries = Vec::new();
    let mut put = |name: &'static str, value| entries.push((name.into(), value));
    put("gid", message.gid.into());
    put("trans_type", message.trans_type.into());
    put("protocol", "grpc".into());
    put("custom_data", message.customed_data.into());
    put("query_prepared", message.query_prepared.into());
    put("rollback_reason", message.rollback_reason.into());
    put("req_extra", texts(message.req_extra));
    put("payloads", Json::List(vec!["".into(); message.bin_payloads.len()]));
    if !message.steps.is_empty() {
        let steps = serde_json::from_str(&message.steps);
        put("steps", steps.map_err(|error| Unreadable(format!("Steps is not JSON: {error}")))?);
    }
    if let Some(options) = message.trans_options {
        put("wait_result", Json::Bool(options.wait_result));
        put("timeout_to_fail", Json::Number(options.timeout_to_fail.into()));
        put("retry_interval", Json::Number(options.retry_interval.into()));
        put("request_timeout", Json::Number(options.request_timeout.into()));
        put("retry_limit", Json::Number(options.retry_limit.into()));
        put("branch_headers", texts(options.branch_headers));
    }
    let mut read = Box::new(body::body(&Object::new(entries))?);
    let kept = message.bin_payloads.into_iter().take(read.content.steps.len());
    for (payload, bytes) in read.content.payloads.iter_mut().zip(kept) {
        *payload = bytes;
    }
    Ok(read)
}

fn texts(pairs: std::collections::HashMap<String, String>) -> Json<'static> {
    let entries = pairs.into_iter().map(|(name, text)| (name.into(), text.into()));
    Json::Object(Object::new(entries.collect()))
}

fn abort(message: pb::DtmRequest) -> Wanted {
    let pb::DtmRequest { gid, trans_type, rollback_reason: reason, .. } = message;
    Wanted::Abort { gid, trans_type, reason }
}

fn branch(message: pb::DtmBranchRequest) -> Wanted {
    let mut fields: Vec<_> = message.data.into_iter().collect();
    if !message.op.is_empty() {
        fields.retain(|(name, _)| name != "op");
        fields.push(("op".to_owned(), message.op));
    }
    // A map has no order of its own, and what is stored should not depend on chance.
    fields.sort();
    Wanted::RegisterBranch(Box::new(BranchRequest {
        gid: message.gid,
        trans_type: message.trans_type,
        branch_id: message.branch_id,
        data: message.busi_payload,
        fields,
    }))
}

fn subscribe(message: pb::DtmTopicRequest) -> Wanted {
    let pb::DtmTopicRequest { topic, url, remark } = message;
    Wanted::Subscribe { topic, url, remark }
}

fn unsubscribe(message: pb::DtmTopicRequest) -> Wanted {
    let pb::DtmTopicRequest { topic, url, .. } = message;
    Wanted::Unsubscribe { topic, url }
}

fn delete_topic(message: pb::DtmTopicRequest) -> Wanted {
    Wanted::DeleteTopic { topic: message.topic }
}

fn progress(found: Progress) -> pb::DtmProgressesReply {
    let transaction = pb::DtmTransaction {
        gid: found.gid.as_str().to_owned(),
        status: found.record.status.name().to_owned(),
        rollback_reason: found.record.rollback_reason.clone(),
        result: found.record.result.clone(),
    };
    let rows = found.record.rows.iter().zip(found.data);
    let row = |(row, data): (&quorate_global_txn::Row, Bytes)| pb::DtmProgress {
        status: row.status.name().to_owned(),
        bin_data: data,
        branch_id: row.branch_id.clone(),
        op: row.op.name().to_owned(),
    };
    pb::DtmProgressesReply { transaction: Some(transaction), progresses: rows.map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_with_its_bytes() {
        let message = pb::DtmRequest {
            gid: "g".to_owned(),
            trans_type: "saga".to_owned(),
            steps: r#"[{"action":"localhost:1/s.S/A"}]"#.to_owned(),
            bin_payloads: vec![Bytes::from_static(b"\xff\0"), Bytes::from_static(b"extra")],
            trans_options: Some(pb::DtmTransOptions { timeout_to_fail: 7, ..Default::default() }),
            ..Default::default()
        };
        let read = begun(message).expect("readable");
        assert_eq!(read.content.payloads, [&b"\xff\0"[..]]);
        assert_eq!(read.options.timeout_ms, 7000);
        assert_eq!(read.options.protocol, quorate_global_txn::Protocol::Grpc);
        let null = pb::DtmRequest { steps: "null".to_owned(), ..Default::default() };
        assert!(begun(null).expect("readable").content.steps.is_empty());
        let bad = pb::DtmRequest { steps: "{".to_owned(), ..Default::default() };
        assert!(begun(bad).is_err());
    }

    #[test]
    fn a_branch_keeps_its_op_and_its_fields() {
        let message = pb::DtmBranchRequest {
            op: "action".to_owned(),
            data: [("status".to_owned(), "succeed".to_owned())].into(),
            ..Default::default()
        };
        let Wanted::RegisterBranch(request) = branch(message) else { panic!("a branch") };
        assert_eq!((request.field("op"), request.field("status")), ("action", "succeed"));
    }
}
