//! What a participant's answer is taken for.
//!
//! DTM's rules (the spec's 2.1 and 2.2) are lenient: a word anywhere in a body decides, so that an error
//! page with status 200 is a success. The strict mode reads the body as JSON and takes nothing for success that
//! does not look like one; every 2xx is as good as 200 there.

use quorate_outcall::{CallResult, Wire};

use crate::json;
use crate::record::{Answer, Class};

/// Bytes of a body that are kept as an answer's text.
const EXCERPT: usize = 256;

/// `None` is success.
pub(crate) fn classify(wire: Wire, strict: bool, result: &CallResult) -> Option<Answer> {
    match result {
        CallResult::Failed { why, .. } => answer(Class::Error, why.to_string()),
        CallResult::Answered { status, message, body, .. } => match (wire, strict) {
            (Wire::Grpc, _) => grpc(*status, message),
            (Wire::Http { .. }, true) => http_strict(*status, body),
            (Wire::Http { .. }, false) => http(*status, body),
        },
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every caller returns it")]
fn answer(class: Class, text: String) -> Option<Answer> {
    Some(Answer { class, text })
}

fn http(status: u16, body: &[u8]) -> Option<Answer> {
    if status == 425 || contains(body, b"ONGOING") {
        return answer(Class::Ongoing, excerpt(body));
    }
    if status == 409 || contains(body, b"FAILURE") {
        return answer(Class::Failure, excerpt(body));
    }
    match status {
        200 => json_rpc(body),
        _ => answer(Class::Error, format!("status {status}: {}", excerpt(body))),
    }
}

fn http_strict(status: u16, body: &[u8]) -> Option<Answer> {
    let result = json::field(body, "dtm_result").and_then(json::string);
    match (status, result) {
        (425, _) | (200..300, Some(b"ONGOING")) => answer(Class::Ongoing, excerpt(body)),
        (409, _) | (200..300, Some(b"FAILURE")) => answer(Class::Failure, excerpt(body)),
        (200..300, _) if body.trim_ascii().is_empty() => None,
        (200..300, _) if json::is_object(body) => json_rpc(body),
        (200..300, _) => answer(Class::Error, format!("not a JSON object: {}", excerpt(body))),
        _ => answer(Class::Error, format!("status {status}: {}", excerpt(body))),
    }
}

/// The error of a JSON-RPC answer. DTM compares its code with the wrong type, so that there none is ever
/// recognised; here they mean what they say.
fn json_rpc(body: &[u8]) -> Option<Answer> {
    json::field(body, "jsonrpc")?;
    let error = json::field(body, "error").filter(|error| *error != b"null")?;
    let class = match json::field(error, "code") {
        Some(b"-32901") => Class::Failure,
        Some(b"-32902") => Class::Ongoing,
        _ => Class::Error,
    };
    answer(class, excerpt(body))
}

const OK: u16 = 0;
const FAILED_PRECONDITION: u16 = 9;
const ABORTED: u16 = 10;

fn grpc(code: u16, message: &str) -> Option<Answer> {
    let class = match code {
        OK => return None,
        ABORTED if message == "ONGOING" => Class::Ongoing,
        ABORTED => Class::Failure,
        FAILED_PRECONDITION => Class::Ongoing,
        _ => Class::Error,
    };
    let text =
        if class == Class::Error { format!("code {code}: {message}") } else { message.to_owned() };
    answer(class, excerpt(text.as_bytes()))
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}

/// The head of a body, readable.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const POST: Wire = Wire::Http { method: quorate_outcall::Method::Post };

    fn class(wire: Wire, strict: bool, status: u16, text: &'static str) -> Option<Class> {
        let (message, body) = if wire == Wire::Grpc { (text, "") } else { ("", text) };
        let result = CallResult::Answered {
            status,
            message: message.to_owned(),
            body: body.as_bytes().into(),
            latency: Duration::ZERO,
            attempts: 1,
        };
        classify(wire, strict, &result).map(|answer| answer.class)
    }

    #[test]
    fn http_as_dtm_reads_it() {
        let cases = [
            (200, "", None),
            (200, "anything at all", None),
            (200, r#"{"dtm_result":"FAILURE"}"#, Some(Class::Failure)),
            (200, "it is ONGOING, no FAILURE", Some(Class::Ongoing)),
            (425, "", Some(Class::Ongoing)),
            (409, "", Some(Class::Failure)),
            (500, "FAILURE", Some(Class::Failure)),
            (201, "", Some(Class::Error)),
            (204, "", Some(Class::Error)),
            (500, "", Some(Class::Error)),
            (
                200,
                r#"{"jsonrpc":"2.0","error":{"code":-32901},"result":null}"#,
                Some(Class::Failure),
            ),
            (200, r#"{"jsonrpc":"2.0","error":{"code":-32902}}"#, Some(Class::Ongoing)),
            (200, r#"{"jsonrpc":"2.0","error":{"code":1}}"#, Some(Class::Error)),
            (200, r#"{"jsonrpc":"2.0","error":null}"#, None),
        ];
        for (status, body, expected) in cases {
            assert_eq!(class(POST, false, status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn http_strictly() {
        let cases = [
            (200, "", None),
            (204, "", None),
            (201, r#"{"id":1}"#, None),
            (200, r#"{"text":"no FAILURE here"}"#, None),
            (200, "<html>oops</html>", Some(Class::Error)),
            (200, r#"{"dtm_result":"FAILURE"}"#, Some(Class::Failure)),
            (200, r#"{"dtm_result":"ONGOING"}"#, Some(Class::Ongoing)),
            (500, "FAILURE", Some(Class::Error)),
            (302, "", Some(Class::Error)),
        ];
        for (status, body, expected) in cases {
            assert_eq!(class(POST, true, status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn grpc_codes() {
        let cases = [
            (0, "", None),
            (10, "out of stock", Some(Class::Failure)),
            (10, "ONGOING", Some(Class::Ongoing)),
            (9, "", Some(Class::Ongoing)),
            (2, "FAILURE", Some(Class::Error)),
        ];
        for (code, message, expected) in cases {
            assert_eq!(class(Wire::Grpc, false, code, message), expected, "{code} {message}");
        }
    }
}
