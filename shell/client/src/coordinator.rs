//! The coordinator as its clients see it: DTM's HTTP interface.
//!
//! Every request may be sent again if its answer was lost: preparing, registering and submitting twice is
//! the same as once. (That is Quorate's promise. DTM refuses a branch that is registered twice, and a
//! transaction of it that is submitted twice may skip its second phase: use [`Patience::NONE`] and a single
//! address there.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::error::Error;
use crate::http::{Answer, Http, Patience, is_answerless};
use crate::options::Options;

/// How long a request may take if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A coordinator: one server, or the members of a cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Coordinator {
    addresses: Addresses,
    http: Http,
    branches: Http,
    patience: Patience,
    branch_patience: Patience,
}

impl Coordinator {
    /// The coordinator at this base address, such as `http://127.0.0.1:36789/api/dtmsvr`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self::among(&[base])
    }

    /// The coordinator whose members have these base addresses, any of which may be asked. The first one is
    /// asked until it does not answer, then the next one, until that does not answer; clones go on together.
    /// Each is asked at least once before a request is given up.
    ///
    /// # Panics
    /// Without any address.
    #[must_use]
    pub fn among(bases: &[impl AsRef<str>]) -> Self {
        assert!(!bases.is_empty(), "a coordinator has an address");
        Self {
            addresses: Addresses::new(bases),
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

    /// Where it is; of several addresses the one that is asked next.
    #[must_use]
    pub fn base(&self) -> &str {
        self.addresses.base(self.addresses.current())
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
        let (url, Answer { status, body }) = self.ask(path, None).await?;
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

    /// [`Self::abort`] with a reason for whoever looks at the transaction later.
    pub(crate) async fn abort_for(
        &self,
        reason: &str,
        body: &Map<String, Value>,
    ) -> Result<(), Error> {
        let mut body = body.clone();
        body.insert("rollback_reason".to_owned(), reason.into());
        self.abort(&body).await
    }

    /// Adds a branch to a prepared transaction.
    ///
    /// # Errors
    /// `Refused` if the transaction is not prepared (any more).
    pub async fn register_branch(&self, body: &Map<String, Value>) -> Result<(), Error> {
        self.post("registerBranch", body).await
    }

    /// A POST with an answer of its own. As in [`Self::get`] only the status counts: what was recorded may hold
    /// any word.
    pub(crate) async fn post_for(
        &self,
        path: &str,
        body: &Map<String, Value>,
    ) -> Result<Value, Error> {
        let json = Bytes::from(Value::Object(body.clone()).to_string());
        let (url, Answer { status, body }) = self.ask(path, Some(json)).await?;
        let message = || String::from_utf8_lossy(&body).into_owned();
        match (status, serde_json::from_slice(&body)) {
            (200, Ok(value)) => Ok(value),
            (409, _) => Err(Error::Refused(message())),
            (503, _) => Err(Error::Unavailable { url, why: message() }),
            _ => Err(Error::Failed { url, status, message: message() }),
        }
    }

    async fn post(&self, path: &str, body: &Map<String, Value>) -> Result<(), Error> {
        let json = Bytes::from(Value::Object(body.clone()).to_string());
        let (url, answer) = self.ask(path, Some(json)).await?;
        answer.result(&url).map(drop)
    }

    /// Asks one address after the other, with a pause whenever all have been asked; gives who answered, too.
    async fn ask(&self, path: &str, json: Option<Bytes>) -> Result<(String, Answer), Error> {
        let deadline = Instant::now() + self.patience.total;
        let mut asked = 0;
        loop {
            let at = self.addresses.current();
            let url = format!("{}/{path}", self.addresses.base(at));
            let result = match &json {
                Some(json) => self.http.post(&url, json.clone(), Patience::NONE).await,
                None => self.http.get(&url, Patience::NONE).await,
            };
            if !is_answerless(&result) {
                return result.map(|answer| (url, answer));
            }
            self.addresses.leave(at);
            asked += 1;
            if asked % self.addresses.len() == 0 {
                if Instant::now() + self.patience.pause >= deadline {
                    return result.map(|answer| (url, answer));
                }
                tokio::time::sleep(self.patience.pause).await;
            }
            self.http.count_repeated();
        }
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

    /// Calls a branch by POST, whatever its body.
    pub(crate) async fn post_branch(&self, url: &str, body: &str) -> Result<Bytes, Error> {
        let body = Bytes::from(body.to_owned());
        self.branches.post(url, body, self.branch_patience).await?.result(url)
    }

    pub(crate) fn unreadable(&self, path: &str, answer: &Value) -> Error {
        let url = format!("{}/{path}", self.base());
        Error::Failed { url, status: 200, message: answer.to_string() }
    }
}

/// Base addresses, and which of them is asked.
#[derive(Clone, Debug)]
struct Addresses {
    bases: Arc<[String]>,
    current: Arc<AtomicUsize>,
}

impl Addresses {
    fn new(bases: &[impl AsRef<str>]) -> Self {
        let base = |base: &str| base.trim_end_matches('/').to_owned();
        let bases = bases.iter().map(|given| base(given.as_ref()));
        Self { bases: bases.collect(), current: Arc::default() }
    }

    fn len(&self) -> usize {
        self.bases.len()
    }

    fn base(&self, at: usize) -> &str {
        &self.bases[at]
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The one at `at` does not answer. Nothing changes if somebody else has found that out already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.len();
        let _moved_on =
            self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
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

    async fn nobody() -> String {
        let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        format!("http://{}", free.local_addr().expect("bound"))
    }

    /// Answers each request on a connection of its own.
    async fn somebody() -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let base = format!("http://{}/", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _request = stream.read(&mut [0; 4096]).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"gid\":\"g\"}";
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        base
    }

    #[tokio::test]
    async fn the_next_address_is_asked_and_kept() {
        let bases = [nobody().await, nobody().await, somebody().await];
        let coordinator = Coordinator::among(&bases);
        let clone = coordinator.clone();
        assert_eq!(coordinator.new_gid().await.expect("the third answers"), "g");
        assert_eq!((coordinator.http().attempts(), coordinator.http().repeated()), (3, 2));
        assert_eq!(clone.base(), bases[2].trim_end_matches('/'));
        assert_eq!(clone.new_gid().await.expect("asked at once"), "g");
        assert_eq!(clone.http().attempts(), 4);
    }

    #[tokio::test]
    async fn each_address_is_asked_once_without_patience() {
        let coordinator = Coordinator::among(&[nobody().await, nobody().await]);
        let result = coordinator.new_gid().await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
        assert_eq!(coordinator.http().attempts(), 2);
    }

    #[test]
    fn parameters_are_appended_and_escaped() {
        let url = with_query("http://a/b?c=d", &[("gid", "x&y"), ("op", "try")]);
        assert_eq!(url, "http://a/b?c=d&gid=x%26y&op=try");
        assert_eq!(with_query("http://a/b", &[("op", "try")]), "http://a/b?op=try");
    }
}
