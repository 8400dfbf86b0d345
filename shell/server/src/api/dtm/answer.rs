//! Outcomes as HTTP: DTM's table of statuses and bodies, in one place.
//!
//! | outcome | status | body |
//! |---|---|---|
//! | done, without a value | 200 | `{"dtm_result":"SUCCESS"}` |
//! | a value | 200 | the value |
//! | failure | 409 | `{"dtm_result":"FAILURE","message":".. FAILURE"}` |
//! | ongoing | 425 | `{"dtm_result":"ONGOING","message":".."}` |
//! | any other error | 500 | `{"message":".."}` |
//! | nobody can answer, or the outcome is unknown | 503 | `{"message":".."}` |
//! | the store is full | 507 | `{"message":".."}` |
//! | the body is too large, or too slow | 413, 408 | `{"message":".."}` |
//!
//! DTM says 500 where we say 503; its clients take every status but 200, 409 and 425 for an error, and ours
//! may ask again after a 503. Where it is known, `status` tells where the transaction stands, which DTM's 409
//! leaves open: refused because it was rolled back, or because it still goes on.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use quorate_global_txn::{Class, Refused, Status};
use quorate_node::Failure;
use serde_json::{Map, Value};

use super::lenient::Unreadable;
use crate::grpc::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What is told when all went well.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Nothing but that it is done.
    Success,
    Value(Value),
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

const SUCCESS: &str = r#"{"dtm_result":"SUCCESS"}"#;

/// What is told when it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The machine refused.
    Refused(Refused),
    /// The request cannot be understood.
    Unreadable(Unreadable),
    /// The body is longer than this, in bytes.
    TooLarge(usize),
    /// The body did not come within this time.
    TooSlow(Duration),
    /// No such route.
    NotFound,
    /// The node could not carry it out.
    Node(Failure),
}

impl From<Unreadable> for Problem {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Node(failure)
    }
}

impl Problem {
    /// How it is told.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(
                Refused { is_unknown: true, .. } | Refused { is_transient: true, .. },
            )
            | Self::Node(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(Refused { is_full: true, .. }) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Refused(refused) => match refused.class {
                Class::Failure => StatusCode::CONFLICT,
                Class::Ongoing => StatusCode::TOO_EARLY,
                Class::Error => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }

    /// In words.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Refused(refused) => refused.text.clone(),
            Self::Unreadable(unreadable) => unreadable.0.clone(),
            Self::TooLarge(most) => format!("the body is longer than {most} bytes"),
            Self::TooSlow(within) => {
                format!("the body did not come within {within:?}; nothing was done")
            }
            Self::NotFound => "404 page not found".to_owned(),
            Self::Node(failure) => failure.to_string(),
        }
    }

    fn body(&self) -> Value {
        let mut body = Map::new();
        if let Self::Refused(refused) = self {
            match refused.class {
                Class::Failure => body.insert("dtm_result".to_owned(), "FAILURE".into()),
                Class::Ongoing => body.insert("dtm_result".to_owned(), "ONGOING".into()),
                Class::Error => None,
            };
            if let Some(status) = refused.status {
                body.insert("status".to_owned(), status.name().into());
                body.insert("state".to_owned(), state(status, refused.is_delayed).into());
            }
        }
        body.insert("message".to_owned(), self.message().into());
        Value::Object(body)
    }
}

/// Where a transaction stands, in a word that says what to make of a refusal: whether it is over, or goes on.
pub(super) fn state(status: Status, is_delayed: bool) -> &'static str {
    match status {
        Status::Prepared => "undecided",
        Status::Submitted if is_delayed => "delayed",
        Status::Submitted => "running",
        Status::Aborting => "rolling_back",
        Status::Succeed => "succeeded",
        Status::Failed => "rolled_back",
    }
}

/// The response.
pub(super) fn response(outcome: Result<Answer, Problem>) -> Response<Body> {
    match outcome {
        Ok(Answer::Success) => with_json(StatusCode::OK, Body::plain(SUCCESS)),
        Ok(Answer::Value(value)) => json_response(StatusCode::OK, &value),
        Err(Problem::NotFound) => {
            let mut response = Response::new(Body::plain(Problem::NotFound.message()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            let text = HeaderValue::from_static("text/plain");
            response.headers_mut().insert(header::CONTENT_TYPE, text);
            response
        }
        Err(problem) => json_response(problem.status(), &problem.body()),
    }
}

/// JSON with this status.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    with_json(status, Body::plain(value.to_string()))
}

fn with_json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_have_their_status_and_words() {
        let failure = Problem::Refused(Refused::failure("no"));
        assert_eq!(failure.status(), 409);
        assert_eq!(failure.body(), json!({ "dtm_result": "FAILURE", "message": "no FAILURE" }));
        let ongoing = Problem::Refused(Refused::ongoing("wait"));
        assert_eq!(
            (ongoing.status().as_u16(), ongoing.body()["dtm_result"].as_str()),
            (425, Some("ONGOING"))
        );
        let error = Problem::Refused(Refused::error("what"));
        assert_eq!((error.status().as_u16(), error.body()), (500, json!({ "message": "what" })));
        let unknown = Refused { is_unknown: true, ..Refused::error("perhaps") };
        assert_eq!(Problem::Refused(unknown).status(), 503);
        assert_eq!(Problem::Refused(Refused::transient("later")).status(), 503);
        let full = Refused { is_full: true, ..Refused::error("full") };
        assert_eq!(Problem::Refused(full).status(), 507);
    }

    #[test]
    fn a_refusal_says_whether_it_is_over() {
        for (status, is_delayed, state) in [
            (Status::Failed, false, "rolled_back"),
            (Status::Aborting, false, "rolling_back"),
            (Status::Submitted, false, "running"),
            (Status::Submitted, true, "delayed"),
        ] {
            let refused = Refused { is_delayed, ..Refused::failure("") }.at(status);
            let body = Problem::Refused(refused).body();
            assert_eq!((&body["status"], &body["state"]), (&json!(status.name()), &json!(state)));
        }
    }
}
