//! The coordinator as its clients see it: DTM's HTTP interface.
//!
//! Every request may be sent again if its answer was lost: preparing, registering and submitting twice is
//! the same as once. (That is Quorate's promise. DTM refuses a branch that is registered twice, and a
//! transaction of it that is submitted twice may skip its second phase: use [`Patience::NONE`] there.)

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::http::{Answer, Http, Patience};
use crate::options::Options;

/// How long a request may take if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Coordinator {
    base: String,
    http: Http,
    branches: Http,
    patience: Patience,
    branch_patience: Patience,
}

impl Coordinator {
    /// The coordinator at this base address, such as `http://127.0.0.1:36789/api/dtmsvr`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            http: Http::new(TIMEOUT),
            branches: Http::new(TIMEOUT),
            patience: Patience::NONE,
            branch_patience: Patience::NONE,
        }
    }

    /// With patience for a coordinator that is being restarted.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// With patience for branches that are being restarted. They must have a barrier: a call whose answer
    /// was lost reaches them twice.
    #[must_use]
    pub fn with_branch_patience(self, branch_patience: Patience) -> Self {
        Self { branch_patience, ..self }
    }

    /// With another limit for each request to the coordinator, and for each call that this program makes to
    /// a branch itself.
    #[must_use]
    pub fn with_timeouts(self, coordinator: Duration, branch: Duration) -> Self {
        Self { http: Http::new(coordinator), branches: Http::new(branch), ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// How requests to it are sent, for their figures.
    #[must_use]
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// How this program's own calls of branches are sent, for their figures.
    #[must_use]
    pub fn branches(&self) -> &Http {
        &self.branches
    }

    /// A name for a new transaction.
    ///
    /// # Errors
    /// As any request to the coordinator; no transaction exists yet.
    pub async fn new_gid(&self) -> Result<String, Error> {
        let answer = self.get("newGid").await?;
        let gid = answer.get("gid").and_then(Value::as_str).filter(|gid| !gid.is_empty());
        gid.map(str::to_owned).ok_or_else(|| self.unreadable("newGid", &answer))
    }

    /// A transaction with its branches, as JSON; `transaction` is null if there is none of this name.
    ///
    /// # Errors
    /// As any request to the coordinator.
    pub async fn query(&self, gid: &str) -> Result<Value, Error> {
        self.get(&format!("query?gid={}", escaped(gid))).await
    }

    /// Where a transaction stands: `prepared`, `submitted`, `aborting`, `succeed` or `failed`; `None` if there
    /// is none of this name.
    ///
    /// # Errors
    /// As any request to the coordinator.
    pub async fn status(&self, gid: &str) -> Result<Option<String>, Error> {
        let found = self.query(gid).await?;
        let status = found.get("transaction").and_then(|transaction| transaction.get("status"));
        Ok(status.and_then(Value::as_str).map(str::to_owned))
    }

    /// Any other GET below the base address. Only the status says whether it succeeded: what a transaction's
    /// reason holds is no answer to this request.
    ///
    /// # Errors
    /// `Unavailable`; `Failed` also for an answer that is not JSON.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        let url = format!("{}/{path}", self.base);
        let Answer { status, body } = self.http.get(&url, self.patience).await?;
        let message = || String::from_utf8_lossy(&body).into_owned();
        match (status, serde_json::from_slice(&body)) {
            (200, Ok(value)) => Ok(value),
            (503, _) => Err(Error::Unavailable { url, why: message() }),
            _ => Err(Error::Failed { url, status, message: message() }),
        }
    }

    /// Makes a transaction known: branches can be registered from now on.
    ///
    /// # Errors
    /// `Refused` if there is one of this name that is decided already.
    pub async fn prepare(&self, body: &Map<String, Value>) -> Result<(), Error> {
        self.post("prepare", body).await
    }

    /// Decides that a transaction is to be carried out.
    ///
    /// # Errors
    /// `Refused` if it has been decided otherwise, or, with `wait_result`, if it has not succeeded yet.
    pub async fn submit(&self, body: &Map<String, Value>) -> Result<(), Error> {
        self.post("submit", body).await
    }

    /// Decides that a transaction is not to be carried out.
    ///
    /// # Errors
    /// `Refused` if it has been decided otherwise.
    pub async fn abort(&self, body: &Map<String, Value>) -> Result<(), Error> {
        self.post("abort", body).await
    }

    /// Adds a branch to a prepared transaction.
    ///
    /// # Errors
    /// `Refused` if the transaction is not prepared (any more).
    pub async fn register_branch(&self, body: &Map<String, Value>) -> Result<(), Error> {
        self.post("registerBranch", body).await
    }

    async fn post(&self, path: &str, body: &Map<String, Value>) -> Result<(), Error> {
        let url = format!("{}/{path}", self.base);
        let json = Bytes::from(Value::Object(body.clone()).to_string());
        self.http.post(&url, json, self.patience).await?.result(&url).map(drop)
    }

    /// Calls a branch from this program: an empty body is a GET, as when the coordinator calls.
    pub(crate) async fn call_branch(&self, url: &str, body: &str) -> Result<Bytes, Error> {
        let patience = self.branch_patience;
        let answer = if body.is_empty() {
            self.branches.get(url, patience).await
        } else {
            self.branches.post(url, Bytes::from(body.to_owned()), patience).await
        };
        answer?.result(url)
    }

    fn unreadable(&self, path: &str, answer: &Value) -> Error {
        let url = format!("{}/{path}", self.base);
        Error::Failed { url, status: 200, message: answer.to_string() }
    }
}

/// The JSON that all requests about a transaction have in common.
pub(crate) fn body_of(gid: &str, kind: &str, options: &Options) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("gid".to_owned(), gid.into());
    body.insert("trans_type".to_owned(), kind.into());
    options.fill(&mut body);
    body
}

/// `text` as a value in a query string.
pub(crate) fn escaped(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

/// `url` with these parameters appended to those that it has.
pub(crate) fn with_query(url: &str, parameters: &[(&str, &str)]) -> String {
    let mut whole = url.to_owned();
    let mut separator = if url.contains('?') { '&' } else { '?' };
    for (name, value) in parameters {
        whole.push(separator);
        whole.push_str(name);
        whole.push('=');
        whole.push_str(&escaped(value).to_string());
        separator = '&';
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_appended_and_escaped() {
        let url = with_query("http://a/b?c=d", &[("gid", "x&y"), ("op", "try")]);
        assert_eq!(url, "http://a/b?c=d&gid=x%26y&op=try");
        assert_eq!(with_query("http://a/b", &[("op", "try")]), "http://a/b?op=try");
    }
}
