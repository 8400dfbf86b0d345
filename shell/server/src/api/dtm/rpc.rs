//! The same over JSON-RPC 2.0: one path, the method in the body.
//!
//! Every answer has the four keys `jsonrpc`, `id`, `error` and `result`, null where unused. The codes are
//! DTM's: -32700 for what is not JSON-RPC at all, -32600 for an empty id or another version, -32601 for an
//! unknown method, -32901 for a refusal, -32603 for everything else. Since that is little, `data` of an error says what HTTP
//! does: its status as `http`, and where the transaction stands as `status` and `state`, if that is known.

use http::StatusCode;
use quorate_global_txn::{Class, Refused};
use serde_json::{Value, json};

use super::answer::{Answer, Problem, state};
use super::json::{Json, Object};
use super::lenient::object;

const PARSE: i64 = -32_700;
const INVALID: i64 = -32_600;
const NO_METHOD: i64 = -32_601;
const INTERNAL: i64 = -32_603;
const FAILURE: i64 = -32_901;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call<'a> {
    pub(super) id: String,
    pub(super) method: Method,
    pub(super) params: Object<'a>,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    NewGid,
    Prepare,
    Submit,
    Abort,
    RegisterBranch,
}

/// An answer.
pub(super) type Reply = (StatusCode, Value);

/// Reads a request; what cannot be read has its answer at once.
pub(super) fn call(bytes: &[u8]) -> Result<Call<'_>, Reply> {
    let unparsed = |why: &str| (StatusCode::BAD_REQUEST, error(Value::Null, PARSE, why));
    let request = object(bytes).map_err(|unreadable| unparsed(&unreadable.0))?;
    let id = request.text("id").map_err(|unreadable| unparsed(&unreadable.0))?;
    let method = request.text("method").map_err(|unreadable| unparsed(&unreadable.0))?;
    let version = request.text("jsonrpc").map_err(|unreadable| unparsed(&unreadable.0))?;
    let refused = |code, why: &str| (StatusCode::OK, error(id.into(), code, why));
    if id.is_empty() || version != "2.0" {
        return Err(refused(INVALID, "id must not be empty, and jsonrpc must be 2.0"));
    }
    let method = match method {
        "newGid" => Method::NewGid,
        "prepare" => Method::Prepare,
        "submit" => Method::Submit,
        "abort" => Method::Abort,
        "registerBranch" => Method::RegisterBranch,
        other => return Err(refused(NO_METHOD, &format!("no method '{other}'"))),
    };
    let params = match request.field("params") {
        None => Object::default(),
        Some(Json::Object(params)) => params.clone(),
        Some(_) => return Err(refused(INTERNAL, "params must be an object")),
    };
    Ok(Call { id: id.to_owned(), method, params })
}

/// The answer to a call. Of a result only what newGid gives is told, as with DTM.
pub(super) fn reply(call: &Call<'_>, outcome: Result<Answer, Problem>) -> Reply {
    let id = || Value::from(call.id.as_str());
    let body = match outcome {
        Ok(Answer::Value(value)) if call.method == Method::NewGid => {
            let result = json!({ "gid": value.get("gid") });
            json!({ "jsonrpc": "2.0", "id": id(), "error": null, "result": result })
        }
        Ok(_) => json!({ "jsonrpc": "2.0", "id": id(), "error": null, "result": null }),
        Err(problem) => failed(id(), &problem),
    };
    (StatusCode::OK, body)
}

fn failed(id: Value, problem: &Problem) -> Value {
    let mut data = json!({ "http": problem.status().as_u16() });
    if let Problem::Refused(Refused { status: Some(stands), is_delayed, .. }) = problem {
        data["status"] = stands.name().into();
        data["state"] = state(*stands, *is_delayed).into();
    }
    let mut body = error(id, code(problem), &problem.message());
    body["error"]["data"] = data;
    body
}

fn code(problem: &Problem) -> i64 {
    match problem {
        Problem::Refused(Refused { class: Class::Failure, .. }) => FAILURE,
        _ => INTERNAL,
    }
}

fn error(id: Value, code: i64, message: &str) -> Value {
    let error = json!({ "code": code, "message": message });
    json!({ "jsonrpc": "2.0", "id": id, "error": error, "result": null })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(reply: &Reply) -> i64 {
        reply.1["error"]["code"].as_i64().expect("a code")
    }

    #[test]
    fn what_cannot_be_read_has_its_code() {
        for (bytes, code, status) in [
            ("{", PARSE, 400),
            (r#"{"jsonrpc":"2.0","id":1,"method":"newGid"}"#, PARSE, 400),
            (r#"{"jsonrpc":"2.0","id":"","method":"newGid"}"#, INVALID, 200),
            (r#"{"jsonrpc":"1.0","id":"1","method":"newGid"}"#, INVALID, 200),
            (r#"{"jsonrpc":"2.0","id":"1","method":"none"}"#, NO_METHOD, 200),
        ] {
            let reply = call(bytes.as_bytes()).unwrap_err();
            assert_eq!((code_of(&reply), reply.0.as_u16()), (code, status), "{bytes}");
            assert_eq!(reply.1.as_object().expect("an object").len(), 4);
        }
    }

    #[test]
    fn outcomes_have_their_codes() {
        let call = call(br#"{"jsonrpc":"2.0","id":"7","method":"submit","params":{"gid":"g"}}"#);
        let call = call.unwrap();
        assert_eq!((call.method, call.params.text("gid")), (Method::Submit, Ok("g")));
        let done = reply(&call, Ok(Answer::Success));
        assert_eq!(done.1, json!({ "jsonrpc": "2.0", "id": "7", "error": null, "result": null }));
        let refused = reply(&call, Err(Problem::Refused(Refused::failure("no"))));
        assert_eq!(code_of(&refused), FAILURE);
        let ongoing = reply(&call, Err(Problem::Refused(Refused::ongoing("wait"))));
        assert_eq!(code_of(&ongoing), INTERNAL);
        assert_eq!(ongoing.1["error"]["data"], json!({ "http": 425 }));
        let over = Refused::failure("late").at(quorate_global_txn::Status::Failed);
        let over = reply(&call, Err(Problem::Refused(over)));
        let stands = json!({ "http": 409, "status": "failed", "state": "rolled_back" });
        assert_eq!(over.1["error"]["data"], stands);
    }
}
