//! A branch's side of the wire: which step a request is, and what its answer means.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::coordinator::Coordinator;
use crate::error::Error;

/// Which step of which global transaction a request carries out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BranchCall {
    /// The global transaction.
    pub gid: String,
    /// Its kind: `tcc`, `saga`, `msg`, `xa`, `workflow`.
    pub trans_type: String,
    /// The branch.
    pub branch_id: String,
    /// The operation: `try`, `confirm`, `cancel`, `action`, `compensate`, ...
    pub op: String,
    /// The base address of the coordinator, if the program that started the transaction made the call (`try`); empty if the
    /// coordinator did. For branches that have branches themselves.
    pub dtm: String,
}

impl BranchCall {
    /// Reads the parameters that the coordinator, or the program that started the transaction, appends to a
    /// branch's address.
    ///
    /// # Errors
    /// `Malformed` if one of them is missing or empty.
    pub fn from_query(query: &str) -> Result<Self, Error> {
        let value = |wanted: &str| {
            let value = parameter(query, wanted);
            if value.is_empty() {
                return Err(Error::Malformed(format!("a call of a branch must carry '{wanted}'")));
            }
            Ok(value)
        };
        Ok(Self {
            gid: value("gid")?,
            trans_type: value("trans_type")?,
            branch_id: value("branch_id")?,
            op: value("op")?,
            dtm: parameter(query, "dtm"),
        })
    }

    /// The coordinator that the caller used, to begin nested branches with. It has connections of its own: keep it
    /// where there are many calls, or use one that this service was configured with.
    ///
    /// # Errors
    /// `Malformed` if the call does not name one.
    pub fn coordinator(&self) -> Result<Coordinator, Error> {
        if self.dtm.is_empty() {
            return Err(Error::Malformed("the call does not carry 'dtm'".to_owned()));
        }
        Ok(Coordinator::new(&self.dtm))
    }

    /// The operation that this one undoes, if it undoes one.
    #[must_use]
    pub fn undoes(&self) -> Option<&'static str> {
        match self.op.as_str() {
            "cancel" => Some("try"),
            "compensate" | "rollback" => Some("action"),
            _ => None,
        }
    }
}

/// A parameter of a query string; empty if there is none.
pub(crate) fn parameter(query: &str, wanted: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(name, _)| *name == wanted);
    let value = found.next().map(|(_, value)| value.replace('+', " ")).unwrap_or_default();
    percent_decode_str(&value).decode_utf8_lossy().into_owned()
}

impl<S: Sync> FromRequestParts<S> for BranchCall {
    type Rejection = BranchError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, BranchError> {
        Self::from_query(parts.uri.query().unwrap_or_default()).map_err(BranchError::from)
    }
}

/// The step has been carried out, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done;

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        answer(StatusCode::OK, "{\"dtm_result\":\"SUCCESS\"}".to_owned())
    }
}

/// The step has not been carried out.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// And never will be: the global transaction must be rolled back. Not for confirm, cancel and
    /// compensate, which must succeed in the end.
    #[error("{0}")]
    Failure(String),
    /// It is under way: ask again after the usual interval.
    #[error("{0}")]
    Ongoing(String),
    /// It may work next time.
    #[error(transparent)]
    Error(#[from] Error),
}

impl From<sqlx::Error> for BranchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Error(Error::Database(error))
    }
}

impl IntoResponse for BranchError {
    fn into_response(self) -> Response {
        match self {
            Self::Failure(why) => {
                let body = json!({ "dtm_result": "FAILURE", "message": why });
                answer(StatusCode::CONFLICT, body.to_string())
            }
            Self::Ongoing(why) => {
                let body = json!({ "dtm_result": "ONGOING", "message": why });
                answer(StatusCode::TOO_EARLY, body.to_string())
            }
            Self::Error(error) => {
                // Callers look for these words in any answer.
                let text = error.to_string().replace("FAILURE", "Failure");
                let body = json!({ "message": text.replace("ONGOING", "Ongoing") });
                let status = match error {
                    Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                answer(status, body.to_string())
            }
        }
    }
}

fn answer(status: StatusCode, body: String) -> Response {
    let mut response = body.into_response();
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_from_the_query() {
        let call =
            BranchCall::from_query("x=1&gid=a%26b&trans_type=tcc&branch_id=01&op=cancel").unwrap();
        assert_eq!((call.gid.as_str(), call.branch_id.as_str()), ("a&b", "01"));
        assert_eq!(call.undoes(), Some("try"));
        for query in ["", "gid=a&trans_type=tcc&branch_id=01", "gid=&trans_type=t&branch_id=1&op=o"]
        {
            assert!(BranchCall::from_query(query).is_err(), "{query}");
        }
    }

    #[test]
    fn an_error_does_not_look_like_a_refusal() {
        let error = Error::Malformed("FAILURE to read, ONGOING".to_owned());
        let response = BranchError::from(error).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let refused = BranchError::Failure("out of stock".to_owned()).into_response();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
    }
}
