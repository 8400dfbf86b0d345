//! A client's transaction: JSON to the machine's [`Body`].
//!
//! Fields that the server owns (status, owner, `next_cron_time`, id, times) may appear and are not read.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use quorate_global_txn::{Body, Content, Kind, Options, Protocol, Step, WorkflowOutcome};
use serde_json::Number;

use super::json::{Json, Object};
use super::lenient::{Unreadable, number, text_of, wrong};

/// Most prerequisites and indexes that `orders` may speak of: beyond, the machine would refuse anyway.
const MAX_STEP_INDEX: usize = 4096;

/// Reads the body of prepare, submit and prepareWorkflow.
///
/// # Errors
/// In words for the client.
pub(super) fn body(object: &Object<'_>) -> Result<Body, Unreadable> {
    let trans_type = object.text("trans_type")?.to_owned();
    let kind = Kind::named(&trans_type);
    let custom = Custom::read(object, kind)?;
    let (steps, payloads) = steps(object, kind)?;
    let content = Content {
        payloads: custom.input.map_or(payloads, |input| vec![input]),
        steps,
        headers: headers(object)?,
        query_prepared: object.text("query_prepared")?.to_owned(),
        custom_data: object.text("custom_data")?.to_owned(),
        name: custom.name,
    };
    let options = Options {
        protocol: protocol(object.text("protocol")?)?,
        wait_result: object.truth("wait_result")?,
        concurrent: match kind {
            Some(Kind::Msg) => object.truth("concurrent")?,
            _ => custom.concurrent,
        },
        strict: object.truth("strict")?,
        pass_results: custom.pass_results,
        timeout_ms: object.seconds("timeout_to_fail")?,
        request_timeout_ms: object.seconds("request_timeout")?,
        retry_interval_ms: object.seconds("retry_interval")?,
        retry_limit: object.count("retry_limit")?,
        delay_ms: custom.delay_ms,
        orders: custom.orders,
    };
    let outcome = outcome(object)?;
    Ok(Body { gid: object.text("gid")?.to_owned(), trans_type, options, content, outcome })
}

/// Header fields for calls. One that cannot be sent would fail each call for ever.
fn headers(object: &Object<'_>) -> Result<Vec<(String, String)>, Unreadable> {
    let headers = object.pairs("branch_headers")?;
    for (name, value) in &headers {
        if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
            let text =
                format!("branch_headers: '{}' cannot be sent as a header", name.escape_debug());
            return Err(Unreadable(text));
        }
    }
    Ok(headers)
}

fn protocol(text: &str) -> Result<Protocol, Unreadable> {
    match text {
        "" | "http" => Ok(Protocol::Http),
        "grpc" => Ok(Protocol::Grpc),
        "json-rpc" => Ok(Protocol::JsonRpc),
        other => Err(Unreadable(format!("protocol '{other}' is none of http, grpc, json-rpc"))),
    }
}

/// Steps, and a payload for each: those of `payloads`, then the `data` of steps that have one, where clients
/// before DTM 1.7 put them.
fn steps(object: &Object<'_>, kind: Option<Kind>) -> Result<(Vec<Step>, Vec<Bytes>), Unreadable> {
    let mut payloads: Vec<Bytes> = object.texts("payloads")?.into_iter().map(payload).collect();
    let mut steps = Vec::new();
    let list = match object.field("steps") {
        None => &[][..],
        Some(Json::List(list)) => list,
        Some(other) => return Err(wrong("steps", "a list", other)),
    };
    for step in list {
        let Json::Object(step) = step else {
            return Err(wrong("a step", "an object of texts", step));
        };
        let mut read = Step::default();
        for (name, value) in step.entries() {
            let value = text_of("a step", value)?;
            match name {
                "action" => value.clone_into(&mut read.action),
                "compensate" => value.clone_into(&mut read.compensate),
                "data" if !value.is_empty() => payloads.push(payload(value)),
                _ => {}
            }
        }
        steps.push(read);
    }
    let has_steps = matches!(kind, Some(Kind::Saga | Kind::Msg));
    if has_steps && steps.len() > payloads.len() {
        let (steps, payloads) = (steps.len(), payloads.len());
        return Err(Unreadable(format!("{steps} steps have only {payloads} payloads")));
    }
    payloads.truncate(steps.len());
    Ok((steps, payloads))
}

fn payload(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What stands in `custom_data`, a text that holds JSON.
#[derive(Default)]
struct Custom {
    concurrent: bool,
    pass_results: bool,
    orders: Vec<Vec<u32>>,
    delay_ms: u64,
    name: String,
    input: Option<Bytes>,
}

impl Custom {
    fn read(object: &Object<'_>, kind: Option<Kind>) -> Result<Self, Unreadable> {
        let mut custom = Self::default();
        // Of the other kinds it is the client's own and not looked at.
        let Some(Kind::Saga | Kind::Msg | Kind::Workflow) = kind else { return Ok(custom) };
        let nested = object.nested("custom_data")?.unwrap_or_default();
        match kind {
            Some(Kind::Saga) => {
                custom.concurrent = nested.truth("concurrent")?;
                custom.pass_results = nested.truth("pass_results")?;
                custom.orders = orders(&nested)?;
            }
            Some(Kind::Msg) => custom.delay_ms = nested.seconds("delay")?,
            _ => {
                custom.name = nested.text("name")?.to_owned();
                custom.input = Some(nested.base64("data")?.into());
            }
        }
        Ok(custom)
    }
}

/// `{"1":[0]}`: step 1 waits for step 0.
fn orders(custom: &Object<'_>) -> Result<Vec<Vec<u32>>, Unreadable> {
    let map = match custom.field("orders") {
        None => return Ok(Vec::new()),
        Some(Json::Object(map)) => map,
        Some(other) => return Err(wrong("orders", "an object", other)),
    };
    let mut orders: Vec<Vec<u32>> = Vec::new();
    for (step, earlier) in map.entries() {
        let at = step.parse::<usize>().ok().filter(|at| *at < MAX_STEP_INDEX);
        let at = at.ok_or_else(|| Unreadable(format!("orders: '{step}' is no step")))?;
        let earlier = match earlier {
            Json::Null => Vec::new(),
            Json::List(list) => list.iter().map(step_number).collect::<Result<_, _>>()?,
            other => return Err(wrong("orders", "lists of steps", other)),
        };
        if orders.len() <= at {
            orders.resize(at + 1, Vec::new());
        }
        orders[at] = earlier;
    }
    Ok(orders)
}

fn step_number(value: &Json<'_>) -> Result<u32, Unreadable> {
    let step = number(value).and_then(Number::as_u64).and_then(|step| u32::try_from(step).ok());
    step.ok_or_else(|| wrong("orders", "lists of steps", value))
}

/// How a workflow ended: what its submit brings in `req_extra`.
fn outcome(object: &Object<'_>) -> Result<Option<WorkflowOutcome>, Unreadable> {
    let extra = object.pairs("req_extra")?;
    if extra.is_empty() {
        return Ok(None);
    }
    let mut outcome = WorkflowOutcome::default();
    for (name, value) in extra {
        match name.as_str() {
            "status" => outcome.status = value,
            "rollback_reason" => outcome.rollback_reason = value,
            "result" => outcome.result = value,
            _ => {}
        }
    }
    Ok(Some(outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dtm::lenient::object;

    fn read(json: &str) -> Result<Body, Unreadable> {
        body(&object(json.as_bytes()).expect("an object"))
    }

    #[test]
    fn what_python_sends_is_read() {
        let body = read(
            r#"{"gid":"g","trans_type":"saga","custom_data":null,"query_prepared":null,"protocol":null,
               "steps":[{"action":"http://a","compensate":"http://c"}],"payloads":["{\"n\":1}"],
               "passthrough_headers":[],"branch_headers":{},"wait_result":true,"request_timeout":8,
               "timeout_to_fail":null,"retry_interval":null,"status":"succeed","owner":"x"}"#,
        )
        .unwrap();
        assert_eq!((body.gid.as_str(), body.trans_type.as_str()), ("g", "saga"));
        assert!(body.options.wait_result && !body.options.concurrent);
        assert_eq!(body.options.request_timeout_ms, 8000);
        assert_eq!(body.content.steps[0].compensate, "http://c");
        assert_eq!(body.content.payloads, ["{\"n\":1}"]);
    }

    #[test]
    fn payloads_of_old_clients_stand_in_the_steps() {
        let body = read(
            r#"{"trans_type":"saga","steps":[{"action":"a","data":"1"},{"action":"b","data":"2"}]}"#,
        );
        assert_eq!(body.unwrap().content.payloads, ["1", "2"]);
        let error = read(r#"{"trans_type":"msg","steps":[{"action":"a"}],"payloads":[]}"#);
        assert_eq!(error.unwrap_err().0, "1 steps have only 0 payloads");
        let more = read(r#"{"trans_type":"msg","steps":[{"action":"a"}],"payloads":["1","2"]}"#);
        assert_eq!(more.unwrap().content.payloads, ["1"]);
    }

    #[test]
    fn custom_data_is_read_by_kind() {
        let saga = read(
            r#"{"trans_type":"saga","custom_data":"{\"orders\":{\"2\":[0,1]},\"concurrent\":true,\"pass_results\":true}"}"#,
        )
        .unwrap();
        assert!(saga.options.concurrent && saga.options.pass_results);
        assert_eq!(saga.options.orders, [vec![], vec![], vec![0, 1]]);
        let message = read(r#"{"trans_type":"msg","custom_data":"{\"delay\":10}"}"#).unwrap();
        assert_eq!(message.options.delay_ms, 10_000);
        let flow =
            r#"{"trans_type":"workflow","custom_data":"{\"name\":\"w\",\"data\":\"aGk=\"}"}"#;
        let flow = read(flow).unwrap();
        assert_eq!((flow.content.name.as_str(), &flow.content.payloads[0][..]), ("w", &b"hi"[..]));
        let tcc = read(r#"{"trans_type":"tcc","custom_data":"anything"}"#).unwrap();
        assert_eq!(tcc.content.custom_data, "anything");
    }

    #[test]
    fn bad_input_is_said() {
        for json in [
            r#"{"trans_type":"saga","custom_data":"{\"orders\":{\"x\":[0]}}"}"#,
            r#"{"trans_type":"saga","custom_data":"{\"orders\":{\"99999999\":[0]}}"}"#,
            r#"{"trans_type":"saga","custom_data":"not json"}"#,
            r#"{"trans_type":"saga","steps":"x"}"#,
            r#"{"trans_type":"saga","steps":["x"]}"#,
            r#"{"trans_type":"tcc","protocol":"smtp"}"#,
            r#"{"trans_type":"tcc","gid":5}"#,
            r#"{"trans_type":"saga","branch_headers":{"a b":"x"}}"#,
            r#"{"trans_type":"saga","branch_headers":{"a":"x\ny"}}"#,
            r#"{"trans_type":"workflow","custom_data":"{\"data\":\"%%\"}"}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_workflow_says_how_it_ended() {
        let body = read(
            r#"{"trans_type":"workflow","req_extra":{"status":"failed","rollback_reason":"r"}}"#,
        );
        let outcome = body.unwrap().outcome.expect("an outcome");
        assert_eq!((outcome.status.as_str(), outcome.rollback_reason.as_str()), ("failed", "r"));
    }
}
