//! Everything that is not an answer: one shape, `{"error":{"code","message"}}`, and one table of statuses.

use http::{HeaderValue, Response, StatusCode, header};
use quorate_global_txn::{Class, Refused};
use quorate_node::Failure;
use serde::Serialize;

use super::types::{Code, Failed, Reason};
use crate::grpc::Body;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    code: Code,
    message: String,
    /// Of `MethodNotAllowed`: what is.
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), allow: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(super) fn no_txn(gid: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no transaction '{gid}'"))
    }

    pub(super) fn only(method: &'static str) -> Self {
        let message = format!("this route takes {method} only");
        Self { allow: Some(method), ..Self::new(Code::MethodNotAllowed, message) }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    fn status(&self) -> StatusCode {
        match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Code::Conflict => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unavailable | Code::UnknownOutcome => StatusCode::SERVICE_UNAVAILABLE,
            Code::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    pub(super) fn response(self) -> Response<Body> {
        let (status, allow) = (self.status(), self.allow);
        let error = Reason { code: self.code, message: self.message };
        let mut response = json(status, &Failed { error });
        if let Some(method) = allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
        }
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = if failure.outcome_unknown() { Code::UnknownOutcome } else { Code::Unavailable };
        Self::new(code, failure.to_string())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused.class {
            _ if refused.is_unknown => Code::UnknownOutcome,
            _ if refused.is_transient => Code::Unavailable,
            _ if refused.is_full => Code::NoSpace,
            Class::Failure | Class::Ongoing => Code::Conflict,
            Class::Error => Code::BadRequest,
        };
        // DTM's clients look for the sentinel at the end; people need not see it.
        let text = refused.text.trim_end_matches(" FAILURE").trim_end_matches(" ONGOING");
        Self::new(code, text)
    }
}

/// A response of JSON that no browser takes for something else, and no cache keeps.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(value).expect("all keys are strings");
    let mut response = Response::new(Body::plain(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_codes() {
        let code = |refused: Refused| Problem::from(refused).code;
        assert_eq!(code(Refused::failure("no")), Code::Conflict);
        assert_eq!(code(Refused::error("what")), Code::BadRequest);
        assert_eq!(code(Refused::transient("later")), Code::Unavailable);
        assert_eq!(code(Refused { is_full: true, ..Refused::error("full") }), Code::NoSpace);
        let unknown = Refused { is_unknown: true, ..Refused::error("perhaps") };
        assert_eq!(code(unknown), Code::UnknownOutcome);
        assert_eq!(Problem::from(Refused::failure("no")).message, "no");
        assert_eq!(Problem::from(Failure::NoLeader).code, Code::Unavailable);
        assert_eq!(Problem::from(Failure::Timeout).code, Code::UnknownOutcome);
    }

    #[test]
    fn one_shape() {
        let response = Problem::only("GET").response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"GET".parse().unwrap())
        );
        let failed = Failed { error: Reason { code: Code::BadRequest, message: "m".to_owned() } };
        let text = serde_json::to_string(&failed).unwrap();
        assert_eq!(text, r#"{"error":{"code":"bad_request","message":"m"}}"#);
    }
}
